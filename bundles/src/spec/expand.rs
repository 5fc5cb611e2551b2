//! `$(VAR)` and `$$` in command, args and env.
//!
//! Source: Kubernetes `third_party/forked/golang/expansion`.

/// Longest string that a process can be given, in bytes without its NUL: `MAX_ARG_STRLEN`, 32 pages of 4 KiB.
///
/// man: execve(2), "Limits on size of arguments and environment"
pub const LONGEST: usize = 32 * 4096 - 1;

/// Bytes of all strings of a process, with their NULs: three quarters of the kernel's `_STK_LIM`, whatever the limit of the
/// stack is.
pub const ALL: usize = 6 << 20;

/// Why strings cannot be given to a process. Variables that refer to each other grow exponentially, so this bounds memory too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLong {
    /// One of them.
    #[error("has more than {LONGEST} bytes once expanded, which is the longest string that a process can be given (execve(2))")]
    One,
    /// All together.
    #[error("brings command, args and env over {ALL} bytes once expanded, which is more than a process can be given (execve(2))")]
    All,
}

/// Replaces every `$(NAME)` by what `value` knows; an unknown one stays as it is. `$$` stands for `$`, so that
/// `$$(NAME)` becomes `$(NAME)`.
///
/// # Errors
/// [`TooLong::One`].
pub fn expand<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, TooLong> {
    let mut out = String::new();
    let mut rest = text;
    // Without a parenthesis to come, none is looked for at each dollar.
    let last_end = text.rfind(')');
    while let Some(dollar) = rest.find('$') {
        push(&mut out, &rest[..dollar])?;
        let after = &rest[dollar + 1..];
        let inner = after.strip_prefix('(').filter(|inner| last_end.is_some_and(|end| end >= text.len() - inner.len()));
        if let Some(behind) = after.strip_prefix('$') {
            push(&mut out, "$")?;
            rest = behind;
        } else if let Some((name, behind)) = inner.and_then(|inner| inner.split_once(')')) {
            push(&mut out, value(name).unwrap_or(&rest[dollar..dollar + name.len() + 3]))?;
            rest = behind;
        } else {
            push(&mut out, "$")?;
            rest = after;
        }
    }
    push(&mut out, rest)?;
    Ok(out)
}

fn push(out: &mut String, text: &str) -> Result<(), TooLong> {
    if out.len() + text.len() > LONGEST {
        return Err(TooLong::One);
    }
    out.push_str(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kubernetes' own `expand_test.go`.
    #[test]
    fn as_kubernetes() {
        let value = |name: &str| match name {
            "VAR_A" => Some("A"),
            "VAR_B" => Some("B"),
            "VAR_C" => Some("C"),
            "VAR_REF" => Some("$(VAR_A)"),
            "VAR_EMPTY" => Some(""),
            _ => None,
        };
        for (input, expected) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("___$(VAR_C)", "___C"),
            ("$(VAR_A)-$(VAR_A)", "A-A"),
            ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
            ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
            ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
            ("f000-$$VAR_A", "f000-$VAR_A"),
            ("foo\\$(VAR_C)bar", "foo\\Cbar"),
            ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
            ("$(VAR_EMPTY)", ""),
            ("foo$(VAR_EMPTY)bar", "foobar"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("$$$$$$$(BIG_MONEY)", "$$$$(BIG_MONEY)"),
            ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
            ("$$$$$$$(VAR_A)", "$$$A"),
            ("$VAR_A)", "$VAR_A)"),
            ("${VAR_A}", "${VAR_A}"),
            ("$(VAR_B)_______$(A", "B_______$(A"),
            ("$(VAR_C)_______$(", "C_______$("),
            ("$(VAR_A)foobarzab$", "Afoobarzab$"),
            ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
            ("--$($($($($--", "--$($($($($--"),
            ("$($($($($--foo$(", "$($($($($--foo$("),
            ("foo0--$($($($(", "foo0--$($($($("),
            ("$(foo$$var)", "$(foo$$var)"),
            ("$(DOES_NOT_EXIST)", "$(DOES_NOT_EXIST)"),
            ("", ""),
            ("$", "$"),
            ("ü$(VAR_A)ü", "üAü"),
        ] {
            assert_eq!(expand(input, value).as_deref(), Ok(expected), "{input}");
        }
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        let (half, none) = ("x".repeat(LONGEST / 2), |_: &str| None);
        assert_eq!(expand(&"x".repeat(LONGEST), none).map(|text| text.len()), Ok(LONGEST));
        assert_eq!(expand(&"x".repeat(LONGEST + 1), none), Err(TooLong::One));
        let twice = expand("$(A)$(A)", |_| Some(&half));
        assert_eq!(twice.map(|text| text.len()), Ok(LONGEST - 1));
        assert_eq!(expand("$(A)$(A)$(A)", |_| Some(&half)), Err(TooLong::One));
        // Ten megabytes of what might be a variable, read once and not once for each.
        assert_eq!(expand(&"$(".repeat(5 << 20), none), Err(TooLong::One));
    }
}
