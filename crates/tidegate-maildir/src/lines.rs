//! Line ends of a message on their way to the disk: left alone, or all LF, or all CRLF.
//!
//! Pure and incremental; knows nothing of headers or bodies. A lone CR is data and stays.

use bytes::Bytes;

/// What to do with line ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LineEnds {
    /// The bytes are stored as they came.
    #[default]
    AsIs,
    /// CRLF becomes LF: what Maildir readers on Unix expect.
    Lf,
    /// A lone LF becomes CRLF.
    Crlf,
}

/// Rewrites line ends over any cut of the stream.
///
/// ```
/// use tidegate_maildir::{LineEnds, Normaliser};
/// let mut lines = Normaliser::new(LineEnds::Lf);
/// let mut out = lines.push(b"one\r".as_slice().into()).to_vec();
/// out.extend(lines.push(b"\ntwo\r".as_slice().into()));
/// out.extend(lines.end());
/// assert_eq!(out, b"one\ntwo\r");
/// ```
#[derive(Clone, Debug)]
pub struct Normaliser {
    line_ends: LineEnds,
    /// The last byte seen was a CR: written already for `Crlf`, held back for `Lf`.
    after_cr: bool,
}

impl Normaliser {
    /// A normaliser at the start of a message.
    pub fn new(line_ends: LineEnds) -> Self {
        Self {
            line_ends,
            after_cr: false,
        }
    }

    /// Takes the next piece and gives what can be stored now. As-is costs nothing.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        match self.line_ends {
            LineEnds::AsIs => piece,
            LineEnds::Lf => self.with_lf(&piece),
            LineEnds::Crlf => self.with_crlf(&piece),
        }
    }

    /// The message is complete: gives what was held back.
    pub fn end(&mut self) -> Bytes {
        let held_back = self.line_ends == LineEnds::Lf && std::mem::take(&mut self.after_cr);
        if held_back {
            Bytes::from_static(b"\r")
        } else {
            Bytes::new()
        }
    }

    fn with_lf(&mut self, piece: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(piece.len() + 1);
        for &byte in piece {
            if self.after_cr && byte != b'\n' {
                out.push(b'\r');
            }
            self.after_cr = byte == b'\r';
            if !self.after_cr {
                out.push(byte);
            }
        }
        out.into()
    }

    fn with_crlf(&mut self, piece: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(piece.len() + piece.len() / 32 + 1);
        for &byte in piece {
            if byte == b'\n' && !self.after_cr {
                out.push(b'\r');
            }
            self.after_cr = byte == b'\r';
            out.push(byte);
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_at_once(line_ends: LineEnds, text: &[u8]) -> Vec<u8> {
        in_pieces(line_ends, text, text.len().max(1))
    }

    fn in_pieces(line_ends: LineEnds, text: &[u8], piece_bytes: usize) -> Vec<u8> {
        let mut lines = Normaliser::new(line_ends);
        let mut out = Vec::new();
        for piece in text.chunks(piece_bytes) {
            out.extend(lines.push(Bytes::copy_from_slice(piece)));
        }
        out.extend(lines.end());
        out
    }

    #[test]
    fn the_three_choices() {
        let text = b"a\r\nb\nc\rd\r\r\n\n";
        assert_eq!(all_at_once(LineEnds::AsIs, text), text);
        assert_eq!(all_at_once(LineEnds::Lf, text), b"a\nb\nc\rd\r\n\n");
        assert_eq!(all_at_once(LineEnds::Crlf, text), b"a\r\nb\r\nc\rd\r\r\n\r\n");
    }

    proptest! {
        #[test]
        fn the_cut_does_not_matter(text in "[a\r\n]{0,40}", piece_bytes in 1usize..5) {
            for line_ends in [LineEnds::AsIs, LineEnds::Lf, LineEnds::Crlf] {
                let whole = all_at_once(line_ends, text.as_bytes());
                prop_assert_eq!(in_pieces(line_ends, text.as_bytes(), piece_bytes), whole.clone());
                if line_ends == LineEnds::Crlf {
                    // Twice is once.
                    prop_assert_eq!(all_at_once(line_ends, &whole), whole);
                }
            }
        }
    }
}
