//! Shell patterns (POSIX 2.13): `*`, `?`, `[...]` and a backslash before what is meant as it stands.

use std::fs;

/// Whether all of `text` matches `pattern`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    matches_chars(&pattern, &text)
}

fn matches_chars(pattern: &[char], text: &[char]) -> bool {
    // Where to go on after the last `*` when what follows it does not match.
    let (mut p, mut t, mut retry) = (0, 0, None);
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len()
            && let Some(width) = matches_one(&pattern[p..], text[t])
        {
            p += width;
            t += 1;
            continue;
        }
        match retry {
            Some((after, from)) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether the first element of `pattern` matches `c`: how long that element is.
fn matches_one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '\\' if pattern.len() > 1 => (pattern[1] == c).then_some(2),
        '[' => match bracket(pattern, c) {
            Some((width, true)) => Some(width),
            Some((_, false)) => None,
            None => (c == '[').then_some(1),
        },
        literal => (literal == c).then_some(1),
    }
}

/// The bracket expression at the start of `pattern`: its length and whether `c` is in it; `None` when it has no end.
fn bracket(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    at += usize::from(negated);
    let (first, mut found) = (at, false);
    loop {
        let mut low = *pattern.get(at)?;
        if low == ']' && at > first {
            return Some((at + 1, found != negated));
        }
        if low == '['
            && pattern.get(at + 1) == Some(&':')
            && let Some(length) = pattern[at + 2..].windows(2).position(|end| end == [':', ']'])
        {
            let class: String = pattern[at + 2..at + 2 + length].iter().collect();
            found |= in_class(&class, c);
            at += length + 4;
            continue;
        }
        if low == '\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&'-') && pattern.get(at + 1).is_some_and(|end| *end != ']') {
            at += 1;
            if pattern[at] == '\\' {
                at += 1;
            }
            high = *pattern.get(at)?;
            at += 1;
        }
        found |= (low..=high).contains(&c);
    }
}

fn in_class(class: &str, c: char) -> bool {
    match class {
        "alpha" => c.is_alphabetic(),
        "digit" => c.is_ascii_digit(),
        "alnum" => c.is_alphanumeric(),
        "upper" => c.is_uppercase(),
        "lower" => c.is_lowercase(),
        "space" => c.is_whitespace(),
        "blank" => c == ' ' || c == '\t',
        "punct" => c.is_ascii_punctuation(),
        "xdigit" => c.is_ascii_hexdigit(),
        "cntrl" => c.is_control(),
        "print" => !c.is_control(),
        "graph" => !c.is_control() && !c.is_whitespace(),
        _ => false,
    }
}

/// `text` with a backslash before everything that would mean something in a pattern.
pub(crate) fn escape(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '*' | '?' | '[' | ']' | '\\' | '!' | '-' | '^').then_some('\\').into_iter().chain([c])).collect()
}

/// `pattern` without its backslashes.
pub(crate) fn unescape(pattern: &str) -> String {
    let mut chars = pattern.chars();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    text
}

/// The paths that match `pattern`, sorted; none when nothing does.
pub(crate) fn paths(pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut rest = pattern;
    while !rest.is_empty() && !found.is_empty() {
        let slashes = rest.len() - rest.trim_start_matches('/').len();
        if slashes > 0 {
            for path in &mut found {
                path.push_str(&rest[..slashes]);
            }
            rest = &rest[slashes..];
            continue;
        }
        let end = rest.find('/').unwrap_or(rest.len());
        found = found.iter().flat_map(|path| step(path, &rest[..end], end < rest.len())).collect();
        rest = &rest[end..];
    }
    found.sort();
    found
}

/// The entries of `directory` that match one component; only directories where the path goes on.
fn step(directory: &str, component: &str, goes_on: bool) -> Vec<String> {
    if !has_meta(component) {
        let path = format!("{directory}{}", unescape(component));
        return if fs::symlink_metadata(&path).is_ok() { vec![path] } else { Vec::new() };
    }
    let Ok(entries) = fs::read_dir(if directory.is_empty() { "." } else { directory }) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| (!name.starts_with('.') || component.starts_with('.') || component.starts_with("\\.")) && matches(component, name))
        .map(|name| format!("{directory}{name}"))
        .filter(|path| !goes_on || fs::metadata(path).is_ok_and(|meta| meta.is_dir()))
        .collect()
}

/// Whether a pattern has anything but literal characters.
pub(crate) fn has_meta(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}
