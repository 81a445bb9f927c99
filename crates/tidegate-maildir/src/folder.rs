//! Maildir++ subfolders: how a folder's path becomes the one directory name that holds it.
//!
//! Pure; knows nothing of the disk. Names outside ASCII are written in IMAP's modified UTF-7 (RFC 3501 §5.1.3), which is
//! what readers of Maildir++ expect.

/// A subfolder of a mailbox, as its path of names.
///
/// ```
/// use tidegate_maildir::Folder;
/// assert_eq!(Folder::parse("Lists/Rust").unwrap().directory_name(), ".Lists.Rust");
/// assert_eq!(Folder::parse("Entwürfe").unwrap().directory_name(), ".Entw&APw-rfe");
/// assert!(Folder::parse("a//b").is_err());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Folder {
    directory_name: String,
}

/// Why a text is no folder.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A name in the path is empty.
    #[error("a folder name is empty")]
    Empty,
    /// A name holds a dot, which separates names on the disk, or a control character.
    #[error("folder name {0:?} holds a dot or a control character")]
    Character(String),
    /// The directory name would pass 255 bytes.
    #[error("the folder's directory name is {0} bytes long, more than 255")]
    TooLong(usize),
}

impl Folder {
    /// A folder from its path: names separated by `/`.
    ///
    /// # Errors
    /// [`FolderError`] when a name cannot stand in a Maildir++ directory name.
    pub fn parse(path: &str) -> Result<Self, FolderError> {
        let mut directory_name = String::new();
        for name in path.split('/') {
            if name.is_empty() {
                return Err(FolderError::Empty);
            }
            if name.chars().any(|c| c == '.' || c.is_control()) {
                return Err(FolderError::Character(name.to_owned()));
            }
            directory_name.push('.');
            directory_name.push_str(&modified_utf7(name));
        }
        if directory_name.len() > 255 {
            return Err(FolderError::TooLong(directory_name.len()));
        }
        Ok(Self { directory_name })
    }

    /// The name of the folder's directory inside the mailbox.
    pub fn directory_name(&self) -> &str {
        &self.directory_name
    }
}

fn modified_utf7(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut outside: Vec<u16> = Vec::new();
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush_outside(&mut encoded, &mut outside);
            encoded.push(character);
            if character == '&' {
                encoded.push('-');
            }
        } else {
            outside.extend_from_slice(character.encode_utf16(&mut [0; 2]));
        }
    }
    flush_outside(&mut encoded, &mut outside);
    encoded
}

/// `&`, base64 of the UTF-16 units with `,` for `/` and without padding, `-`.
fn flush_outside(encoded: &mut String, outside: &mut Vec<u16>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    if outside.is_empty() {
        return;
    }
    let bytes: Vec<u8> = outside.drain(..).flat_map(u16::to_be_bytes).collect();
    encoded.push('&');
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .enumerate()
            .fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=group.len() {
            encoded.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    encoded.push('-');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_folders() {
        // The last is the example of RFC 3501 §5.1.3.
        let cases = [
            ("Sent", ".Sent"),
            ("a/b/c", ".a.b.c"),
            ("Q&A", ".Q&-A"),
            ("~peter/mail/台北/日本語", ".~peter.mail.&U,BTFw-.&ZeVnLIqe-"),
        ];
        for (path, directory) in cases {
            assert_eq!(Folder::parse(path).unwrap().directory_name(), directory);
        }
    }

    #[test]
    fn refuses_what_would_leave_the_mailbox() {
        for path in ["", "/", "..", "a/../b", "a/", "/a", "a\0b", "a\nb", ".hidden"] {
            assert!(Folder::parse(path).is_err(), "{path:?}");
        }
        assert_eq!(Folder::parse(&"x".repeat(255)), Err(FolderError::TooLong(256)));
    }

    proptest! {
        #[test]
        fn any_folder_is_one_plain_directory_name(path in "\\PC{1,40}") {
            if let Ok(folder) = Folder::parse(&path) {
                let name = folder.directory_name();
                prop_assert!(name.is_ascii() && name.starts_with('.') && !name.contains('/') && !name.contains(".."));
            }
        }
    }
}
