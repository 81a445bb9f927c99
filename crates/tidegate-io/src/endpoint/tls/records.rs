//! Where in TLS's stream of records we are: how much of the next one has come, and how much of it is still to come.
//!
//! Knows the five bytes in front of a record and nothing of what is in it.

const HEADER_BYTES: usize = 5;

/// The record that is on its way in.
#[derive(Default)]
pub(super) struct Records {
    header: [u8; HEADER_BYTES],
    come: usize,
}

impl Records {
    /// These bytes follow the ones seen before.
    pub(super) fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match self.come {
                0..HEADER_BYTES => HEADER_BYTES - self.come,
                come => self.length() - come,
            };
            let (these, rest) = bytes.split_at(wanted.min(bytes.len()));
            if let Some(header) = self.header.get_mut(self.come..self.come + these.len()) {
                header.copy_from_slice(these);
            }
            self.come += these.len();
            if self.come >= HEADER_BYTES && self.come == self.length() {
                self.come = 0;
            }
            bytes = rest;
        }
    }

    /// What has come of a record that is not whole.
    pub(super) fn partial_bytes(&self) -> usize {
        self.come
    }

    /// What is missing of it; `None` between two records, and while its length is not known.
    pub(super) fn missing_bytes(&self) -> Option<usize> {
        (self.come >= HEADER_BYTES).then(|| self.length() - self.come)
    }

    fn length(&self) -> usize {
        HEADER_BYTES + usize::from(u16::from_be_bytes([self.header[3], self.header[4]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_apart_however_they_come() {
        let mut stream = Vec::new();
        for length in [0_u16, 1, 300, 16_401] {
            stream.extend([23, 3, 3]);
            stream.extend(length.to_be_bytes());
            stream.extend(std::iter::repeat_n(7, length.into()));
        }
        for piece in [1, 2, 5, 7, 4096, stream.len()] {
            let mut records = Records::default();
            let mut boundaries = 0;
            for bytes in stream.chunks(piece) {
                records.saw(bytes);
                boundaries += usize::from(records.partial_bytes() == 0);
            }
            assert_eq!(records.partial_bytes(), 0, "in pieces of {piece}");
            assert!(piece > 1 || boundaries == 4, "{boundaries}");
        }
        let mut records = Records::default();
        records.saw(&stream[..5 + 6 + 5 + 100]);
        assert_eq!(
            (records.partial_bytes(), records.missing_bytes()),
            (105, Some(200))
        );
        records.saw(&stream[5 + 6 + 5 + 100..5 + 6 + 5 + 300 + 3]);
        assert_eq!((records.partial_bytes(), records.missing_bytes()), (3, None));
    }
}
