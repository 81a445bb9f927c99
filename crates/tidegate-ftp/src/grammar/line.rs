//! Command lines out of a byte stream: ends of line, Telnet sequences, and the length limit.
//!
//! Refuses to know what a line says. RFC 959 §4.1.3 and §5.3; RFC 854 for the Telnet bytes that clients send before
//! `ABOR`.

const IAC: u8 = 255;
const WILL: u8 = 251;
const DONT: u8 = 254;

/// Splits a byte stream into command lines and holds at most one unfinished line plus what was pushed.
///
/// Telnet commands (`IAC IP`, `IAC DM`, option negotiation) are dropped, a doubled `IAC` is one byte 255. A line ends at
/// `LF`; a `CR` before it belongs to the end.
///
/// ```
/// use tidegate_ftp::grammar::Lines;
/// let mut lines = Lines::new(512);
/// lines.push(b"NOOP\r\nQU");
/// assert_eq!(lines.next_line().unwrap().unwrap(), b"NOOP");
/// assert!(lines.next_line().is_none());
/// ```
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    bytes: Vec<u8>,
    telnet: Telnet,
    skipping: Skipping,
}

/// Why a line is not handed out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LineError {
    /// Longer than the limit; it was dropped up to its end.
    TooLong,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Telnet {
    Text,
    Command,
    Option,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Skipping {
    No,
    Rest,
}

impl Lines {
    /// Lines of at most `line_bytes_max` bytes, the end of line not counted.
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            line_bytes_max,
            bytes: Vec::new(),
            telnet: Telnet::Text,
            skipping: Skipping::No,
        }
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len());
        for &byte in bytes {
            if let Some(text) = self.strip_telnet(byte) {
                self.bytes.push(text);
            }
        }
    }

    /// The next whole line, without its end; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`LineError::TooLong`] once for each line that passes the limit, as soon as that is known.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        loop {
            let end = self.bytes.iter().position(|&byte| byte == b'\n');
            match (self.skipping, end) {
                (Skipping::Rest, Some(end)) => {
                    self.bytes.drain(..=end);
                    self.skipping = Skipping::No;
                }
                (Skipping::Rest, None) => {
                    self.bytes = Vec::new();
                    return None;
                }
                (Skipping::No, Some(end)) => return Some(self.take_line(end)),
                // One byte more than the limit may be the CR of an end that is still to come.
                (Skipping::No, None) if self.bytes.len() > self.line_bytes_max + 1 => {
                    self.bytes = Vec::new();
                    self.skipping = Skipping::Rest;
                    return Some(Err(LineError::TooLong));
                }
                (Skipping::No, None) => return None,
            }
        }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn take_line(&mut self, end: usize) -> Result<Vec<u8>, LineError> {
        let rest = self.bytes.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > self.line_bytes_max {
            return Err(LineError::TooLong);
        }
        Ok(line)
    }

    fn strip_telnet(&mut self, byte: u8) -> Option<u8> {
        let (next, text) = match (self.telnet, byte) {
            (Telnet::Text, IAC) => (Telnet::Command, None),
            (Telnet::Text, byte) => (Telnet::Text, Some(byte)),
            (Telnet::Command, IAC) => (Telnet::Text, Some(IAC)),
            (Telnet::Command, WILL..=DONT) => (Telnet::Option, None),
            (Telnet::Command | Telnet::Option, _) => (Telnet::Text, None),
        };
        self.telnet = next;
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    type Line = Result<Vec<u8>, LineError>;

    fn all(lines: &mut Lines) -> Vec<Line> {
        std::iter::from_fn(|| lines.next_line()).collect()
    }

    fn whole(bytes: &[u8], max: usize) -> Vec<Line> {
        let mut lines = Lines::new(max);
        lines.push(bytes);
        all(&mut lines)
    }

    fn by_byte(bytes: &[u8], max: usize) -> Vec<Line> {
        let mut lines = Lines::new(max);
        let mut seen = Vec::new();
        for byte in bytes {
            lines.push(&[*byte]);
            seen.extend(all(&mut lines));
        }
        seen
    }

    fn with_trailing(bytes: &[u8], max: usize) -> Vec<Line> {
        let mut lines = Lines::new(max);
        let mut more = bytes.to_vec();
        more.extend_from_slice(b"tra");
        lines.push(&more);
        let seen = all(&mut lines);
        lines.push(b"il\r\n");
        assert_eq!(all(&mut lines), [Ok(b"trail".to_vec())]);
        seen
    }

    fn three_ways(bytes: &[u8], max: usize, expected: &[Line]) {
        assert_eq!(whole(bytes, max), expected);
        assert_eq!(by_byte(bytes, max), expected);
        assert_eq!(with_trailing(bytes, max), expected);
    }

    #[test]
    fn lines_end_at_lf_with_or_without_cr() {
        three_ways(
            b"NOOP\r\nQUIT\n\r\n",
            8,
            &[Ok(b"NOOP".to_vec()), Ok(b"QUIT".to_vec()), Ok(vec![])],
        );
    }

    #[test]
    fn telnet_commands_are_dropped_and_a_doubled_iac_is_kept() {
        three_ways(b"\xff\xf4\xff\xf2ABOR\r\n", 8, &[Ok(b"ABOR".to_vec())]);
        three_ways(b"\xff\xfb\x01RETR \xff\xff\r\n", 8, &[Ok(b"RETR \xff".to_vec())]);
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_over_it_is_dropped_whole() {
        three_ways(
            b"12345678\r\nNOOP\r\n",
            8,
            &[Ok(b"12345678".to_vec()), Ok(b"NOOP".to_vec())],
        );
        three_ways(
            b"123456789\r\nNOOP\r\n",
            8,
            &[Err(LineError::TooLong), Ok(b"NOOP".to_vec())],
        );
        three_ways(
            b"a line that goes on and on\r\nNOOP\r\n",
            8,
            &[Err(LineError::TooLong), Ok(b"NOOP".to_vec())],
        );
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_gives_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(255u8), any::<u8>()], 0..200),
        ) {
            // Only the moment at which an overlong line is reported may differ, never the list.
            prop_assert_eq!(whole(&bytes, 10), by_byte(&bytes, 10));
        }

        #[test]
        fn what_is_held_between_lines_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut lines = Lines::new(10);
            for byte in bytes {
                lines.push(&[byte]);
                let _ = all(&mut lines);
                prop_assert!(lines.held_bytes() <= 11);
            }
        }
    }
}
