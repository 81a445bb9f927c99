//! The flags of a message that is filed in `cur/`: which letters there are, and how a file name carries them.
//!
//! Pure; knows nothing of unique names or directories.

use std::fmt;
use std::str::FromStr;

/// What stands between the unique name and `2,FLAGS`. A colon, but for Windows, which has none in file names.
pub const INFO_SEPARATOR: char = crate::system::INFO_SEPARATOR;

/// The flags of a message in `cur/`: Draft, Flagged, Passed, Replied, Seen, Trashed, and a reader's own keywords `a` to `z`.
///
/// ```
/// use tidegate_maildir::Flags;
/// let flags: Flags = "SFa".parse().unwrap();
/// assert_eq!(flags.to_string(), "FSa");
/// assert!("X".parse::<Flags>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Flags {
    standard: u8,
    keywords: u32,
}

/// A letter that is no flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no Maildir flag: D, F, P, R, S, T and a to z are")]
pub struct FlagsError(pub char);

const STANDARD: [char; 6] = ['D', 'F', 'P', 'R', 'S', 'T'];

impl Flags {
    /// What follows the unique name in `cur/`: `:2,` and the flags in ASCII order, as the format demands.
    pub fn suffix(&self) -> String {
        format!("{INFO_SEPARATOR}2,{self}")
    }
}

impl FromStr for Flags {
    type Err = FlagsError;

    fn from_str(text: &str) -> Result<Self, FlagsError> {
        let mut flags = Self::default();
        for letter in text.chars() {
            match STANDARD.iter().position(|standard| *standard == letter) {
                Some(bit) => flags.standard |= 1 << bit,
                None if letter.is_ascii_lowercase() => flags.keywords |= 1 << (letter as u32 - 'a' as u32),
                None => return Err(FlagsError(letter)),
            }
        }
        Ok(flags)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in STANDARD.iter().enumerate() {
            if self.standard & (1 << bit) != 0 {
                write!(f, "{letter}")?;
            }
        }
        for (bit, letter) in ('a'..='z').enumerate() {
            if self.keywords & (1 << bit) != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_are_sorted_and_doubles_vanish() {
        assert_eq!(
            "TSSzRa".parse::<Flags>().unwrap().suffix(),
            format!("{INFO_SEPARATOR}2,RSTaz")
        );
        assert_eq!(
            "".parse::<Flags>().unwrap().suffix(),
            format!("{INFO_SEPARATOR}2,")
        );
        assert_eq!("Sé".parse::<Flags>(), Err(FlagsError('é')));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in "[DFPRSTa-z]{0,12}") {
            let flags: Flags = text.parse().unwrap();
            prop_assert_eq!(flags.to_string().parse::<Flags>(), Ok(flags));
        }
    }
}
