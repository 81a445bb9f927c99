//! The name of a named pipe in an address.
//!
//! Pure, and read on every system, so that a mistake is told the same way. Knows nothing of opening.

/// The slashes of `npipe://./pipe/x` belong to the name; those of `npipe://x` do not.
pub(super) fn pipe_name(path: &str, start: usize, text: &str) -> String {
    match text[..start].ends_with("//") && path.contains('/') {
        true => format!("//{path}"),
        false => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipes_name_keeps_its_slashes() {
        assert_eq!(pipe_name("./pipe/x", 8, "npipe://./pipe/x"), "//./pipe/x");
        assert_eq!(pipe_name(r"\\.\pipe\x", 6, r"npipe:\\.\pipe\x"), r"\\.\pipe\x");
        assert_eq!(pipe_name("x", 6, "npipe:x"), "x");
    }
}
