//! From expressions to bytes. Long strings are not copied: they stay pieces of their own.
//!
//! Knows nothing of who takes the pieces.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BananaError, Dialect, Expr, Limits, word_number};
use crate::{Integer, Sign};

/// Strings from this length on are handed over as they are.
const PIECE_BYTES_MIN: usize = 1024;

/// Encoded bytes in order, as a consumer's `write_list` takes them.
#[derive(Debug, Default)]
pub struct Pieces {
    done: Vec<Bytes>,
    tail: BytesMut,
}

impl Pieces {
    /// The pieces, none of them empty.
    pub fn into_list(mut self) -> Vec<Bytes> {
        self.close_tail();
        self.done
    }

    /// All in one, copied.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.into_list().concat())
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.done.push(self.tail.split().freeze());
        }
    }

    fn string(&mut self, bytes: &Bytes) {
        if bytes.len() < PIECE_BYTES_MIN {
            self.tail.put_slice(bytes);
        } else {
            self.close_tail();
            self.done.push(bytes.clone());
        }
    }

    fn number(&mut self, mut number: usize) {
        if number == 0 {
            self.tail.put_u8(0);
        }
        while number != 0 {
            self.tail.put_u8((number & 0x7f) as u8);
            number >>= 7;
        }
    }
}

/// Encodes one message.
///
/// ```
/// use tidegate_pb::banana::{Dialect, Expr, Limits, encode};
/// let expr = Expr::List(vec![Expr::word("version"), Expr::int(6)]);
/// let bytes = encode(&expr, Dialect::Pb, &Limits::default()).unwrap().into_bytes();
/// assert_eq!(&bytes[..], b"\x02\x80\x13\x87\x06\x81");
/// ```
///
/// # Errors
/// The expression passes a limit, so that the peer would refuse it.
pub fn encode(expr: &Expr, dialect: Dialect, limits: &Limits) -> Result<Pieces, BananaError> {
    let mut pieces = Pieces::default();
    encode_into(&mut pieces, expr, dialect, limits, 0)?;
    Ok(pieces)
}

fn encode_into(
    pieces: &mut Pieces,
    expr: &Expr,
    dialect: Dialect,
    limits: &Limits,
    depth: usize,
) -> Result<(), BananaError> {
    match expr {
        Expr::List(elements) => {
            if elements.len() > limits.size_max {
                return Err(BananaError::ListTooLong { max: limits.size_max });
            }
            if depth >= limits.depth_max {
                return Err(BananaError::TooDeep {
                    max: limits.depth_max,
                });
            }
            pieces.number(elements.len());
            pieces.tail.put_u8(0x80);
            for element in elements {
                encode_into(pieces, element, dialect, limits, depth + 1)?;
            }
        }
        Expr::Int(integer) => encode_integer(pieces, integer, limits)?,
        Expr::Float(float) => {
            pieces.tail.put_u8(0x84);
            pieces.tail.put_f64(*float);
        }
        Expr::Bytes(bytes) => match word_number(bytes).filter(|_| dialect == Dialect::Pb) {
            Some(number) => pieces.tail.put_slice(&[number, 0x87]),
            None if bytes.len() > limits.size_max => {
                return Err(BananaError::StringTooLong { max: limits.size_max });
            }
            None => {
                pieces.number(bytes.len());
                pieces.tail.put_u8(0x82);
                pieces.string(bytes);
            }
        },
    }
    Ok(())
}

fn encode_integer(pieces: &mut Pieces, integer: &Integer, limits: &Limits) -> Result<(), BananaError> {
    let (sign, digits) = integer.digits();
    if digits.len() > limits.prefix_bytes_max {
        return Err(BananaError::PrefixTooLong {
            max: limits.prefix_bytes_max,
        });
    }
    if digits.is_empty() {
        pieces.tail.put_u8(0);
    }
    pieces.tail.put_slice(&digits);
    // What 32 bits hold has type bytes of its own.
    let short = integer.to_i64().is_some_and(|small| i32::try_from(small).is_ok());
    pieces.tail.put_u8(match (sign, short) {
        (Sign::Plus, true) => 0x81,
        (Sign::Minus, true) => 0x83,
        (Sign::Plus, false) => 0x85,
        (Sign::Minus, false) => 0x86,
    });
    Ok(())
}
