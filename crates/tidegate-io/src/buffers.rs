//! Read buffers: taken when bytes are there, given back when the last piece of them is gone, sized by what the stream
//! has shown. The spare ones are shared by all streams of the process.
//!
//! Knows nothing of what is read into them.

use bytes::Bytes;

use crate::spare::Spares;

/// The smallest buffer taken.
pub const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// The largest a stream can earn.
const BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Spare buffers kept for good, and while streams are busy.
const SPARE_BYTES_KEEP: usize = 64 * 1024;
const SPARE_BYTES_MOST: usize = 4 * 1024 * 1024;

static SPARE: Spares<Vec<u8>> = Spares::new(SPARE_BYTES_KEEP, SPARE_BYTES_MOST, Vec::len);

/// What a stream has shown of its appetite. Holds no memory itself.
#[derive(Debug, Default)]
pub struct Buffers {
    want_bytes: u32,
}

/// A buffer on loan: read into `space`, then `freeze` what was filled.
#[derive(Debug)]
pub struct Buffer {
    space: Vec<u8>,
    size: usize,
}

impl Buffers {
    /// The size the stream has earned so far: doubles when reads fill it, falls when they do not.
    pub fn want_bytes(&self) -> usize {
        (self.want_bytes as usize).max(BUFFER_BYTES_MIN)
    }

    /// A buffer of at most `max` bytes, as large as the stream has earned.
    pub fn take(&mut self, max: usize) -> Buffer {
        Self::take_exact(self.want_bytes().min(max))
    }

    /// A buffer of `size` bytes, for who knows that so many will come.
    pub fn take_exact(size: usize) -> Buffer {
        let size = size.max(1);
        // Powers of two, so that buffers of one stream fit the next; not much larger than asked, so that small reads
        // do not tie up large buffers.
        let room = size.next_power_of_two().max(BUFFER_BYTES_MIN);
        let spare = SPARE.take(|space| space.len() >= room && space.len() <= room * 4);
        Buffer {
            // Zeroed once for its life: safe Rust offers no read into uninitialised memory here.
            space: spare.unwrap_or_else(|| vec![0; room]),
            size,
        }
    }

    /// Tells how a read of `asked` bytes went, so that the next buffer fits.
    pub fn learn(&mut self, asked: usize, got: usize) {
        let want_bytes = self.want_bytes();
        let next = if got >= asked {
            (want_bytes * 2).min(BUFFER_BYTES_MAX)
        } else if got < asked / 4 {
            want_bytes / 2
        } else {
            return;
        };
        self.want_bytes = next as u32;
    }
}

impl Buffer {
    /// Where to read into.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.space[..self.size]
    }

    /// The first `filled` bytes, without copying; the buffer goes back to the spare ones when they are dropped.
    pub fn freeze(self, filled: usize) -> Bytes {
        Bytes::from_owner(Loan { buffer: self, filled })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        SPARE.put(std::mem::take(&mut self.space));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stream_earns_large_buffers_and_loses_them_again() {
        let mut buffers = Buffers::default();
        for _ in 0..10 {
            let asked = buffers.want_bytes();
            buffers.learn(asked, asked);
        }
        assert_eq!(buffers.take(1 << 20).space().len(), 1 << 20);
        for _ in 0..20 {
            let asked = buffers.want_bytes();
            buffers.learn(asked, 1);
        }
        assert_eq!(buffers.take(1 << 20).space().len(), BUFFER_BYTES_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn spare_buffers_shrink_once_nobody_uses_them() {
        let large = (0..3).map(|_| Buffers::take_exact(1 << 20)).collect::<Vec<_>>();
        drop(large);
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        let kept = SPARE.len();
        assert!(kept <= SPARE_BYTES_KEEP / BUFFER_BYTES_MIN, "{kept} buffers kept");
        assert!(SPARE.take(|space| space.len() > SPARE_BYTES_KEEP).is_none());
    }
}
