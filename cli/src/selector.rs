//! Label selectors (`-l app=web,tier!=db,canary,!old,env in (a,b)`) as kubectl reads them.

use std::collections::BTreeMap;

/// All of its requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Whether the labels satisfy every requirement.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            // Kubernetes: an absent label is not in any set.
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        split(text).into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    if let Some((left, set)) = text.split_once('(') {
        let values = set.strip_suffix(')').ok_or_else(|| format!("`{text}`: no closing parenthesis"))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match left.split_whitespace().collect::<Vec<_>>()[..] {
            [name, "in"] => Ok(Requirement::In(key(name)?, values)),
            [name, "notin"] => Ok(Requirement::NotIn(key(name)?, values)),
            _ => Err(format!("`{text}`: expected `key in (a,b)` or `key notin (a,b)`")),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Requirement::Absent(key(name)?)),
        None => Ok(Requirement::Exists(key(text)?)),
    }
}

fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !text.is_empty() && text.chars().all(fits) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no label key")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_select_as_in_kubernetes() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
        let cases = [
            ("app=web", true), ("app==web", true), ("app=db", false), ("app!=db", true), ("app!=web", false), ("gone!=x", true),
            ("app", true), ("gone", false), ("!gone", true), ("!app", false), ("app=web,tier=front", true), ("app=web,tier=back", false),
            ("app in (web, db)", true), ("app in (db)", false), ("app notin (db),tier", true), ("gone notin (x)", true), ("gone in (x)", false),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Selector>().unwrap().matches(&labels), wanted, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "=web", "app in web)", "app in (web", "app of (web)", "a b", "!"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
