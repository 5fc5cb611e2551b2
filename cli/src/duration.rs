//! Durations and ages, as people write and read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Reads `30s`, `2m`, `1h30m`, `500ms`; a bare number is seconds.
///
/// # Errors
/// What is wrong, for clap to show.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    seconds.map_or_else(|| parse_units(text), Ok)
}

fn parse_units(text: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is no duration such as 30s, 2m or 1h30m");
    let parsed: SignedDuration = text.parse().map_err(|_| hint())?;
    Duration::try_from(parsed).map_err(|_| hint())
}

/// Reads `--since`: a duration back from now, or a time (RFC 3339).
///
/// # Errors
/// What is wrong, for clap to show.
pub(crate) fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let back = parse(text).map_err(|e| format!("{e}, nor a time such as 2026-01-31T12:00:00Z"))?;
    let back = SignedDuration::try_from(back).map_err(|e| e.to_string())?;
    Timestamp::now().checked_sub(back).map_err(|e| e.to_string())
}

/// An age as kubectl shows it: two units at most, coarser with time (apimachinery `duration.HumanDuration`).
pub(crate) fn human(age: SignedDuration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [("30s", 30_000), ("2m", 120_000), ("1h30m", 5_400_000), ("500ms", 500), ("7", 7_000), ("0", 0), ("1.5s", 1_500)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "-5s", "abc", "5 parsecs", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_a_time_or_a_way_back() {
        assert_eq!(parse_since("2026-01-31T12:00:00Z").unwrap().to_string(), "2026-01-31T12:00:00Z");
        let back = parse_since("90s").unwrap();
        let age = Timestamp::now().duration_since(back);
        assert!((90..100).contains(&age.as_secs()), "{age:?}");
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        let cases = [
            (-5, "0s"), (0, "0s"), (1, "1s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"), (600, "10m"),
            (7200, "120m"), (10_800, "3h"), (10_860, "3h1m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"),
            (180_000, "2d2h"), (691_200, "8d"), (63_072_000, "2y"), (63_158_400, "2y1d"), (315_360_000, "10y"),
        ];
        for (seconds, shown) in cases {
            assert_eq!(human(SignedDuration::from_secs(seconds)), shown, "{seconds} s");
        }
    }
}
