//! Names of signals, as people and images write them.

use rustix::process::Signal;

/// `TERM`, `SIGTERM`, `sigterm`, `15`.
#[must_use]
pub fn parse(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::from_named_raw(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let signal: nix::sys::signal::Signal = name.parse().ok()?;
    Signal::from_named_raw(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse(text), Some(Signal::TERM), "{text}");
        }
        assert_eq!(parse("SIGQUIT"), Some(Signal::QUIT));
        for text in ["", "SIG", "NOPE", "0", "-1", "4000"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
