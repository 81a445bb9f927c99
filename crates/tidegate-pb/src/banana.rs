//! Banana: the s-expressions every message of Perspective Broker is made of, to bytes and back.
//!
//! Pure and incremental; knows nothing of brokers, objects or sockets. An element is a base-128 number (least digit
//! first, bytes below 0x80) followed by a type byte, and for strings and floats the payload:
//!
//! ```text
//! element = count 0x80 element*count      list
//!         | number 0x81 | number 0x83     whole number, and its negative, up to 31 bits
//!         | number 0x85 | number 0x86     the same beyond
//!         | length 0x82 byte*length       string of bytes
//!         | 0x84 byte*8                   float, IEEE 754, big endian
//!         | word 0x87                     a string of the vocabulary ("pb" dialect only)
//! ```
//!
//! (Twisted: `spread.banana.Banana`.)

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod vocabulary;

use bytes::Bytes;

use crate::Integer;

pub use decode::Decoder;
pub use encode::{Pieces, encode};
pub use vocabulary::{word, word_number};

/// What a banana stream is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A whole number of any size.
    Int(Integer),
    /// A float.
    Float(f64),
    /// A string of bytes.
    Bytes(Bytes),
    /// A list.
    List(Vec<Expr>),
}

impl Expr {
    /// A string that lives in the program.
    pub fn word(text: &'static str) -> Self {
        Self::Bytes(Bytes::from_static(text.as_bytes()))
    }

    /// A small number.
    pub fn int(number: i64) -> Self {
        Self::Int(number.into())
    }
}

/// The two profiles of banana; the server offers both, the client picks one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// Plain: no vocabulary. Also what is spoken before a dialect is chosen.
    #[default]
    None,
    /// With the vocabulary of 31 words.
    Pb,
}

impl Dialect {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pb => "pb",
        }
    }
}

/// Bounds on what is decoded and encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Digits of one number: Twisted's 64.
    pub prefix_bytes_max: usize,
    /// Bytes of one string, and elements of one list: Twisted's 640 Ki.
    pub size_max: usize,
    /// Lists inside lists. Twisted has no such limit.
    pub depth_max: usize,
    /// Elements of one message, all lists together. Twisted has no such limit.
    pub elements_max: usize,
    /// Bytes of one message. Twisted has no such limit.
    pub message_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            prefix_bytes_max: 64,
            size_max: 640 * 1024,
            depth_max: 128,
            elements_max: 640 * 1024,
            message_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// What cannot be decoded (the peer's fault) or encoded (the caller's).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BananaError {
    /// A number has more digits than allowed.
    #[error("a number of more than {max} digits of seven bits")]
    PrefixTooLong {
        /// The limit.
        max: usize,
    },
    /// A list has more elements than allowed.
    #[error("a list of more than {max} elements")]
    ListTooLong {
        /// The limit.
        max: usize,
    },
    /// A string has more bytes than allowed.
    #[error("a string of more than {max} bytes")]
    StringTooLong {
        /// The limit.
        max: usize,
    },
    /// Lists are nested deeper than allowed.
    #[error("lists nested more than {max} deep")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// One message has more elements than allowed.
    #[error("a message of more than {max} elements")]
    TooManyElements {
        /// The limit.
        max: usize,
    },
    /// One message has more bytes than allowed.
    #[error("a message of more than {max} bytes")]
    MessageTooLong {
        /// The limit.
        max: usize,
    },
    /// A type byte that banana does not have.
    #[error("unknown type byte {0:#04x}")]
    UnknownType(u8),
    /// A vocabulary number that the dialect does not have.
    #[error("no such word in the vocabulary")]
    UnknownWord,
    /// A vocabulary word in a dialect without vocabulary.
    #[error("a vocabulary word outside the pb dialect")]
    WordOutsidePb,
}
