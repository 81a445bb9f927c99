//! Replies: three digits and text, on one line or several, written and read.
//!
//! Refuses to know which reply belongs to which command. RFC 959 §4.2.

/// The most bytes one reply may take when it is read.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A reply: its code and its lines of text (never none).
///
/// ```
/// use tidegate_ftp::grammar::Reply;
/// assert_eq!(Reply::new(200, "fine").encode(), b"200 fine\r\n");
/// assert_eq!(
///     Reply::new(211, "Features").line(" SIZE").line("End").encode(),
///     b"211-Features\r\n SIZE\r\n211 End\r\n"
/// );
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// 100 to 599.
    pub code: u16,
    /// The lines of text, without code and line end.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, text: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            lines: vec![text.into()],
        }
    }

    /// The same with one more line.
    #[must_use]
    pub fn line(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.lines.push(text.into());
        self
    }

    /// The bytes for the wire. A line end inside a line becomes a space, a byte 255 is doubled (Telnet), and a middle
    /// line that could be taken for the last one is indented.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.lines.iter().map(|line| line.len() + 6).sum());
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            if index == last {
                out.extend_from_slice(format!("{:03} ", self.code).as_bytes());
            } else if index == 0 {
                out.extend_from_slice(format!("{:03}-", self.code).as_bytes());
            } else if line.first().is_some_and(u8::is_ascii_digit) {
                out.push(b' ');
            }
            for &byte in line {
                match byte {
                    b'\r' | b'\n' | 0 => out.push(b' '),
                    255 => out.extend_from_slice(&[255, 255]),
                    byte => out.push(byte),
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// The first line as text, for people.
    pub fn text(&self) -> String {
        self.lines
            .first()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .unwrap_or_default()
    }
}

/// What came is no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ReplyError {
    /// A first line without three digits and a space or hyphen.
    NoCode,
    /// Goes on for longer than 64 KiB.
    TooLong,
}

/// Reads replies out of a byte stream.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    open: Option<Reply>,
    open_bytes: usize,
}

impl Replies {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`ReplyError`]: the stream cannot be trusted any further.
    pub fn next_reply(&mut self) -> Option<Result<Reply, ReplyError>> {
        while let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
            self.open_bytes += line.len();
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            match self.add_line(&line) {
                Ok(None) => {}
                Ok(Some(reply)) => return Some(Ok(reply)),
                Err(error) => return Some(Err(error)),
            }
            if self.open_bytes > REPLY_BYTES_MAX {
                return Some(Err(ReplyError::TooLong));
            }
        }
        (self.bytes.len() > REPLY_BYTES_MAX).then_some(Err(ReplyError::TooLong))
    }

    fn add_line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let head = split_code(line);
        let Some(mut open) = self.open.take() else {
            let (code, mark, text) = head.ok_or(ReplyError::NoCode)?;
            let reply = Reply::new(code, text);
            return match mark {
                b'-' => {
                    self.open = Some(reply);
                    Ok(None)
                }
                _ => {
                    self.open_bytes = 0;
                    Ok(Some(reply))
                }
            };
        };
        match head {
            Some((code, b' ', text)) if code == open.code => {
                open.lines.push(text.to_vec());
                self.open_bytes = 0;
                Ok(Some(open))
            }
            // Some servers repeat `211-` on every line.
            Some((code, b'-', text)) if code == open.code => {
                open.lines.push(text.to_vec());
                self.open = Some(open);
                Ok(None)
            }
            _ => {
                open.lines.push(line.to_vec());
                self.open = Some(open);
                Ok(None)
            }
        }
    }
}

fn split_code(line: &[u8]) -> Option<(u16, u8, &[u8])> {
    let digits = line.get(..3)?;
    if !(b'1'..=b'5').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        None => Some((code, b' ', &[])),
        Some(mark @ (b' ' | b'-')) => Some((code, *mark, &line[4..])),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn drain(replies: &mut Replies) -> Vec<Result<Reply, ReplyError>> {
        std::iter::from_fn(|| replies.next_reply()).collect()
    }

    fn three_ways(bytes: &[u8], expected: &[Reply]) {
        let expected: Vec<_> = expected.iter().cloned().map(Ok).collect();
        let mut whole = Replies::default();
        whole.push(bytes);
        assert_eq!(drain(&mut whole), expected);

        let mut by_byte = Replies::default();
        let mut seen = Vec::new();
        for byte in bytes {
            by_byte.push(&[*byte]);
            seen.extend(drain(&mut by_byte));
        }
        assert_eq!(seen, expected);

        let mut trailing = Replies::default();
        trailing.push(bytes);
        trailing.push(b"22");
        assert_eq!(drain(&mut trailing), expected);
        trailing.push(b"0 hi\r\n");
        assert_eq!(drain(&mut trailing), [Ok(Reply::new(220, "hi"))]);
    }

    #[test]
    fn one_line_and_several() {
        three_ways(b"220 ready\r\n", &[Reply::new(220, "ready")]);
        three_ways(b"200\r\n", &[Reply::new(200, "")]);
        three_ways(
            b"211-Features\r\n SIZE\r\n 200 not the end\r\n211 End\r\n200 ok\r\n",
            &[
                Reply::new(211, "Features")
                    .line(" SIZE")
                    .line(" 200 not the end")
                    .line("End"),
                Reply::new(200, "ok"),
            ],
        );
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for wrong in ["hello\r\n", "2x0 no\r\n", "900 no\r\n", "200_no\r\n", "\r\n"] {
            let mut replies = Replies::default();
            replies.push(wrong.as_bytes());
            assert_eq!(replies.next_reply(), Some(Err(ReplyError::NoCode)), "{wrong}");
        }
        let mut endless = Replies::default();
        endless.push(&vec![b'2'; REPLY_BYTES_MAX + 1]);
        assert_eq!(endless.next_reply(), Some(Err(ReplyError::TooLong)));
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let sly = Reply::new(257, "\"a\r\n226 done\" made");
        assert_eq!(sly.encode(), b"257 \"a  226 done\" made\r\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            code in 100u16..600,
            lines in proptest::collection::vec("[ -~]{0,30}", 1..6),
        ) {
            let mut reply = Reply { code, lines: lines.into_iter().map(String::into_bytes).collect() };
            // A middle line that begins with a digit is indented on the wire.
            let count = reply.lines.len();
            for line in reply.lines.iter_mut().take(count - 1).skip(1) {
                if line.first().is_some_and(u8::is_ascii_digit) {
                    line.insert(0, b' ');
                }
            }
            let mut replies = Replies::default();
            replies.push(&reply.encode());
            prop_assert_eq!(drain(&mut replies), vec![Ok(reply)]);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut replies = Replies::default();
            replies.push(&bytes);
            let mut errors = 0;
            while let Some(reply) = replies.next_reply() {
                errors += usize::from(reply.is_err());
                if errors > 0 { break; }
            }
            prop_assert!(errors <= 1);
        }
    }
}
