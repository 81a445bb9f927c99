//! The queue of accepted bytes between a source and a sink: cheap pieces, one running length.
//!
//! Knows nothing of marks; the gate counts lengths, this keeps the bytes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes waiting for a sink, in order.
///
/// ```
/// use bytes::Bytes;
/// let mut held = tidegate_io::Held::default();
/// held.push(Bytes::from_static(b"hello, "));
/// held.push(Bytes::from_static(b"world"));
/// held.advance(7);
/// assert_eq!(&held.front().unwrap()[..], b"world");
/// ```
#[derive(Debug, Default)]
pub struct Held {
    /// Boxed, because most flows are idle and hold nothing.
    pieces: Option<Box<Pieces>>,
    bytes: usize,
}

/// One piece is what a flow of small messages ever holds: it takes no second allocation.
#[derive(Debug)]
struct Pieces {
    first: Bytes,
    more: VecDeque<Bytes>,
}

impl Held {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a piece behind the others. An empty piece is dropped.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        match &mut self.pieces {
            Some(pieces) => pieces.more.push_back(piece),
            None => {
                self.pieces = Some(Box::new(Pieces {
                    first: piece,
                    more: VecDeque::new(),
                }));
            }
        }
    }

    /// The first piece. Cloning it is cheap.
    pub fn front(&self) -> Option<&Bytes> {
        self.pieces.as_deref().map(|pieces| &pieces.first)
    }

    /// The pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let pieces = self.pieces.as_deref();
        let more = pieces.into_iter().flat_map(|pieces| &pieces.more);
        pieces.map(|pieces| &pieces.first).into_iter().chain(more)
    }

    /// Fills `slices` from the front for a vectored write and says how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(self.pieces()) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Drops `bytes` bytes from the front.
    ///
    /// # Panics
    /// If fewer wait: a sink claimed to have accepted more than it was shown.
    pub fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "a sink accepted more than it was shown");
        self.bytes -= bytes;
        while let Some(pieces) = &mut self.pieces {
            if pieces.first.len() > bytes {
                pieces.first.advance(bytes);
                return;
            }
            bytes -= pieces.first.len();
            match pieces.more.pop_front() {
                Some(next) => pieces.first = next,
                None => self.pieces = None,
            }
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.bytes = 0;
        let pieces = self.pieces.take().into_iter();
        pieces.flat_map(|pieces| std::iter::once(pieces.first).chain(pieces.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_out_in_order_whole_or_in_parts_and_leave_no_room_behind() {
        let mut held = Held::default();
        for piece in ["abc", "", "d", "ef"] {
            held.push(Bytes::from_static(piece.as_bytes()));
        }
        held.advance(2);
        let rest = |held: &Held| held.pieces().flatten().copied().collect::<Vec<u8>>();
        assert_eq!((rest(&held), held.len()), (b"cdef".to_vec(), 4));
        held.advance(3);
        assert_eq!((rest(&held), held.len()), (b"f".to_vec(), 1));
        held.advance(1);
        assert!(held.is_empty() && held.pieces.is_none());
        held.push(Bytes::from_static(b"gh"));
        held.push(Bytes::from_static(b"i"));
        assert_eq!(held.take().flatten().collect::<Vec<u8>>(), b"ghi");
        assert!(held.is_empty() && held.front().is_none());
    }
}
