//! The facts of `MLST` and `MLSD`: written in the order chosen with `OPTS MLST`, and read from other servers.
//!
//! Refuses to know where facts come from. RFC 3659 §7.

use super::time::{format_timestamp, parse_timestamp};

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// The directory that was listed.
    Current,
    /// Its parent.
    Parent,
    /// Anything else: a link, a device.
    Other,
}

/// A fact by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fact {
    /// `type`
    Type,
    /// `size`
    Size,
    /// `modify`
    Modify,
    /// `perm`
    Perm,
    /// `UNIX.mode`
    UnixMode,
    /// `unique`
    Unique,
}

impl Fact {
    /// All that we offer, in the order of `FEAT`.
    pub const ALL: [Self; 6] = [
        Self::Type,
        Self::Size,
        Self::Modify,
        Self::Perm,
        Self::UnixMode,
        Self::Unique,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Size => "size",
            Self::Modify => "modify",
            Self::Perm => "perm",
            Self::UnixMode => "UNIX.mode",
            Self::Unique => "unique",
        }
    }
}

/// Which facts a session wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FactSet {
    wanted: [Wanted; Fact::ALL.len()],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    Yes,
    No,
}

impl Default for FactSet {
    fn default() -> Self {
        Self {
            wanted: [Wanted::Yes; Fact::ALL.len()],
        }
    }
}

impl FactSet {
    /// From the argument of `OPTS MLST`: names with semicolons; unknown ones are left out (RFC 3659 §7.9).
    pub fn parse(argument: &[u8]) -> Self {
        let mut wanted = [Wanted::No; Fact::ALL.len()];
        for name in argument.split(|&byte| byte == b';') {
            for (slot, fact) in wanted.iter_mut().zip(Fact::ALL) {
                if name.eq_ignore_ascii_case(fact.name().as_bytes()) {
                    *slot = Wanted::Yes;
                }
            }
        }
        Self { wanted }
    }

    /// The wanted facts in order.
    pub fn iter(&self) -> impl Iterator<Item = Fact> + '_ {
        Fact::ALL
            .into_iter()
            .zip(self.wanted)
            .filter(|(_, wanted)| *wanted == Wanted::Yes)
            .map(|(fact, _)| fact)
    }

    /// `type;size;`, as the reply to `OPTS MLST` has it.
    pub fn names(&self) -> String {
        self.iter().map(|fact| format!("{};", fact.name())).collect()
    }

    /// The `FEAT` line: every fact, a star on the wanted ones (RFC 3659 §7.8).
    pub fn feature(&self) -> String {
        let facts = Fact::ALL.into_iter().zip(self.wanted).map(|(fact, wanted)| {
            let star = if wanted == Wanted::Yes { "*" } else { "" };
            format!("{}{star};", fact.name())
        });
        format!("MLST {}", facts.collect::<String>())
    }
}

/// What is known of one entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Bytes, for files.
    pub size: Option<u64>,
    /// Seconds since 1970.
    pub modify: Option<i64>,
    /// What may be done with it, in the letters of RFC 3659 §7.5.5.
    pub perm: Option<String>,
    /// The permission bits.
    pub unix_mode: Option<u32>,
    /// The same for two names of one thing.
    pub unique: Option<String>,
}

impl Facts {
    /// Facts of which only the kind is known.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            size: None,
            modify: None,
            perm: None,
            unix_mode: None,
            unique: None,
        }
    }

    /// `type=file;size=3; name`, with the facts of `set`.
    pub fn encode(&self, set: &FactSet, name: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for fact in set.iter() {
            if let Some(value) = self.value(fact) {
                out.extend_from_slice(format!("{}={value};", fact.name()).as_bytes());
            }
        }
        out.push(b' ');
        out.extend_from_slice(name);
        out
    }

    /// Reads a line of `MLSD`, or the middle line of a reply to `MLST`: the facts and the name. Facts we do not know,
    /// and values we cannot read, are passed over.
    pub fn parse(line: &[u8]) -> Option<(Self, &[u8])> {
        let line = line.strip_prefix(b" ").unwrap_or(line);
        let space = line.iter().position(|&byte| byte == b' ')?;
        let mut facts = Self::of(Kind::Other);
        for fact in line[..space]
            .split(|&byte| byte == b';')
            .filter(|fact| !fact.is_empty())
        {
            let equals = fact.iter().position(|&byte| byte == b'=')?;
            facts.set(&fact[..equals], std::str::from_utf8(&fact[equals + 1..]).ok()?);
        }
        Some((facts, &line[space + 1..]))
    }

    fn value(&self, fact: Fact) -> Option<String> {
        match fact {
            Fact::Type => Some(kind_name(self.kind).to_owned()),
            Fact::Size => self.size.map(|size| size.to_string()),
            Fact::Modify => self.modify.map(format_timestamp),
            Fact::Perm => self.perm.clone(),
            Fact::UnixMode => self.unix_mode.map(|mode| format!("{mode:04o}")),
            Fact::Unique => self.unique.clone(),
        }
    }

    fn set(&mut self, name: &[u8], value: &str) {
        let is = |fact: Fact| name.eq_ignore_ascii_case(fact.name().as_bytes());
        if is(Fact::Type) {
            self.kind = parse_kind(value);
        } else if is(Fact::Size) {
            self.size = value.parse().ok();
        } else if is(Fact::Modify) {
            self.modify = parse_timestamp(value.as_bytes());
        } else if is(Fact::Perm) {
            self.perm = Some(value.to_owned());
        } else if is(Fact::UnixMode) {
            self.unix_mode = u32::from_str_radix(value, 8).ok();
        } else if is(Fact::Unique) {
            self.unique = Some(value.to_owned());
        }
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Current => "cdir",
        Kind::Parent => "pdir",
        Kind::Other => "OS.unix=other",
    }
}

fn parse_kind(value: &str) -> Kind {
    match value.to_ascii_lowercase().as_str() {
        "file" => Kind::File,
        "dir" => Kind::Directory,
        "cdir" => Kind::Current,
        "pdir" => Kind::Parent,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn facts_are_written_as_chosen() {
        let mut facts = Facts::of(Kind::File);
        facts.size = Some(3);
        facts.modify = Some(0);
        facts.unix_mode = Some(0o644);
        assert_eq!(
            facts.encode(&FactSet::default(), b"a b"),
            b"type=file;size=3;modify=19700101000000;UNIX.mode=0644; a b"
        );
        let few = FactSet::parse(b"SIZE;nonsense;Type;");
        assert_eq!(few.names(), "type;size;");
        assert_eq!(facts.encode(&few, b"a"), b"type=file;size=3; a");
        assert_eq!(few.feature(), "MLST type*;size*;modify;perm;UNIX.mode;unique;");
        assert_eq!(facts.encode(&FactSet::parse(b""), b"a"), b" a");
    }

    #[test]
    fn lines_of_other_servers_are_read() {
        let (facts, name) = Facts::parse(b" Type=dir;Modify=20240229123456.1;x.y=z; a b").unwrap();
        assert_eq!(
            (facts.kind, facts.modify, name),
            (Kind::Directory, Some(1_709_210_096), &b"a b"[..])
        );
        assert!(Facts::parse(b"nothing").is_none());
        assert!(Facts::parse(b"size name").is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(size: u64, mode in 0u32..0o7777, name in "[ -~]{1,20}") {
            let mut facts = Facts::of(Kind::File);
            facts.size = Some(size);
            facts.unix_mode = Some(mode);
            let line = facts.encode(&FactSet::default(), name.as_bytes());
            let (read, read_name) = Facts::parse(&line).unwrap();
            prop_assert_eq!(read, facts);
            prop_assert_eq!(read_name, name.as_bytes());
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some((_, name)) = Facts::parse(&line) {
                prop_assert!(line.ends_with(name));
            }
        }
    }
}
