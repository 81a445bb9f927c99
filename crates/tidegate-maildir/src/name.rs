//! The grammar of a message's unique name: what we generate, and what of it we can read back.
//!
//! Pure: the clock, the process id and the host are handed in; knows nothing of directories.

use std::fmt;
use std::time::Duration;

/// A unique name: `SECONDS.MmicrosecondsPpidQcounterRrandom.host`, and `,S=size` once the size is known.
///
/// ```
/// use std::time::Duration;
/// use tidegate_maildir::UniqueName;
/// let name = UniqueName::new(Duration::new(1_700_000_000, 42_000), 7, 3, 0xbeef, "a/b:c");
/// assert_eq!(name.to_string(), r"1700000000.M000042P7Q3Rbeef.a\057b\072c");
/// assert_eq!(name.with_size(10).to_string(), r"1700000000.M000042P7Q3Rbeef.a\057b\072c,S=10");
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UniqueName {
    seconds: u64,
    micros: u32,
    pid: u32,
    counter: u64,
    random: u64,
    host: String,
    size: Option<u64>,
}

/// Why a text is not a unique name of this grammar.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Three parts separated by dots are needed.
    #[error("a unique name has three parts separated by dots")]
    Parts,
    /// The first part is not a number of seconds.
    #[error("a unique name starts with a number of seconds")]
    Seconds,
    /// The middle part is not `M…P…Q…R…`.
    #[error("the middle of a unique name is M, P, Q and R, each with its number")]
    Middle,
    /// The host is empty or holds `/`, `:` or a control character.
    #[error("the host part is empty or holds a character that must be escaped")]
    Host,
    /// What follows the comma is not `S=` and a number.
    #[error("what follows the comma is not a size")]
    Size,
}

impl UniqueName {
    /// A name from the time since the epoch, the process id, a counter of this process, randomness and the host.
    pub fn new(since_epoch: Duration, pid: u32, counter: u64, random: u64, host: &str) -> Self {
        Self {
            seconds: since_epoch.as_secs(),
            micros: since_epoch.subsec_micros(),
            pid,
            counter,
            random,
            host: escape_host(host),
            size: None,
        }
    }

    /// The same name with the message's size, which readers use instead of a `stat`.
    #[must_use]
    pub fn with_size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Reads a name of this grammar.
    ///
    /// # Errors
    /// [`NameError`] says which part does not fit.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (name, size) = match text.split_once(',') {
            Some((name, info)) => (name, Some(parse_size(info)?)),
            None => (text, None),
        };
        let mut parts = name.splitn(3, '.');
        let (Some(seconds), Some(middle), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NameError::Parts);
        };
        let seconds = decimal(seconds).ok_or(NameError::Seconds)?;
        let (micros, pid, counter, random) = parse_middle(middle).ok_or(NameError::Middle)?;
        if !host_is_clean(host) {
            return Err(NameError::Host);
        }
        let host = host.to_owned();
        Ok(Self {
            seconds,
            micros,
            pid,
            counter,
            random,
            host,
            size,
        })
    }

    /// The size the name carries.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// When the delivery began, in seconds since the epoch.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }
}

impl fmt::Display for UniqueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seconds,
            micros,
            pid,
            counter,
            random,
            host,
            size,
        } = self;
        write!(f, "{seconds}.M{micros:06}P{pid}Q{counter}R{random:x}.{host}")?;
        match size {
            Some(size) => write!(f, ",S={size}"),
            None => Ok(()),
        }
    }
}

/// `/` and `:` cannot stand in a file name of a mailbox; a comma would start the size; the rest that a shell or a
/// reader trips over is dropped.
fn escape_host(host: &str) -> String {
    let mut escaped = String::with_capacity(host.len());
    for character in host.chars() {
        match character {
            '/' => escaped.push_str(r"\057"),
            ':' => escaped.push_str(r"\072"),
            ',' => escaped.push_str(r"\054"),
            c if c.is_control() || c.is_whitespace() => {}
            c => escaped.push(c),
        }
    }
    if escaped.is_empty() {
        "localhost".to_owned()
    } else {
        escaped
    }
}

fn host_is_clean(host: &str) -> bool {
    !host.is_empty()
        && !host.contains(['/', ':', ','])
        && !host.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn parse_size(info: &str) -> Result<u64, NameError> {
    info.strip_prefix("S=").and_then(decimal).ok_or(NameError::Size)
}

fn parse_middle(middle: &str) -> Option<(u32, u32, u64, u64)> {
    let rest = middle.strip_prefix('M')?;
    let (micros, rest) = rest.split_once('P')?;
    let (pid, rest) = rest.split_once('Q')?;
    let (counter, random) = rest.split_once('R')?;
    let micros = (micros.len() == 6).then(|| decimal(micros))??;
    let hexadecimal = !random.is_empty()
        && random
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let random = hexadecimal.then(|| u64::from_str_radix(random, 16).ok())??;
    Some((
        micros.try_into().ok()?,
        decimal(pid)?.try_into().ok()?,
        decimal(counter)?,
        random,
    ))
}

/// Digits only: `u64::from_str` would also take a plus sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_a_name() {
        let cases = [
            ("", NameError::Parts),
            ("1.M000001P1Q1R1", NameError::Parts),
            ("x.M000001P1Q1R1.host", NameError::Seconds),
            ("+1.M000001P1Q1R1.host", NameError::Seconds),
            ("1.M1P1Q1R1.host", NameError::Middle),
            ("1.M000001P1Q1Rxyz.host", NameError::Middle),
            ("1.M000001P1Q1R.host", NameError::Middle),
            ("1.P1.host", NameError::Middle),
            ("1.M000001P1Q1R1.ho/st", NameError::Host),
            ("1.M000001P1Q1R1.", NameError::Host),
            ("1.M000001P1Q1R1.host,S=", NameError::Size),
            ("1.M000001P1Q1R1.host,W=4", NameError::Size),
        ];
        for (text, error) in cases {
            assert_eq!(UniqueName::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_generated_name_is_read_back_and_is_a_safe_file_name(
            since in any::<u32>(), micros in 0u32..1_000_000, pid: u32, counter: u64, random: u64, host in ".{0,40}",
            size in proptest::option::of(any::<u64>()),
        ) {
            let since = Duration::new(u64::from(since), micros * 1_000);
            let mut name = UniqueName::new(since, pid, counter, random, &host);
            if let Some(size) = size {
                name = name.with_size(size);
            }
            let text = name.to_string();
            prop_assert!(!text.contains(['/', ':', '\0', '\n']) && !text.starts_with('.'));
            prop_assert_eq!(UniqueName::parse(&text), Ok(name));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            if let Ok(name) = UniqueName::parse(&text) {
                prop_assert_eq!(UniqueName::parse(&name.to_string()), Ok(name));
            }
        }
    }
}
