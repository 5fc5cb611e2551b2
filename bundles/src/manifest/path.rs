//! Field paths in Kubernetes' notation: `spec.containers[0].image`, `metadata.annotations[a.example/b]`.

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A field, or a key of a map.
    Key(String),
    /// An element of a list.
    Index(usize),
}

/// Splits a path into its steps. A number in brackets is an element, anything else a key.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').unwrap_or(inner.len());
            let name = &inner[..end];
            steps.push(name.parse().map_or_else(|_| Step::Key(name.to_owned()), Step::Index));
            rest = inner.get(end + 1..).unwrap_or("");
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                steps.push(Step::Key(rest[..end].to_owned()));
            }
            rest = &rest[end..];
        }
    }
    steps
}

/// A path with a field behind it.
pub(super) fn field(base: &str, name: &str) -> String {
    let mut path = base.to_owned();
    push_field(&mut path, name);
    path
}

/// Puts a field behind a path.
pub(super) fn push_field(path: &mut String, name: &str) {
    let (before, after) = if name.contains(['.', '/', '[']) {
        ("[", "]")
    } else if path.is_empty() {
        ("", "")
    } else {
        (".", "")
    };
    path.extend([before, name, after]);
}

/// A path with an element behind it.
pub(super) fn element(base: &str, index: usize) -> String {
    format!("{base}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_dots_and_brackets() {
        let key = |name: &str| Step::Key(name.to_owned());
        assert_eq!(steps("spec.containers[1].image"), [key("spec"), key("containers"), Step::Index(1), key("image")]);
        assert_eq!(
            steps("metadata.annotations[a.example/b].c"),
            [key("metadata"), key("annotations"), key("a.example/b"), key("c")]
        );
        assert_eq!(steps(""), []);
        assert_eq!(steps("a[b"), [key("a"), key("b")]);
    }

    #[test]
    fn a_field_with_dots_is_written_in_brackets() {
        assert_eq!(field("metadata.labels", "app"), "metadata.labels.app");
        assert_eq!(steps(&field("metadata.labels", "x.example/app")).len(), 3);
    }
}
