//! Line ends of `TYPE A`, in each direction, across the borders of chunks.
//!
//! Refuses to know where bytes come from. RFC 959 §3.1.1.1: on the wire a line ends in CR LF. Locally it ends in LF, and
//! on Windows too: what is stored is then what was sent, and a file has one form everywhere. (Twisted: the ASCII
//! consumer wrapper, which converted uploads the wrong way: D90.)

use bytes::{BufMut, Bytes, BytesMut};

/// Local to wire: each LF gets its CR. A CR LF that is already there stays as it is, as vsftpd and ProFTPD have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToWire {
    last: u8,
}

/// Wire to local: CR LF becomes LF; a CR that no LF follows stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct FromWire {
    held: HeldCr,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum HeldCr {
    #[default]
    None,
    One,
}

impl ToWire {
    /// Converts the next chunk. Never holds anything back.
    pub fn convert(&mut self, chunk: &Bytes) -> Bytes {
        let mut last = self.last;
        self.last = chunk.last().copied().unwrap_or(last);
        let mut bare = 0;
        let mut before = last;
        for &byte in chunk {
            bare += usize::from(byte == b'\n' && before != b'\r');
            before = byte;
        }
        if bare == 0 {
            return chunk.clone();
        }
        let mut out = BytesMut::with_capacity(chunk.len() + bare);
        for &byte in chunk {
            if byte == b'\n' && last != b'\r' {
                out.put_u8(b'\r');
            }
            out.put_u8(byte);
            last = byte;
        }
        out.freeze()
    }
}

impl FromWire {
    /// Converts the next chunk. A CR at its end is held back until what follows is known; the result may be empty.
    pub fn convert(&mut self, chunk: &Bytes) -> Bytes {
        if self.held == HeldCr::None && !chunk.contains(&b'\r') {
            return chunk.clone();
        }
        let mut out = BytesMut::with_capacity(chunk.len() + 1);
        for &byte in chunk {
            if self.held == HeldCr::One && byte != b'\n' {
                out.put_u8(b'\r');
            }
            self.held = HeldCr::None;
            match byte {
                b'\r' => self.held = HeldCr::One,
                byte => out.put_u8(byte),
            }
        }
        out.freeze()
    }

    /// The stream is complete: what was held back, if anything.
    pub fn end(&mut self) -> Option<Bytes> {
        match std::mem::take(&mut self.held) {
            HeldCr::One => Some(Bytes::from_static(b"\r")),
            HeldCr::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_wire(chunks: &[&[u8]]) -> Vec<u8> {
        let mut convert = ToWire::default();
        let chunks = chunks
            .iter()
            .map(|chunk| convert.convert(&Bytes::copy_from_slice(chunk)));
        chunks.flat_map(|chunk| chunk.to_vec()).collect()
    }

    fn from_wire(chunks: &[&[u8]]) -> Vec<u8> {
        let mut convert = FromWire::default();
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&convert.convert(&Bytes::copy_from_slice(chunk)));
        }
        out.extend(convert.end().unwrap_or_default());
        out
    }

    #[test]
    fn downloads_get_their_cr_and_uploads_lose_it_d90() {
        assert_eq!(to_wire(&[b"a\nb\n"]), b"a\r\nb\r\n");
        assert_eq!(to_wire(&[b"a\r", b"\nb"]), b"a\r\nb");
        assert_eq!(to_wire(&[b"a", b"", b"\nb"]), b"a\r\nb");
        assert_eq!(from_wire(&[b"a\r\nb\r\n"]), b"a\nb\n");
        assert_eq!(from_wire(&[b"a\r", b"", b"\nb\r"]), b"a\nb\r");
        assert_eq!(from_wire(&[b"a\r\r\n\rb"]), b"a\r\n\rb");
    }

    proptest! {
        #[test]
        fn borders_of_chunks_do_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..40),
            cut in 0usize..40,
        ) {
            let (a, b) = text.split_at(cut.min(text.len()));
            let by_byte: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(to_wire(&[a, b]), to_wire(&[&text]));
            prop_assert_eq!(to_wire(&by_byte), to_wire(&[&text]));
            prop_assert_eq!(from_wire(&[a, b]), from_wire(&[&text]));
            prop_assert_eq!(from_wire(&by_byte), from_wire(&[&text]));
        }

        #[test]
        fn a_text_with_local_line_ends_survives_both_ways(text in "[a-c\n]{0,60}") {
            let wire = to_wire(&[text.as_bytes()]);
            prop_assert_eq!(from_wire(&[&wire]), text.as_bytes());
        }
    }
}
