//! From bytes to expressions, whatever way the bytes are cut.
//!
//! Holds at most one message that is not complete, within the limits; knows nothing of what messages mean.

use bytes::{Buf, Bytes, BytesMut};

use super::{BananaError, Dialect, Expr, Limits, word};
use crate::{Integer, Sign};

const LIST: u8 = 0x80;
const INT: u8 = 0x81;
const STRING: u8 = 0x82;
const NEG: u8 = 0x83;
const FLOAT: u8 = 0x84;
const LONGINT: u8 = 0x85;
const LONGNEG: u8 = 0x86;
const VOCAB: u8 = 0x87;

/// An incremental decoder.
///
/// ```
/// use tidegate_pb::banana::{Decoder, Expr};
/// let mut decoder = Decoder::default();
/// decoder.space().extend_from_slice(b"\x02\x80\x05\x81");
/// assert_eq!(decoder.next_expr().unwrap(), None);
/// decoder.space().extend_from_slice(b"\x03\x82abc");
/// let expected = Expr::List(vec![Expr::int(5), Expr::word("abc")]);
/// assert_eq!(decoder.next_expr().unwrap(), Some(expected));
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    dialect: Dialect,
    buffer: BytesMut,
    open_lists: Vec<OpenList>,
    elements: usize,
    message_bytes: usize,
    failed: Option<BananaError>,
}

#[derive(Debug)]
struct OpenList {
    missing: usize,
    elements: Vec<Expr>,
}

/// One element as it stands in the buffer.
enum Element {
    Complete(Expr),
    ListHead(usize),
    Incomplete,
}

impl Decoder {
    /// A decoder with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// What follows is in this dialect.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Where to append what came in.
    pub fn space(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many bytes wait undecoded.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole expression, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// What the peer sent is no banana, or passes a limit. Repeated for ever: the stream cannot be picked up again.
    pub fn next_expr(&mut self) -> Result<Option<Expr>, BananaError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let next = self.advance();
        self.failed = next.as_ref().err().copied();
        next
    }

    fn advance(&mut self) -> Result<Option<Expr>, BananaError> {
        loop {
            let before = self.buffer.len();
            let element = self.element()?;
            self.message_bytes += before - self.buffer.len();
            if self.message_bytes > self.limits.message_bytes_max {
                return Err(BananaError::MessageTooLong {
                    max: self.limits.message_bytes_max,
                });
            }
            match element {
                Element::Incomplete => return Ok(None),
                Element::ListHead(count) => {
                    self.open_list(count)?;
                    if count > 0 {
                        continue;
                    }
                }
                Element::Complete(expr) => {
                    if let Some(whole) = self.place(expr) {
                        return Ok(Some(whole));
                    }
                }
            }
            if let Some(whole) = self.close_lists() {
                return Ok(Some(whole));
            }
        }
    }

    /// Puts an element into the innermost open list; without one it is a message by itself.
    fn place(&mut self, expr: Expr) -> Option<Expr> {
        match self.open_lists.last_mut() {
            Some(list) => {
                list.elements.push(expr);
                list.missing -= 1;
                None
            }
            None => {
                (self.elements, self.message_bytes) = (0, 0);
                Some(expr)
            }
        }
    }

    fn close_lists(&mut self) -> Option<Expr> {
        while let Some(list) = self.open_lists.pop_if(|list| list.missing == 0) {
            if let Some(whole) = self.place(Expr::List(list.elements)) {
                return Some(whole);
            }
        }
        None
    }

    fn open_list(&mut self, count: usize) -> Result<(), BananaError> {
        let Limits {
            depth_max,
            elements_max,
            ..
        } = self.limits;
        if self.open_lists.len() >= depth_max {
            return Err(BananaError::TooDeep { max: depth_max });
        }
        self.elements += count;
        if self.elements > elements_max {
            return Err(BananaError::TooManyElements { max: elements_max });
        }
        // A count is only a claim: room is made as elements arrive.
        self.open_lists.push(OpenList {
            missing: count,
            elements: Vec::with_capacity(count.min(16)),
        });
        Ok(())
    }

    /// Takes one element off the buffer, or leaves the buffer alone when it is not whole.
    fn element(&mut self) -> Result<Element, BananaError> {
        let max = self.limits.prefix_bytes_max;
        let head = &self.buffer[..self.buffer.len().min(max + 1)];
        let Some(prefix) = head.iter().position(|byte| *byte >= 0x80) else {
            let too_long = head.len() > max;
            return if too_long {
                Err(BananaError::PrefixTooLong { max })
            } else {
                Ok(Element::Incomplete)
            };
        };
        let (digits, kind) = (&head[..prefix], head[prefix]);
        let start = prefix + 1;
        let element = match kind {
            LIST => Element::ListHead(
                self.size(digits)
                    .map_err(|max| BananaError::ListTooLong { max })?,
            ),
            STRING => {
                let length = self
                    .size(digits)
                    .map_err(|max| BananaError::StringTooLong { max })?;
                return Ok(self
                    .payload(start, length)
                    .map_or(Element::Incomplete, |b| Element::Complete(Expr::Bytes(b))));
            }
            FLOAT => {
                let float = self
                    .payload(start, 8)
                    .map(|mut bytes| Expr::Float(bytes.get_f64()));
                return Ok(float.map_or(Element::Incomplete, Element::Complete));
            }
            INT | LONGINT => Element::Complete(Expr::Int(Integer::from_digits(Sign::Plus, digits))),
            NEG | LONGNEG => Element::Complete(Expr::Int(Integer::from_digits(Sign::Minus, digits))),
            VOCAB => Element::Complete(self.word(digits)?),
            unknown => return Err(BananaError::UnknownType(unknown)),
        };
        self.buffer.advance(start);
        Ok(element)
    }

    fn payload(&mut self, start: usize, length: usize) -> Option<Bytes> {
        let missing = (start + length).saturating_sub(self.buffer.len());
        if missing > 0 {
            // Grown once for the whole string, not doubled again and again while it trickles in.
            self.buffer.reserve(missing);
            return None;
        }
        self.buffer.advance(start);
        Some(self.buffer.split_to(length).freeze())
    }

    fn size(&self, digits: &[u8]) -> Result<usize, usize> {
        let number = Integer::from_digits(Sign::Plus, digits).to_i64();
        let size = number.and_then(|number| usize::try_from(number).ok());
        size.filter(|size| *size <= self.limits.size_max)
            .ok_or(self.limits.size_max)
    }

    fn word(&self, digits: &[u8]) -> Result<Expr, BananaError> {
        if self.dialect != Dialect::Pb {
            return Err(BananaError::WordOutsidePb);
        }
        let number = self.size(digits).map_err(|_| BananaError::UnknownWord)?;
        word(number).map(Expr::word).ok_or(BananaError::UnknownWord)
    }
}
