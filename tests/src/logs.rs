//! The CRI log format, read by a parser of our own (kubelet: `time stream tag message`).

use std::fs;
use std::path::Path;

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriLine {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// `F` for the end of a line, `P` for a part of one.
    pub tag: String,
    /// What the container wrote, without the line's end.
    pub message: String,
}

/// The lines of one log file.
///
/// # Panics
/// When it cannot be read or a line is not of the format.
#[must_use]
pub fn cri_lines(path: &Path) -> Vec<CriLine> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("not a CRI log line: {line:?}"))).collect()
}

fn parse(line: &str) -> Option<CriLine> {
    let mut words = line.splitn(4, ' ').map(ToOwned::to_owned);
    let line = CriLine { time: words.next()?, stream: words.next()?, tag: words.next()?, message: words.next()? };
    let zone = line.time.ends_with('Z') || line.time.contains('+');
    let nanoseconds = line.time.split(['.', 'Z', '+']).nth(1).is_some_and(|n| n.len() == 9);
    let valid = line.time.contains('T') && zone && nanoseconds && matches!(&*line.stream, "stdout" | "stderr") && matches!(&*line.tag, "F" | "P");
    valid.then_some(line)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn takes_what_kubelet_takes_and_nothing_else() {
        let line = parse("2026-08-21T10:11:12.123456789Z stderr P a b").expect("a line");
        assert_eq!((&*line.stream, &*line.tag, &*line.message), ("stderr", "P", "a b"));
        for bad in ["", "2026-08-21T10:11:12.1Z stdout F x", "2026-08-21T10:11:12.123456789Z stdin F x", "2026-08-21T10:11:12.123456789Z stdout x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
