//! The grammar of addresses: text in, a typed [`Address`] or an error with its position out. Pure.
//!
//! Knows nothing of files or sockets: whether what an address names exists is found out by opening it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::body::Body;
use super::error::{AddressError, error};
use super::options::{Options, split_options};
use super::slips::nearest;
use super::table::{Role, Row, Scheme, Shape, TABLE};

/// An address that is well formed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// As the user wrote it.
    pub(crate) text: String,
    pub(crate) scheme: Scheme,
    pub(crate) place: Place,
    /// `,name=value` in order; the value of an option that takes none is empty.
    pub(crate) options: Options,
}

/// What an address points at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Stdio,
    Path(PathBuf),
    HostPort { host: String, port: u16 },
    Number(i32),
    Command(Vec<String>),
    Line(String),
    Url(String),
    Named { host: String, port: u16, name: String },
}

impl Address {
    /// Parses what was written on the command line.
    ///
    /// # Errors
    /// [`AddressError`] with the position and a suggestion.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, AddressError> {
        match text.to_str() {
            Some(text) => Self::parse_str(text),
            None => Ok(Self::literal(text.to_owned())),
        }
    }

    fn parse_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(error(
                text,
                0,
                "the address is empty",
                Some("- for standard input or output".into()),
            ));
        }
        if text == "-" {
            return Ok(Self {
                text: text.to_owned(),
                scheme: Scheme::Stdio,
                place: Place::Stdio,
                options: Vec::new(),
            });
        }
        let Some(colon) = text.find(':') else {
            return Ok(Self::literal(text.into()));
        };
        let name = &text[..colon];
        match TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(name)) {
            Some(row) => parse_with(row, text, colon + 1),
            None if text[colon..].starts_with("://") && is_scheme_like(name) => {
                Err(unknown_scheme(text, name))
            }
            None => Ok(Self::literal(text.into())),
        }
    }

    fn literal(path: OsString) -> Self {
        Self {
            text: path.to_string_lossy().into_owned(),
            scheme: Scheme::File,
            place: Place::Path(path.into()),
            options: Vec::new(),
        }
    }

    /// Its row of the table.
    pub(crate) fn row(&self) -> &'static Row {
        Row::of(self.scheme)
    }

    /// Refuses an address in a place it cannot stand in.
    ///
    /// # Errors
    /// [`AddressError`] that says what the address can be.
    pub(crate) fn check_role(&self, role: Role) -> Result<(), AddressError> {
        if self.row().plays(role) {
            return Ok(());
        }
        let can: Vec<&str> = self.row().roles.iter().map(|role| role.word()).collect();
        let can = can.join(" or ");
        Err(error(
            &self.text,
            0,
            format!("`{}:` cannot be a {}, only a {can}", self.row().name, role.word()),
            (role == Role::Relay).then(|| {
                "tcp://HOST:PORT, unix:PATH, - or the like; one way only, `tidegate SRC DST`".to_owned()
            }),
        ))
    }

    /// The value of an option, the last one if it was given twice.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a URL carries a password, which other users can see in the process list.
    pub(crate) fn shows_password(&self) -> bool {
        let Place::Url(url) = &self.place else {
            return false;
        };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    }
}

/// One scheme's part after the colon.
fn parse_with(row: &'static Row, text: &str, start: usize) -> Result<Address, AddressError> {
    let start = match row.shape {
        Shape::Line | Shape::Command | Shape::Url => start,
        _ if text[start..].starts_with("//") => start + 2,
        _ => start,
    };
    let whole = &text[start..];
    let (body, options) = if row.options.is_empty() {
        refuse_options(row, text, start)?;
        (whole, Vec::new())
    } else {
        split_options(row, text, start)?
    };
    let place = Body {
        row,
        text,
        start,
        body,
    }
    .place()?;
    Ok(Address {
        text: text.to_owned(),
        scheme: row.scheme,
        place,
        options,
    })
}

/// A comma where neither an option nor a host can hold one.
fn refuse_options(row: &Row, text: &str, start: usize) -> Result<(), AddressError> {
    let holds_none = matches!(row.shape, Shape::Connect | Shape::Listen | Shape::Number);
    match text[start..].find(',') {
        Some(comma) if holds_none => {
            let option = text[start + comma + 1..].split([',', '=']).next().unwrap_or("");
            let hint = match option {
                "fork" => format!(
                    "tidegate relay {} B, which takes many connections",
                    &text[..start + comma]
                ),
                _ => text[..start + comma].to_owned(),
            };
            let what = format!("`{}:` has no options", row.name);
            Err(error(text, start + comma, what, Some(hint)))
        }
        _ => Ok(()),
    }
}

fn is_scheme_like(name: &str) -> bool {
    // One letter is a drive.
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn unknown_scheme(text: &str, name: &str) -> AddressError {
    let names = TABLE.iter().map(|row| row.name).filter(|name| *name != "-");
    let hint = match nearest(name, names) {
        Some(near) => format!("{near}{}", &text[name.len()..]),
        None => format!("`tidegate --help addresses`; for a file of that name, file:{text}"),
    };
    error(text, 0, format!("`{name}` is no scheme known here"), Some(hint))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(OsStr::new(text))
    }

    fn place(text: &str) -> Place {
        parse(text).unwrap().place
    }

    fn host_port(host: &str, port: u16) -> Place {
        Place::HostPort {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn a_bare_path_is_literal() {
        for path in [
            "big.iso",
            "a,b",
            "a:b",
            "C:\\x",
            "50%2Coff",
            "tcp",
            "/tmp/x,y=z:1",
            "./tcp:x",
            "tpc:x:1",
        ] {
            assert_eq!(place(path), Place::Path(path.into()), "{path}");
        }
    }

    #[test]
    fn file_addresses_decode_escapes_and_keep_commas() {
        assert_eq!(place("file:a,b"), Place::Path("a,b".into()));
        assert_eq!(place("file:a%2Cb"), Place::Path("a,b".into()));
        assert_eq!(place("file:///tmp/x"), Place::Path("/tmp/x".into()));
        assert_eq!(place("file://localhost/tmp/x"), Place::Path("/tmp/x".into()));
        assert_eq!(place("file:tcp:x"), Place::Path("tcp:x".into()));
        assert_eq!(parse("file:a%zz").unwrap_err().at, 6);
        assert!(
            parse("file://elsewhere/x")
                .unwrap_err()
                .what
                .contains("another host")
        );
    }

    #[test]
    fn network_schemes_are_taken_with_and_without_slashes() {
        for text in ["tcp://127.0.0.1:9", "tcp:127.0.0.1:9", "TCP:127.0.0.1:9"] {
            assert_eq!(place(text), host_port("127.0.0.1", 9), "{text}");
        }
        assert_eq!(place("tcp-listen::9"), host_port("", 9));
        assert_eq!(place("tcp-listen://:9"), host_port("", 9));
        assert_eq!(place("tcp-listen://127.0.0.1:9"), host_port("127.0.0.1", 9));
        assert_eq!(place("tcp-listen:127.0.0.1:0"), host_port("127.0.0.1", 0));
        assert_eq!(place("tcp://[::1]:80"), host_port("::1", 80));
        assert_eq!(place("unix:///run/x"), Place::Path("/run/x".into()));
        assert_eq!(place("unix:x.sock"), Place::Path("x.sock".into()));
        assert_eq!(place("http:host/x,y"), Place::Url("http://host/x,y".into()));
        assert_eq!(
            place("https://[::1]:8443/x"),
            Place::Url("https://[::1]:8443/x".into())
        );
        assert_eq!(
            place("pb-listen:127.0.0.1:87/a%2Cb"),
            Place::Named {
                host: "127.0.0.1".into(),
                port: 87,
                name: "a,b".into()
            }
        );
    }

    #[test]
    fn commands_and_numbers() {
        assert_eq!(place("fd:3"), Place::Number(3));
        assert_eq!(
            place("exec:printf \"a b\" c,d"),
            Place::Command(vec!["printf".into(), "a b".into(), "c,d".into()])
        );
        assert_eq!(place("sh:echo %2C | cat"), Place::Line("echo %2C | cat".into()));
    }

    #[test]
    fn errors_point_at_the_place_and_suggest() {
        for (text, at, what) in [
            ("", 0, "empty"),
            ("tcp://127.0.0.1", 15, "port is missing"),
            ("tcp:host", 8, "port is missing"),
            ("tcp://host:", 11, "port is missing"),
            ("tcp://host:99999", 11, "1 to 65535"),
            ("tcp://host:+9", 11, "1 to 65535"),
            ("tcp://host:0", 11, "port 0"),
            ("tcp://:9", 6, "host is missing"),
            ("tcp://ho st:9", 8, "cannot stand"),
            ("tcp://::1:9", 6, "brackets"),
            ("tcp://[::1", 6, "never closed"),
            ("tcp://[::1]", 11, "port is missing"),
            ("tcp-listen:9000", 11, "address before the port"),
            ("tpc://h:9", 0, "no scheme"),
            ("zzz://h:9", 0, "no scheme"),
            ("unix:", 5, "path is missing"),
            ("fd:x", 3, "number"),
            ("exec:", 5, "command is missing"),
            ("exec:a \"b", 7, "never closed"),
            ("sh: ", 3, "missing"),
            ("http://", 7, "host is missing"),
            ("http://h:x/", 9, "1 to 65535"),
            ("http://h/a b", 10, "spaces"),
            ("pb://h:1", 8, "name"),
            ("tcp-listen://127.0.0.1:9,fork", 24, "has no options"),
            ("fd:3,x", 4, "has no options"),
            ("tls://h:1,cert", 14, "needs a value"),
            ("tls://h:1,crt=x", 10, "no option"),
            ("tls://h:1,insecure=x", 18, "no value"),
            ("maildir:m,create=maybe", 17, "one of"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(
                (error.at, true),
                (at, error.what.contains(what)),
                "{text}: {error}"
            );
        }
        assert_eq!(parse("tpc://h:9").unwrap_err().hint.as_deref(), Some("tcp://h:9"));
        assert!(
            parse("tcp-listen:9000")
                .unwrap_err()
                .hint
                .unwrap()
                .contains("tcp-listen://:9000")
        );
        let shown = parse("tcp://127.0.0.1").unwrap_err().to_string();
        assert_eq!(
            shown,
            "the port is missing\n  tcp://127.0.0.1\n                 ^\n  try tcp://127.0.0.1:9000"
        );
    }

    #[test]
    fn options_are_split_at_commas_and_unescaped() {
        let address = parse("tls://h:1,ca=a%2Cb.pem,insecure").unwrap();
        assert_eq!(address.option("ca"), Some("a,b.pem"));
        assert_eq!(address.option("insecure"), Some(""));
        assert_eq!(address.option("key"), None);
    }

    #[test]
    fn every_scheme_is_taken_with_and_without_slashes() {
        for row in TABLE {
            if matches!(row.shape, Shape::Dash | Shape::Command | Shape::Line) {
                continue;
            }
            let rest = row.example.split_once(':').unwrap().1;
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            let bare = parse(&format!("{}:{rest}", row.name)).unwrap();
            // A file URL names a host before the path.
            let rest = if row.scheme == Scheme::File {
                format!("/{rest}")
            } else {
                rest.to_owned()
            };
            let slashed = parse(&format!("{}://{rest}", row.name)).unwrap();
            assert_eq!(bare.scheme, slashed.scheme);
            match (&bare.place, &slashed.place) {
                (Place::Path(bare), Place::Path(slashed)) if row.scheme == Scheme::File => {
                    assert_eq!(std::path::Path::new("/").join(bare), *slashed);
                }
                (bare, slashed) => assert_eq!(bare, slashed, "{}", row.name),
            }
            assert_eq!(bare.options, slashed.options);
        }
    }

    #[test]
    fn every_example_of_the_table_parses_to_its_scheme() {
        for row in TABLE {
            let address = parse(row.example).unwrap();
            assert_eq!(address.scheme, row.scheme);
            for role in row.roles {
                address.check_role(*role).unwrap();
            }
        }
        let error = parse("maildir:x").unwrap().check_role(Role::Source).unwrap_err();
        assert!(error.what.contains("only a sink"), "{error}");
    }

    #[test]
    fn a_password_in_a_url_is_noticed() {
        assert!(parse("ftp://me:secret@h/x").unwrap().shows_password());
        assert!(!parse("ftp://me@h:21/x").unwrap().shows_password());
        assert!(!parse("http://h/a:b@c").unwrap().shows_password());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser_and_every_error_can_be_shown(text in "\\PC{0,40}") {
            if let Err(error) = parse(&text) {
                prop_assert!(error.at <= text.len());
                prop_assert!(error.to_string().contains('^'));
            }
        }

        #[test]
        fn no_rest_breaks_any_scheme(row in 0..TABLE.len(), rest in "[ -~é\u{1}]{0,30}") {
            let text = format!("{}:{rest}", TABLE[row].name);
            if let Err(error) = parse(&text) {
                prop_assert!(error.at <= text.len());
                prop_assert!(error.to_string().contains('^'));
            }
        }
    }
}
