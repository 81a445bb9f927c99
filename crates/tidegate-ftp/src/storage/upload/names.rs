//! The names uploads use meanwhile: hidden, beside the target, and known by their mark.
//!
//! Knows no file.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

const MARK: &[u8] = b".tidegate-";
const PART: &[u8] = b"part";
/// What Linux and most others take for one name.
const NAME_BYTES_MAX: usize = 255;

/// The name under which an upload of `name` that was cut short is kept.
pub fn partial_name(name: &[u8]) -> Vec<u8> {
    hidden_name(name, PART)
}

/// Whether a name is one that uploads use meanwhile.
pub(crate) fn is_our_name(name: &[u8]) -> bool {
    name.first() == Some(&b'.') && name.windows(MARK.len()).skip(1).any(|window| window == MARK)
}

pub(super) fn hidden_name(name: &[u8], suffix: &[u8]) -> Vec<u8> {
    let room = NAME_BYTES_MAX - MARK.len() - suffix.len() - 1;
    let mut end = name.len().min(room);
    while end > 0 && name.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    [b".", &name[..end], MARK, suffix].concat()
}

pub(super) fn random_suffix() -> Vec<u8> {
    let random = RandomState::new().build_hasher().finish();
    format!("{random:016x}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_known_and_fit_into_a_name() {
        let long = "ä".repeat(200);
        for name in ["f", "a.b", ".hidden", &long] {
            let part = partial_name(name.as_bytes());
            assert!(is_our_name(&part) && part.len() <= NAME_BYTES_MAX, "{name}");
            assert!(std::str::from_utf8(&part).is_ok(), "a letter was cut in two");
            assert!(is_our_name(&hidden_name(name.as_bytes(), &random_suffix())));
        }
        assert!(!is_our_name(b"f.tidegate-part") && !is_our_name(b".tidegate-part"));
    }
}
