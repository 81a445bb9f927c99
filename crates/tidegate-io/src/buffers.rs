//! Read buffers: taken when bytes are there, given back when the last piece of them is gone, sized by what the stream
//! has shown.
//!
//! Knows nothing of what is read into them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The smallest buffer taken.
pub const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// A small pool of reusable read buffers. Holds nothing until first used.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    want_bytes: usize,
}

/// A buffer on loan: read into `space`, then `freeze` what was filled.
#[derive(Debug)]
pub struct Buffer {
    space: Vec<u8>,
    home: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// The size the stream has earned so far: doubles when reads fill it, falls when they do not.
    pub fn want_bytes(&self) -> usize {
        self.want_bytes.max(BUFFER_BYTES_MIN)
    }

    /// A buffer of at most `max` bytes.
    pub fn take(&mut self, max: usize) -> Buffer {
        let size = self.want_bytes().min(max).max(1);
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut space = spare.unwrap_or_default();
        if space.len() < size {
            // Zeroed once for its life: safe Rust offers no read into uninitialised memory here.
            space = vec![0; size];
        }
        Buffer {
            space,
            home: Arc::clone(&self.spare),
        }
    }

    /// Tells how a read of `asked` bytes went, so that the next buffer fits.
    pub fn learn(&mut self, asked: usize, got: usize) {
        if got >= asked {
            self.want_bytes = self.want_bytes().saturating_mul(2).min(16 * 1024 * 1024);
        } else if got < asked / 4 {
            self.want_bytes = self.want_bytes() / 2;
        }
    }

    /// Lets go of spare buffers: the stream is idle.
    pub fn release(&mut self) {
        self.want_bytes = 0;
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }
}

impl Buffer {
    /// Where to read into.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.space
    }

    /// The first `filled` bytes, without copying; the buffer goes back to its pool when they are dropped.
    pub fn freeze(self, filled: usize) -> Bytes {
        Bytes::from_owner(Loan { buffer: self, filled })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let space = std::mem::take(&mut self.space);
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.len() < 2 {
            home.push(space);
        }
    }
}

struct Loan {
    buffer: Buffer,
    filled: usize,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.space[..self.filled]
    }
}
