//! How Windows writes what addresses hold: command lines and drive letters.
//!
//! Pure, and tested on every system. Knows nothing of opening.

/// A command with a quoted word, for hints.
pub(super) const QUOTED: &str = "exec:findstr \"two words\"";

/// Splits a command line as Microsoft's C runtime does: quotes keep words together, and a backslash is itself unless a
/// quote follows. (Microsoft: "Parsing C command-line arguments", the rules since 2008.)
///
/// # Errors
/// Where a quote that is never closed stands.
pub(super) fn words(line: &str) -> Result<Vec<String>, usize> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            ' ' | '\t' if quote.is_none() => words.extend(word.take()),
            '"' if quote.is_some() && rest.next_if(|&(_, next)| next == '"').is_some() => {
                word.get_or_insert_default().push('"');
            }
            '"' => {
                word.get_or_insert_default();
                quote = if quote.is_some() { None } else { Some(at) };
            }
            '\\' => {
                let word = word.get_or_insert_default();
                let mut count = 1;
                while rest.next_if(|&(_, next)| next == '\\').is_some() {
                    count += 1;
                }
                let before_quote = rest.peek().is_some_and(|&(_, next)| next == '"');
                let kept = if before_quote { count / 2 } else { count };
                word.extend(std::iter::repeat_n('\\', kept));
                if before_quote && count % 2 == 1 {
                    rest.next();
                    word.push('"');
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.map_or(Ok(words), Err)
}

/// `/C:/x` of a `file:///C:/x` is `C:/x`.
pub(super) fn path_of_url(path: &str) -> &str {
    let drive = path.strip_prefix('/').filter(|rest| {
        let mut rest = rest.chars();
        rest.next().is_some_and(|letter| letter.is_ascii_alphabetic()) && rest.next() == Some(':')
    });
    drive.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_line_is_split_as_the_c_runtime_does() {
        for (line, expected) in [
            (r#"C:\tools\x.exe a b"#, &[r"C:\tools\x.exe", "a", "b"][..]),
            (
                r#""C:\Program Files\x.exe" "two words""#,
                &[r"C:\Program Files\x.exe", "two words"],
            ),
            (r#"x "" y"#, &["x", "", "y"]),
            (r#"x a\"b"#, &["x", "a\"b"]),
            (r#"x "a\\" b"#, &["x", "a\\", "b"]),
            (r#"x a\\\"b c\\d"#, &["x", r#"a\"b"#, r"c\\d"]),
            (r#"x "say ""hi""""#, &["x", "say \"hi\""]),
            (r#"x it's  	fine"#, &["x", "it's", "fine"]),
            (
                r"x \\?\C:\long \\server\share\",
                &["x", r"\\?\C:\long", r"\\server\share\"],
            ),
            ("", &[]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert_eq!(words(r#"x "open"#), Err(2));
        assert_eq!(words(QUOTED).unwrap().len(), 2);
    }

    #[test]
    fn a_drive_loses_the_slash_of_its_url() {
        assert_eq!(path_of_url("/C:/a b"), "C:/a b");
        assert_eq!(path_of_url("/tmp/x"), "/tmp/x");
        assert_eq!(path_of_url("/"), "/");
    }
}
