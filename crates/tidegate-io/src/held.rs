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
    #[expect(clippy::box_collection, reason = "most flows are idle and hold nothing")]
    pieces: Option<Box<VecDeque<Bytes>>>,
    bytes: usize,
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
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.get_or_insert_default().push_back(piece);
        }
    }

    /// The first piece. Cloning it is cheap.
    pub fn front(&self) -> Option<&Bytes> {
        self.pieces().next()
    }

    /// The pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().flat_map(|pieces| pieces.iter())
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
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        while let Some(front) = pieces.front_mut() {
            if front.len() > bytes {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            pieces.pop_front();
        }
    }

    /// Lets go of unused room: the stream is idle.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.pieces = None;
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.bytes = 0;
        self.pieces.take().into_iter().flat_map(|pieces| *pieces)
    }
}
