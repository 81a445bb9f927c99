//! The grammar of addresses: text in, a typed [`Address`] or an error with its position out. Pure.
//!
//! Knows nothing of files or sockets: whether what an address names exists is found out by opening it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

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

/// What is wrong with an address, where, and what would be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AddressError {
    pub(crate) text: String,
    /// Byte offset into `text`.
    pub(crate) at: usize,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
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
            None,
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
        (whole, Vec::new())
    } else {
        split_options(row, text, start)?
    };
    let at = Body {
        row,
        text,
        start,
        body,
    };
    let place = match row.shape {
        Shape::Dash => Place::Stdio,
        Shape::Path => at.path()?,
        Shape::Connect | Shape::Listen => at
            .host_port(body)
            .map(|(host, port)| Place::HostPort { host, port })?,
        Shape::ConnectName | Shape::ListenName => at.named()?,
        Shape::Number => at.number()?,
        Shape::Command => at.command()?,
        Shape::Line => at.line()?,
        Shape::Url => at.url()?,
    };
    Ok(Address {
        text: text.to_owned(),
        scheme: row.scheme,
        place,
        options,
    })
}

struct Body<'a> {
    row: &'static Row,
    text: &'a str,
    start: usize,
    body: &'a str,
}

impl Body<'_> {
    fn path(&self) -> Result<Place, AddressError> {
        if self.body.is_empty() {
            return Err(self.wrong(0, "the path is missing"));
        }
        let slashes = self.row.scheme == Scheme::File && self.text[..self.start].ends_with("//");
        let body = match slashes {
            true if self.body.starts_with('/') => self.body,
            true => match self.body.strip_prefix("localhost/") {
                Some(_) => &self.body["localhost".len()..],
                None => {
                    let hint = format!("file:{} or file:///{}", self.body, self.body);
                    return Err(self.hinted(0, "a file on another host cannot be opened", hint));
                }
            },
            false => self.body,
        };
        Ok(Place::Path(self.unescape(body)?.into()))
    }

    fn number(&self) -> Result<Place, AddressError> {
        match self.body.parse::<i32>() {
            Ok(number) if number >= 0 => Ok(Place::Number(number)),
            _ => Err(self.wrong(0, "a descriptor is a number from 0 up")),
        }
    }

    fn command(&self) -> Result<Place, AddressError> {
        match shell_words::split(self.body) {
            Ok(words) if words.is_empty() => Err(self.wrong(0, "the command is missing")),
            Ok(words) => Ok(Place::Command(words)),
            Err(_) => {
                let at = self.body.rfind(['"', '\'']).unwrap_or(self.body.len());
                Err(self.hinted(at, "this quote is never closed", "exec:printf 'two words'".into()))
            }
        }
    }

    fn line(&self) -> Result<Place, AddressError> {
        if self.body.trim().is_empty() {
            return Err(self.wrong(0, "the command line is missing"));
        }
        Ok(Place::Line(self.body.to_owned()))
    }

    /// A URL is kept as it is; scheme, host and port must be there and sound.
    fn url(&self) -> Result<Place, AddressError> {
        let rest = self.body.strip_prefix("//").unwrap_or(self.body);
        let offset = self.body.len() - rest.len();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host_at = offset + authority.len() - host.len();
        if host.is_empty() {
            return Err(self.wrong(host_at, "the host is missing"));
        }
        if let Some(space) = rest.find(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(self.hinted(
                offset + space,
                "a URL holds no spaces or control characters",
                format!("{}://{}", self.row.name, rest.replace(' ', "%20")),
            ));
        }
        if has_port(host) {
            self.split_host_port(host, host_at)?;
        } else {
            self.check_host(host.trim_start_matches('[').trim_end_matches(']'), host_at)?;
        }
        Ok(Place::Url(format!("{}://{rest}", self.row.name)))
    }

    fn named(&self) -> Result<Place, AddressError> {
        let Some((ends, name)) = self.body.split_once('/') else {
            return Err(self.wrong(self.body.len(), "the name after the port is missing"));
        };
        let (host, port) = self.host_port(ends)?;
        if name.is_empty() {
            return Err(self.wrong(self.body.len(), "the name after the port is missing"));
        }
        Ok(Place::Named {
            host,
            port,
            name: self.unescape(name)?,
        })
    }

    fn host_port(&self, body: &str) -> Result<(String, u16), AddressError> {
        self.split_host_port(body, 0)
    }

    fn split_host_port(&self, body: &str, at: usize) -> Result<(String, u16), AddressError> {
        let listens = self.row.listens();
        let (host, port, port_at) = if let Some(inner) = body.strip_prefix('[') {
            let Some(end) = inner.find(']') else {
                return Err(self.wrong(at, "this bracket is never closed"));
            };
            match inner[end + 1..].strip_prefix(':') {
                Some(port) => (&inner[..end], port, at + end + 3),
                None => return Err(self.wrong(at + end + 2, "the port is missing")),
            }
        } else {
            match body.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(self.hinted(
                        at,
                        "an IPv6 address stands in brackets",
                        format!("{}://[::1]:9000", self.row.name),
                    ));
                }
                Some((host, port)) => (host, port, at + host.len() + 1),
                None if listens && !body.is_empty() && body.bytes().all(|b| b.is_ascii_digit()) => {
                    let hint = format!(
                        "{}://:{body} for every address, or {0}://127.0.0.1:{body}",
                        self.row.name
                    );
                    return Err(self.hinted(at, "the address before the port is missing", hint));
                }
                None => return Err(self.wrong(at + body.len(), "the port is missing")),
            }
        };
        if host.is_empty() && !listens {
            return Err(self.wrong(at, "the host is missing"));
        }
        self.check_host(host, at)?;
        Ok((host.to_owned(), self.port(port, port_at)?))
    }

    fn port(&self, port: &str, at: usize) -> Result<u16, AddressError> {
        if port.is_empty() {
            return Err(self.wrong(at, "the port is missing"));
        }
        let sound = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(0) if !self.row.listens() => Err(self.wrong(at, "nobody can be reached on port 0")),
            Ok(port) if sound => Ok(port),
            _ => Err(self.wrong(at, "the port must be a number from 1 to 65535")),
        }
    }

    fn check_host(&self, host: &str, at: usize) -> Result<(), AddressError> {
        let fits = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
        match host.char_indices().find(|(_, c)| !fits(*c)) {
            Some((offset, c)) => Err(self.wrong(at + offset, &format!("`{c}` cannot stand in a host name"))),
            None => Ok(()),
        }
    }

    /// Decodes `%XX`. A percent sign that starts no escape is an error, so that none is silently kept.
    fn unescape(&self, body: &str) -> Result<String, AddressError> {
        let offset = self.text.len() - self.text[self.start..].len() + (self.body.len() - body.len());
        unescape(body).map_err(|at| {
            error(
                self.text,
                offset + at,
                "this percent sign starts no escape of two hexadecimal digits that spells text",
                Some("%25 for a percent sign, %2C for a comma".into()),
            )
        })
    }

    fn wrong(&self, at: usize, what: &str) -> AddressError {
        self.hinted(at, what, self.row.example.to_owned())
    }

    fn hinted(&self, at: usize, what: &str, hint: String) -> AddressError {
        error(self.text, self.start + at, what, Some(hint))
    }
}

/// Names and values in order.
type Options = Vec<(String, String)>;

/// Splits `body,name=value,…` and checks the names.
fn split_options<'a>(row: &Row, text: &'a str, start: usize) -> Result<(&'a str, Options), AddressError> {
    let whole = &text[start..];
    let mut parts = whole.split(',');
    let body = parts.next().unwrap_or("");
    let mut options = Vec::new();
    let mut at = start + body.len() + 1;
    for part in parts {
        options.push(parse_option(row, text, at, part)?);
        at += part.len() + 1;
    }
    Ok((body, options))
}

fn parse_option(row: &Row, text: &str, at: usize, part: &str) -> Result<(String, String), AddressError> {
    let (name, value) = match part.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (part, None),
    };
    let names = || row.options.iter().map(|option| option.name);
    let Some(known) = row.options.iter().find(|option| option.name == name) else {
        let hint = match nearest(name, names()) {
            Some(near) => format!("{near}? (a comma that belongs to the address is written %2C)"),
            None => format!(
                "one of {}; a comma that belongs to the address is written %2C",
                names().collect::<Vec<_>>().join(", ")
            ),
        };
        return Err(error(
            text,
            at,
            format!("`{}:` has no option `{name}`", row.name),
            Some(hint),
        ));
    };
    let value = match (known.value.is_empty(), value) {
        (true, None) => String::new(),
        (true, Some(_)) => {
            let what = format!("`{name}` takes no value");
            return Err(error(text, at + name.len(), what, Some(format!(",{name}"))));
        }
        (false, None | Some("")) => {
            let what = format!("`{name}` needs a value");
            return Err(error(
                text,
                at + part.len(),
                what,
                Some(format!(",{name}={}", known.value)),
            ));
        }
        (false, Some(value)) => unescape(value).map_err(|offset| {
            let at = at + name.len() + 1 + offset;
            error(
                text,
                at,
                "this percent sign starts no escape",
                Some("%25 for a percent sign".into()),
            )
        })?,
    };
    if known.value.contains('|') && !known.value.split('|').any(|choice| choice == value) {
        let what = format!("`{name}` is one of {}", known.value.replace('|', ", "));
        return Err(error(text, at + name.len() + 1, what, None));
    }
    Ok((name.to_owned(), value))
}

fn unescape(text: &str) -> Result<String, usize> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let digits = text
            .get(at + 1..at + 3)
            .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        out.push(
            digits
                .and_then(|two| u8::from_str_radix(two, 16).ok())
                .ok_or(at)?,
        );
        at += 3;
    }
    match String::from_utf8(out) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(text.find('%').unwrap_or(0)),
    }
}

fn has_port(host: &str) -> bool {
    match host.rfind(']') {
        Some(end) => host[end..].contains(':'),
        None => host.contains(':'),
    }
}

fn is_scheme_like(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
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

/// The known name nearest to what was written, when it is near enough to be a slip.
pub(crate) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + written.len() / 5;
    names
        .map(|name| (distance(&written.to_ascii_lowercase(), name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Edits between two words; swapping two neighbours counts as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + change)
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn error(text: &str, at: usize, what: impl Into<String>, hint: Option<String>) -> AddressError {
    AddressError {
        text: text.to_owned(),
        at: at.min(text.len()),
        what: what.into(),
        hint,
    }
}

impl fmt::Display for AddressError {
    /// What is wrong; the address with a caret under the place; what would be right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |part: &str| -> String {
            part.chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect()
        };
        let mut at = self.at;
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let column = self.text[..at].chars().count();
        write!(f, "{}\n  {}\n  {:column$}^", self.what, printable(&self.text), "")?;
        match &self.hint {
            Some(hint) => write!(f, "\n  try {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AddressError {}

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
            place("exec:printf 'a b' c,d"),
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
            ("exec:a 'b", 7, "never closed"),
            ("sh: ", 3, "missing"),
            ("http://", 7, "host is missing"),
            ("http://h:x/", 9, "1 to 65535"),
            ("http://h/a b", 10, "spaces"),
            ("pb://h:1", 8, "name"),
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
