//! Names: what Kubernetes allows (RFC 1123), and what would break on the way to a directory or a log file.

use super::report::Report;

/// What a name must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lower-case letters, digits and `-`; at most 63.
    Label,
    /// Labels joined by dots; at most 253.
    Subdomain,
}

/// True for a DNS label of RFC 1123.
pub(super) fn is_label(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

/// True for a DNS subdomain of RFC 1123.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Checks a name. What Kubernetes would refuse but works here is a warning (`--strict`: an error).
pub(super) fn check(name: &str, form: Form, path: &str, report: &mut Report<'_>) {
    let (fits, longest, words) = match form {
        Form::Label => (is_label(name), 63, "a DNS label (lower-case letters, digits and '-', at most 63)"),
        Form::Subdomain => (is_subdomain(name), 253, "a DNS name (lower-case letters, digits, '-' and '.', at most 253)"),
    };
    if name.is_empty() {
        report.error(path, "missing");
    } else if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        report.error(path, format!("{:?} must not hold {bad:?}: it has to be {words}", super::tree::shortened(name)));
    } else if name.len() > longest {
        report.error(path, format!("a name of {} characters is too long: it has to be {words}", name.len()));
    } else if name.starts_with(['-', '.']) {
        report.error(path, format!("{name:?} must not start with {:?}: it has to be {words}", &name[..1]));
    } else if !fits {
        report.lint(path, format!("{name:?} is not {words}; Kubernetes would refuse it"));
    }
}

/// Checks labels: Kubernetes refuses what is neither short nor made of name characters.
pub(super) fn check_label(key: &str, value: &str, path: &str, report: &mut Report<'_>) {
    let word = |text: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.len() <= 63
            && edge(text.chars().next())
            && edge(text.chars().next_back())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if !word(name) || prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        report.lint(path, "not a label key ([prefix/]name); Kubernetes would refuse it");
    }
    if !value.is_empty() && !word(value) {
        report.lint(path, format!("{:?} is not a label value (at most 63 letters, digits, '-', '_', '.'); Kubernetes would refuse it", super::tree::shortened(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        for good in ["a", "web-1", "0", &"a".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        assert!(is_subdomain("a.b-c.d1"));
        for bad in ["", "a..b", ".a", "a.", "a.B"] {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }
}
