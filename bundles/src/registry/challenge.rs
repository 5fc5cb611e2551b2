//! What a 401 asks for: `WWW-Authenticate`.
//!
//! Spec: RFC 9110, 11.6.1; distribution's token authentication. `http-auth` reads the same, but had no release since 2024.

/// What a registry accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String> },
    /// Name and password.
    Basic,
}

/// The best of what the headers offer: a token before a password.
pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for (scheme, parameters) in headers.flat_map(read) {
        let get = |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
        if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            return Some(Challenge::Bearer { realm, service: get("service") });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// All challenges of one header; stops where it is malformed.
fn read(header: &str) -> Vec<(String, Parameters)> {
    let mut all: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(rest);
        if name.is_empty() {
            return all;
        }
        // A parameter has a `=`, and a value after it; a scheme has a space (or nothing) after it.
        match parameter(after) {
            Some((value, after)) if !all.is_empty() => {
                all.last_mut().into_iter().for_each(|(_, parameters)| parameters.push((name.to_owned(), value.clone())));
                rest = after;
            }
            Some(_) => return all,
            None => {
                all.push((name.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// `= value` or `= "value"`, with what follows.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best_of(headers: &[&str]) -> Option<Challenge> {
        best(headers.iter().copied())
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
    }

    #[test]
    fn as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(best_of(&[hub]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(best_of(&[r#"Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(best_of(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(best_of(&[r#"Basic realm="x", bearer realm=y"#]), bearer("y", None));
        assert_eq!(best_of(&["Basic realm=\"x\"", "BEARER Realm = \"a\\\"b\" , service=s"]), bearer("a\"b", Some("s")));
        assert_eq!(best_of(&[r#"Negotiate, Basic realm="a, Bearer realm=b""#]), Some(Challenge::Basic));
    }

    #[test]
    fn malformed_ones_end() {
        let headers = ["", ",", "=", "Bearer", "Bearer realm", "Bearer realm=\"open", "Bearer realm=\"x\\"];
        for text in headers.into_iter().chain(["Digest a=b", "\u{e9}", "Bearer \u{e9}=x"]) {
            assert_eq!(best_of(&[text]), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_else(text in "(Bearer|Basic|realm|=|\"|\\\\|,| |\u{e9}|x)*", other: String) {
            let _ = (best_of(&[&text]), best_of(&[&other]));
        }
    }
}
