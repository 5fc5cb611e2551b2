//! Kubernetes' quantities: `500m`, `128Mi`, `1.5`, `1e3`, `2G`.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`.

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form number + suffix.
    #[error("{0:?} is no quantity: write a number with an optional suffix m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or exponent e3")]
    Form(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than 2^63 - 1.
    #[error("{0:?} is larger than a quantity can be (2^63 - 1)")]
    Range(String),
}

/// A quantity in whole units (bytes), rounded up.
///
/// # Errors
/// [`QuantityError`] when the text is no quantity, is negative or does not fit.
pub fn units(text: &str) -> Result<u64, QuantityError> {
    scaled(text, 0)
}

/// A quantity in thousandths (of a CPU), rounded up.
///
/// # Errors
/// As [`units`].
pub fn milli(text: &str) -> Result<u64, QuantityError> {
    scaled(text, 3)
}

/// The quantity times 10^`decimals`, rounded up.
fn scaled(text: &str, decimals: i32) -> Result<u64, QuantityError> {
    let form = || QuantityError::Form(super::tree::shortened(text));
    let range = || QuantityError::Range(super::tree::shortened(text));
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(form());
    }
    let (binary, decimal) = suffix_scale(suffix).ok_or_else(form)?;
    if number.bytes().all(|digit| matches!(digit, b'0' | b'.')) {
        return Ok(0);
    }
    if negative {
        return Err(QuantityError::Negative(super::tree::shortened(text)));
    }
    let nano = nano(whole, fraction).ok_or_else(range)?;
    let value = nano.checked_mul(1 << binary).and_then(|nano| shifted(nano, decimal + decimals - 9)).ok_or_else(range)?;
    u64::try_from(value).ok().filter(|value| i64::try_from(*value).is_ok()).ok_or_else(range)
}

/// A number in thousand-millionths, which is as exact as Kubernetes is; rounded up.
fn nano(whole: &str, fraction: &str) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (kept, rest) = fraction.split_at(fraction.len().min(9));
    let kept: u128 = format!("{kept:0<9}").parse().ok()?;
    let more = rest.bytes().any(|digit| digit != b'0');
    whole.checked_mul(1_000_000_000)?.checked_add(kept)?.checked_add(u128::from(more))
}

/// `value * 10^exponent`, rounded up; `None` when it does not fit.
fn shifted(value: u128, exponent: i32) -> Option<u128> {
    match 10u128.checked_pow(exponent.unsigned_abs()) {
        Some(factor) if exponent >= 0 => value.checked_mul(factor),
        Some(factor) => Some(value.div_ceil(factor)),
        None if exponent >= 0 => None,
        None => Some(1),
    }
}

/// A suffix as powers of two and of ten.
fn suffix_scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
            (0, exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() <= 100)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        for (text, expected) in [
            ("0", 0),
            ("128Mi", 128 << 20),
            ("1.5Gi", 3 << 29),
            ("64M", 64_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("2E", 2_000_000_000_000_000_000),
            ("1k", 1000),
            ("+5", 5),
            (".5Ki", 512),
            ("5.", 5),
            ("100m", 1),
            ("1500m", 2),
            ("7Ei", 7 << 60),
            ("-0", 0),
            ("0.0000000001", 1),
        ] {
            assert_eq!(units(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn cpus_are_rounded_up_to_a_thousandth() {
        for (text, expected) in [("1", 1000), ("500m", 500), ("0.1", 100), ("0.0001", 1), ("100u", 1), ("2.5", 2500)] {
            assert_eq!(milli(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", ".", "abc", "1.2.3", "1 Gi", "1Kib", "1ki", "1mi", "0x10", "1e", "1e1000", "--1", "٣"] {
            assert!(matches!(units(text), Err(QuantityError::Form(_))), "{text}: {:?}", units(text));
        }
        assert!(matches!(units("-1"), Err(QuantityError::Negative(_))));
        for text in ["8Ei", "16Ei", "1e19", "99999999999999999999999999999999999999999", "1e100"] {
            assert!(matches!(units(text), Err(QuantityError::Range(_))), "{text}: {:?}", units(text));
        }
    }
}
