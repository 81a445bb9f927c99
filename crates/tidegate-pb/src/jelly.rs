//! Jelly: plain data as s-expressions, and back.
//!
//! Pure. Nothing here names, loads or builds a class, a module or a function: what is not in the table below is refused
//! with its tag. Knows nothing of the objects behind references; a reference is its number.
//!
//! ```text
//! None       ["None"]                         list       ["list", ...]
//! bool       ["boolean", "true" | "false"]    tuple      ["tuple", ...]
//! int        the number itself                dict       ["dictionary", [key, value] ...]
//! float      the float itself                 set        ["set", ...]
//! bytes      the string itself                frozenset  ["frozenset", ...]
//! str        ["unicode", utf-8]               object of the sender    ["remote", number]
//! shared     ["reference", id, data]          object of the receiver  ["local", number | name]
//! the same   ["dereference", id]
//! ```
//!
//! (Twisted: `spread.jelly`.)

mod read;
mod show;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::Integer;

pub use read::unjelly;
pub use show::jelly;

/// Plain data of Python. Containers are shared, so that data which occurs twice is kept once, here and on the wire.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`
    None,
    /// `True`, `False`
    Bool(bool),
    /// A whole number of any size.
    Int(Integer),
    /// A float.
    Float(f64),
    /// `bytes`
    Bytes(Bytes),
    /// `str`
    Str(Arc<str>),
    /// `list`
    List(Arc<[Value]>),
    /// `tuple`
    Tuple(Arc<[Value]>),
    /// `dict`, in the order of the wire. Keys are not checked for doubles.
    Dict(Arc<[(Value, Value)]>),
    /// `set`, in the order of the wire.
    Set(Arc<[Value]>),
    /// `frozenset`, in the order of the wire.
    FrozenSet(Arc<[Value]>),
    /// An object that lives with whoever sends this. Each occurrence counts one reference.
    Remote(i64),
    /// An object that lives with whoever receives this: its own reference comes home.
    Local(Luid),
}

/// What a connection calls an object: a number, or a name such as `root`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Luid {
    /// Counted up by the owner.
    Number(i64),
    /// Agreed on beforehand.
    Name(Bytes),
}

/// Why an expression is no plain data. The peer's fault, or beyond what is built here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JellyError {
    /// A tag outside the table: a class, a function, a module, a persistent object, a date.
    #[error("{0:?} is not among the plain data this end takes")]
    Unsupported(String),
    /// A list that does not start with a tag.
    #[error("a list without a tag")]
    NoTag,
    /// A tag with the wrong number or kind of elements.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A string that is no UTF-8.
    #[error("a str that is not UTF-8")]
    NotUtf8,
    /// A dereference of an id that is not complete: never given, or inside itself.
    #[error("dereference of {0}, which is not complete here: cycles are not plain data")]
    Incomplete(i64),
    /// An id given twice.
    #[error("reference {0} given twice")]
    Twice(i64),
    /// Nested deeper than allowed.
    #[error("data nested more than {0} deep")]
    TooDeep(usize),
}

impl Value {
    /// A `str`.
    pub fn text(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// A small number.
    pub fn int(number: i64) -> Self {
        Self::Int(number.into())
    }

    /// The bytes of a `bytes` or a `str`: Twisted's callers mix the two.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Str(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

impl From<Luid> for Value {
    fn from(luid: Luid) -> Self {
        Self::Local(luid)
    }
}
