//! Commands: a line in, a verb with its typed argument out.
//!
//! Refuses to know whether a command may be given now. RFC 959 §4.1 and §5.3, RFC 2228, 2389, 2428, 3659, 4217;
//! `HASH` is draft-bryan-ftpext-hash, `MFMT` is draft-somers-ftp-mfxx.

mod arguments;

use std::fmt;
use std::net::SocketAddr;

use super::address::{self, AddressError, EpsvArgument};
use arguments::{
    auth, letter, mfmt, none, opts, pbsz, prot, rang, rest, text, transfer_type, without_options,
};

/// A path or another free text, as bytes of the wire.
pub type Text = Vec<u8>;

/// A password: its `Debug` shows nothing.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How file data is represented (`TYPE`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TransferType {
    /// `A`: lines end in CR LF on the wire. What RFC 959 §5.1 starts with.
    #[default]
    Ascii,
    /// `I` (and `L 8`): bytes as they are.
    Image,
}

/// The level of `PROT`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protection {
    /// `C`: plain.
    #[default]
    Clear,
    /// `P`: TLS.
    Private,
}

/// The mechanism of `AUTH`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthMechanism {
    /// `TLS` or its old name `TLS-C`.
    Tls,
    /// `SSL` or `TLS-P`: TLS with a protected data connection at once.
    Ssl,
}

/// A command with its argument.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // The names are the verbs of the RFCs.
pub enum Command {
    Abor,
    Allo,
    Appe(Text),
    Auth(AuthMechanism),
    Ccc,
    Cdup,
    Clnt,
    Cwd(Text),
    Dele(Text),
    Eprt(SocketAddr),
    Epsv(EpsvArgument),
    Feat,
    Hash(Text),
    Help,
    List(Text),
    Mdtm(Text),
    Mfmt {
        modify_unix_seconds: i64,
        path: Text,
    },
    Mkd(Text),
    Mlsd(Text),
    Mlst(Text),
    ModeStream,
    Nlst(Text),
    Noop,
    OptsHash(Text),
    OptsMlst(Text),
    OptsUtf8,
    Pass(Secret),
    Pasv,
    Pbsz,
    Port(SocketAddr),
    Prot(Protection),
    Pwd,
    Quit,
    /// From the first byte to the last, both included; `None` is the whole file again.
    Rang(Option<(u64, u64)>),
    Rein,
    Rest(u64),
    Retr(Text),
    Rmd(Text),
    Rnfr(Text),
    Rnto(Text),
    Site(Text),
    Size(Text),
    Stat(Text),
    Stor(Text),
    Stou,
    StruFile,
    Syst,
    Type(TransferType),
    User(Text),
    Xsha256(Text),
}

/// Why a line is no command of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CommandError {
    /// No verb of FTP, or not even letters (500).
    Unknown,
    /// A verb that exists and that we do not serve (502).
    NotServed,
    /// The argument is missing or malformed (501).
    Argument,
    /// The argument is well formed and not supported (504).
    Parameter,
    /// A network family we do not speak (522).
    Family,
    /// A protection level we do not offer (536).
    Protection,
}

impl From<AddressError> for CommandError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Syntax => Self::Argument,
            AddressError::Family => Self::Family,
        }
    }
}

type Parse = fn(&[u8]) -> Result<Command, CommandError>;

/// Every verb with its parser, and the names of RFC 775 beside those that replaced them.
const VERBS: &[(&str, Parse)] = &[
    ("ABOR", |a| none(a, Command::Abor)),
    ("ALLO", |_| Ok(Command::Allo)),
    ("APPE", |a| text(a, Command::Appe)),
    ("AUTH", auth),
    ("CCC", |a| none(a, Command::Ccc)),
    ("CDUP", |a| none(a, Command::Cdup)),
    ("CLNT", |_| Ok(Command::Clnt)),
    ("CWD", |a| text(a, Command::Cwd)),
    ("DELE", |a| text(a, Command::Dele)),
    ("EPRT", |a| Ok(Command::Eprt(address::parse_eprt(a)?))),
    ("EPSV", |a| Ok(Command::Epsv(address::parse_epsv(a)?))),
    ("FEAT", |a| none(a, Command::Feat)),
    ("HASH", |a| text(a, Command::Hash)),
    ("HELP", |_| Ok(Command::Help)),
    ("LIST", |a| Ok(Command::List(without_options(a)))),
    ("MDTM", |a| text(a, Command::Mdtm)),
    ("MFMT", mfmt),
    ("MKD", |a| text(a, Command::Mkd)),
    ("MLSD", |a| Ok(Command::Mlsd(a.to_vec()))),
    ("MLST", |a| Ok(Command::Mlst(a.to_vec()))),
    ("MODE", |a| letter(a, b"S", b"BC", Command::ModeStream)),
    ("NLST", |a| Ok(Command::Nlst(without_options(a)))),
    ("NOOP", |_| Ok(Command::Noop)),
    ("OPTS", opts),
    ("PASS", |a| Ok(Command::Pass(Secret(a.to_vec())))),
    ("PASV", |a| none(a, Command::Pasv)),
    ("PBSZ", pbsz),
    ("PORT", |a| Ok(Command::Port(address::parse_port(a)?))),
    ("PROT", prot),
    ("PWD", |a| none(a, Command::Pwd)),
    ("QUIT", |a| none(a, Command::Quit)),
    ("RANG", rang),
    ("REIN", |a| none(a, Command::Rein)),
    ("REST", rest),
    ("RETR", |a| text(a, Command::Retr)),
    ("RMD", |a| text(a, Command::Rmd)),
    ("RNFR", |a| text(a, Command::Rnfr)),
    ("RNTO", |a| text(a, Command::Rnto)),
    ("SITE", |a| text(a, Command::Site)),
    ("SIZE", |a| text(a, Command::Size)),
    ("STAT", |a| Ok(Command::Stat(without_options(a)))),
    ("STOR", |a| text(a, Command::Stor)),
    ("STOU", |_| Ok(Command::Stou)),
    ("STRU", |a| letter(a, b"F", b"RP", Command::StruFile)),
    ("SYST", |a| none(a, Command::Syst)),
    ("TYPE", transfer_type),
    ("USER", |a| text(a, Command::User)),
    ("XCUP", |a| none(a, Command::Cdup)),
    ("XCWD", |a| text(a, Command::Cwd)),
    ("XMKD", |a| text(a, Command::Mkd)),
    ("XPWD", |a| none(a, Command::Pwd)),
    ("XRMD", |a| text(a, Command::Rmd)),
    ("XSHA256", |a| text(a, Command::Xsha256)),
];

/// Verbs of the RFCs that we know and do not serve.
const NOT_SERVED: &[&str] = &[
    "ACCT", "ADAT", "CONF", "ENC", "HOST", "LANG", "LPRT", "LPSV", "MIC", "SMNT",
];

impl Command {
    /// Parses a line without its end. The verb may be in any case; one space separates it from the argument, and the
    /// rest belongs to the argument, spaces included.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let space = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let (verb, rest) = line.split_at(space);
        let argument = rest.get(1..).unwrap_or_default();
        let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
        if let Some((_, parse)) = VERBS.iter().find(|(name, _)| is(name)) {
            return parse(argument);
        }
        if NOT_SERVED.iter().any(|name| is(name)) {
            return Err(CommandError::NotServed);
        }
        Err(CommandError::Unknown)
    }

    /// The verbs served, in alphabetical order, for `HELP`.
    pub fn verbs() -> impl Iterator<Item = &'static str> {
        VERBS.iter().map(|(name, _)| *name)
    }
}

/// For the log: the verb of a line, and nothing of its argument.
pub fn verb_of(line: &[u8]) -> String {
    let verb = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    let short = &verb[..verb.len().min(8)];
    short
        .iter()
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect::<String>()
        .to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::grammar::Lines;
    use proptest::prelude::*;

    /// Whole, a byte at a time, and with bytes behind it.
    fn three_ways(line: &str, expected: &Result<Command, CommandError>) {
        let wire = format!("{line}\r\n");
        let mut whole = Lines::new(512);
        whole.push(wire.as_bytes());
        let mut by_byte = Lines::new(512);
        for byte in wire.bytes() {
            by_byte.push(&[byte]);
        }
        let mut trailing = Lines::new(512);
        trailing.push(format!("{wire}NO").as_bytes());
        for mut lines in [whole, by_byte, trailing] {
            let line_read = lines.next_line().unwrap().unwrap();
            assert_eq!(&Command::parse(&line_read), expected, "{line}");
            assert!(lines.next_line().is_none());
        }
    }

    #[test]
    fn commands_are_parsed_with_their_arguments() {
        for (line, expected) in [
            ("user anna", Command::User(b"anna".to_vec())),
            ("PASS a b ", Command::Pass(Secret(b"a b ".to_vec()))),
            ("PASS", Command::Pass(Secret(vec![]))),
            ("RETR  two spaces", Command::Retr(b" two spaces".to_vec())),
            ("TYPE I", Command::Type(TransferType::Image)),
            ("type a n", Command::Type(TransferType::Ascii)),
            ("TYPE L 8", Command::Type(TransferType::Image)),
            ("PORT 1,2,3,4,5,6", Command::Port("1.2.3.4:1286".parse().unwrap())),
            ("EPRT |2|::1|5282|", Command::Eprt("[::1]:5282".parse().unwrap())),
            ("EPSV ALL", Command::Epsv(EpsvArgument::All)),
            ("EPSV", Command::Epsv(EpsvArgument::Any)),
            ("REST 18446744073", Command::Rest(18_446_744_073)),
            ("RANG 0 70000", Command::Rang(Some((0, 70_000)))),
            ("RANG 1 0", Command::Rang(None)),
            ("LIST -la", Command::List(vec![])),
            ("LIST -l -a dir x", Command::List(b"dir x".to_vec())),
            ("LIST -", Command::List(b"-".to_vec())),
            ("NLST", Command::Nlst(vec![])),
            ("XPWD", Command::Pwd),
            ("opts utf8 on", Command::OptsUtf8),
            ("OPTS MLST size;type;", Command::OptsMlst(b"size;type;".to_vec())),
            ("AUTH tls", Command::Auth(AuthMechanism::Tls)),
            ("PROT P", Command::Prot(Protection::Private)),
            ("PBSZ 0", Command::Pbsz),
            ("MODE S", Command::ModeStream),
            ("STRU F", Command::StruFile),
            ("HASH a", Command::Hash(b"a".to_vec())),
            (
                "MFMT 19700101000001 a b",
                Command::Mfmt {
                    modify_unix_seconds: 1,
                    path: b"a b".to_vec(),
                },
            ),
        ] {
            three_ways(line, &Ok(expected));
        }
    }

    #[test]
    fn what_is_wrong_says_how() {
        for (line, expected) in [
            ("", CommandError::Unknown),
            ("FROB x", CommandError::Unknown),
            ("RETRx", CommandError::Unknown),
            ("GET / HTTP/1.1", CommandError::Unknown),
            ("ACCT x", CommandError::NotServed),
            ("RETR", CommandError::Argument),
            ("RETR ", CommandError::Argument),
            ("PASV x", CommandError::Argument),
            ("PORT 1,2,3", CommandError::Argument),
            ("EPRT |9|x|1|", CommandError::Family),
            ("REST -1", CommandError::Argument),
            ("REST 99999999999999999999", CommandError::Argument),
            ("RANG 5", CommandError::Argument),
            ("RANG 9 3", CommandError::Argument),
            ("RANG 0 -1", CommandError::Argument),
            ("TYPE E", CommandError::Parameter),
            ("TYPE X", CommandError::Argument),
            ("MODE Z", CommandError::Argument),
            ("MODE B", CommandError::Parameter),
            ("PROT E", CommandError::Protection),
            ("AUTH GSSAPI", CommandError::Parameter),
            ("MFMT x y", CommandError::Argument),
            ("OPTS FROB", CommandError::Argument),
        ] {
            three_ways(line, &Err(expected));
        }
    }

    #[test]
    fn the_log_shows_a_verb_and_no_secret() {
        assert_eq!(verb_of(b"pass secret"), "PASS");
        assert_eq!(verb_of(b"\x00\xff"), "??");
        assert_eq!(
            format!("{:?}", Command::parse(b"PASS secret").unwrap()),
            "Pass(Secret)"
        );
    }

    #[test]
    fn verbs_are_listed_once_and_in_order() {
        let verbs: Vec<_> = Command::verbs().collect();
        assert!(verbs.windows(2).all(|pair| pair[0] < pair[1]), "{verbs:?}");
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = verb_of(&line);
            let _ = Command::parse(&line);
        }

        #[test]
        fn no_argument_makes_a_parser_panic(verb in 0usize..53, argument in "[ -~]{0,40}") {
            let name = Command::verbs().nth(verb).unwrap_or("NOOP");
            prop_assert_ne!(
                Command::parse(format!("{name} {argument}").as_bytes()),
                Err(CommandError::Unknown)
            );
        }
    }
}
