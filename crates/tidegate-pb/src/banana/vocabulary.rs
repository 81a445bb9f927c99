//! The vocabulary of the "pb" dialect: 31 words that travel as a number.
//!
//! Knows nothing else.

const WORDS: [&str; 31] = [
    "None",
    "class",
    "dereference",
    "reference",
    "dictionary",
    "function",
    "instance",
    "list",
    "module",
    "persistent",
    "tuple",
    "unpersistable",
    "copy",
    "cache",
    "cached",
    "remote",
    "local",
    "lcache",
    "version",
    "login",
    "password",
    "challenge",
    "logged_in",
    "not_logged_in",
    "cachemessage",
    "message",
    "answer",
    "error",
    "decref",
    "decache",
    "uncache",
];

/// The word a number stands for. Numbers start at 1.
pub fn word(number: usize) -> Option<&'static str> {
    WORDS.get(number.checked_sub(1)?).copied()
}

/// The number that stands for a string, if it is a word.
pub fn word_number(bytes: &[u8]) -> Option<u8> {
    // Most strings are longer than the longest word.
    if bytes.len() > 13 {
        return None;
    }
    let at = WORDS.iter().position(|word| word.as_bytes() == bytes)?;
    u8::try_from(at + 1).ok()
}
