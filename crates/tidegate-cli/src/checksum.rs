//! Checksums computed while bytes pass: a source around a source.
//!
//! Knows nothing of who asked, and compares with what was expected only at the clean end.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sha2::Digest;
use tidegate_io::{Blame, Buffers, EndpointError, ErrorKind, LaneEnd, LaneOp, RunAhead, Source};

/// The checksums there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Sha256,
    Blake3,
    Crc32,
}

/// What the user asked for: a kind, and perhaps the value it must have (lower-case hexadecimal).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) expected: Option<String>,
}

/// A finished checksum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Checksum {
    pub(crate) kind: Kind,
    pub(crate) hex: String,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Sha256, Self::Blake3, Self::Crc32];

    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
            Self::Crc32 => "crc32",
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 64,
            Self::Crc32 => 8,
        }
    }
}

impl Wanted {
    /// Reads `sha256` or `sha256=HEX`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, expected) = match text.split_once(['=', ':']) {
            Some((name, hex)) => (name, Some(hex.to_ascii_lowercase())),
            None => (text, None),
        };
        let Some(kind) = Kind::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
        else {
            return Err("write sha256, blake3 or crc32, and `=HEX` behind it to have it compared".to_owned());
        };
        match &expected {
            Some(hex) if hex.len() != kind.digits() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) => Err(
                format!("a {} has {} hexadecimal digits", kind.name(), kind.digits()),
            ),
            _ => Ok(Self { kind, expected }),
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.hex)
    }
}

/// The running computation.
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Blake3(Box<blake3::Hasher>),
    Crc32(crc32fast::Hasher),
}

impl Hasher {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Kind::Blake3 => Self::Blake3(Box::default()),
            Kind::Crc32 => Self::Crc32(crc32fast::Hasher::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Crc32(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(&self) -> Checksum {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hasher) => Checksum {
                kind: Kind::Sha256,
                hex: hex(&hasher.clone().finalize()),
            },
            Self::Blake3(hasher) => Checksum {
                kind: Kind::Blake3,
                hex: hasher.finalize().to_hex().to_string(),
            },
            Self::Crc32(hasher) => Checksum {
                kind: Kind::Crc32,
                hex: format!("{:08x}", hasher.clone().finalize()),
            },
        }
    }
}

/// Where the result can be read once the source has ended cleanly.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Checksum>>>);

impl Slot {
    /// The checksum of the whole stream; `None` before its clean end.
    pub(crate) fn get(&self) -> Option<Checksum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, checksum: Checksum) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(checksum);
    }
}

/// A source that hashes what passes. It shows no handle: its bytes must come through user space.
pub(crate) struct Checked<S> {
    inner: S,
    wanted: Wanted,
    hasher: Hasher,
    slot: Slot,
}

impl<S: Source> Checked<S> {
    pub(crate) fn new(inner: S, wanted: Wanted, slot: Slot) -> Self {
        let hasher = Hasher::new(wanted.kind);
        Self {
            inner,
            wanted,
            hasher,
            slot,
        }
    }

    fn end(&self) -> Result<(), EndpointError> {
        let found = self.hasher.finish();
        self.slot.set(found.clone());
        match &self.wanted.expected {
            Some(expected) if *expected != found.hex => Err(EndpointError::new(
                ErrorKind::Mismatch,
                Blame::Peer,
                format!("the {} is {}, not {expected}", found.kind.name(), found.hex),
            )),
            _ => Ok(()),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Source> Source for Checked<S> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        let read = ready!(self.inner.poll_read(cx, buffers, max))?;
        match &read {
            Some(bytes) => self.hasher.update(bytes),
            None => self.end()?,
        }
        Poll::Ready(Ok(read))
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        self.inner.poll_hangup(cx)
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_stop(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_discard(cx)
    }

    fn poll_confirm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_confirm(cx)
    }

    fn set_run_ahead(&mut self, ahead: RunAhead) {
        self.inner.set_run_ahead(ahead);
    }

    fn size_hint(&self) -> Option<u64> {
        self.inner.size_hint()
    }

    /// None: the bytes must be seen.
    fn lane_end(&self) -> Option<LaneEnd<'_>> {
        None
    }

    fn poll_lane(&mut self, _cx: &mut Context<'_>, _op: LaneOp<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn lane_moved(&mut self, _bytes: u64) {}

    fn name(&self) -> String {
        self.inner.name()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_three_kinds_agree_with_published_values_of_abc() {
        for (kind, hex) in [
            (
                Kind::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Kind::Blake3,
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            ),
            (Kind::Crc32, "352441c2"),
        ] {
            let mut hasher = Hasher::new(kind);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish().hex, hex);
        }
    }

    #[test]
    fn what_is_wanted_is_read_with_and_without_a_value() {
        assert_eq!(Wanted::parse("crc32").unwrap().expected, None);
        assert_eq!(
            Wanted::parse("CRC32=352441C2").unwrap().expected.as_deref(),
            Some("352441c2")
        );
        assert!(Wanted::parse("md5").is_err());
        assert!(Wanted::parse("sha256=12").unwrap_err().contains("64"));
    }
}
