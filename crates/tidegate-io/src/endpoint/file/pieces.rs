//! Writing what waits: which pieces one write takes, and all of them in as few calls as go.
//!
//! Knows an open file and nothing of streams.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

use crate::Held;

/// The most one hop to a thread writes.
const WRITE_BYTES_MAX: usize = 1024 * 1024;
const SLICES_MAX: usize = 64;

/// What one write takes of what waits.
pub(super) fn batch(held: &Held) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    for piece in held.pieces() {
        let most = WRITE_BYTES_MAX - bytes;
        pieces.push(piece.slice(..piece.len().min(most)));
        bytes += piece.len().min(most);
        if bytes == WRITE_BYTES_MAX {
            break;
        }
    }
    pieces
}

pub(super) fn write_pieces(mut file: &File, mut pieces: Vec<Bytes>) -> io::Result<usize> {
    let mut written = 0;
    let mut first = 0;
    while first < pieces.len() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&pieces[first..]) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        let mut count = match file.write_vectored(&slices[..filled]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        written += count;
        while first < pieces.len() && count >= pieces[first].len() {
            count -= pieces[first].len();
            first += 1;
        }
        if count > 0 {
            pieces[first].advance(count);
        }
    }
    Ok(written)
}
