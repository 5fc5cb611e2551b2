//! What a status that is not the wanted one means.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use ureq::http::header;

use super::error::Problem;
use super::wire::Answer;

/// Who was asked, for what, with which credentials.
pub(super) struct Asked<'a> {
    /// As the user calls it.
    pub(super) host: &'a str,
    /// `image` or `blob`.
    pub(super) what: &'static str,
    /// Where the credentials came from that were sent.
    pub(super) tried: Vec<String>,
    /// Whether the answer is the registry's own, or that of a host it sent us to.
    pub(super) speaker: Speaker,
    /// For the explanation.
    pub(super) time: Duration,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    Registry,
    Elsewhere,
}

/// The problem that an answer is.
pub(super) fn problem(answer: Answer, asked: Asked<'_>) -> Problem {
    let status = answer.status.as_u16();
    let after = { answer.header(header::RETRY_AFTER) }.and_then(|value| retry_after(value, Timestamp::now()));
    let own = asked.speaker == Speaker::Registry;
    let host = if own { asked.host.to_owned() } else { answer.host() };
    let said = answer.complaint(asked.time);
    let Asked { what, tried, .. } = asked;
    match status {
        401 if own => Problem::Unauthorized { host, tried, said },
        403 if own => Problem::Denied { host, tried, said },
        404 if own => Problem::NotFound { host, what, tried, said },
        429 => Problem::TooManyRequests { host, after, said },
        408 | 500..=599 => Problem::Server { host, status, after, said },
        _ => Problem::Status { host, status, said },
    }
}

/// Seconds, or a date. Spec: RFC 9110, 10.2.3.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, wanted) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(retry_after(value, now), wanted.map(Duration::from_secs), "{value}");
        }
    }
}
