//! What is wrong with an address: a clause, a place in the text, and what would be right.
//!
//! Knows how this is shown, with a caret under the place; nothing of what addresses mean.

use std::fmt;

/// What is wrong with an address, where, and what would be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AddressError {
    pub(crate) text: String,
    /// Byte offset into `text`.
    pub(crate) at: usize,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

pub(super) fn error(text: &str, at: usize, what: impl Into<String>, hint: Option<String>) -> AddressError {
    AddressError {
        text: text.to_owned(),
        at: at.min(text.len()),
        what: what.into(),
        hint,
    }
}

impl fmt::Display for AddressError {
    /// What is wrong; the address with a caret under the place; what would be right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |part: &str| -> String {
            part.chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect()
        };
        let mut at = self.at;
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let column = self.text[..at].chars().count();
        write!(f, "{}\n  {}\n  {:column$}^", self.what, printable(&self.text), "")?;
        match &self.hint {
            Some(hint) => write!(f, "\n  try {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AddressError {}
