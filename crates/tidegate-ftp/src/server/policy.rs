//! What stands between a command and its verb: a chain of rules, each of which may answer instead.
//!
//! Knows which verbs need what; refuses to know how a verb does its work.

use crate::grammar::command::{Protection, TransferType};
use crate::grammar::{Command, EpsvArgument, Reply};
use crate::storage::Access;

use super::Tls;
use super::session::{Extended, Session};

type Rule = fn(&Session, &Command) -> Option<Reply>;

/// In the order in which a client should hear of them.
const CHAIN: &[Rule] = &[
    tls_before_login,
    login_first,
    epsv_all,
    data_to_peer_only,
    data_under_tls,
    no_writing,
    no_restart_in_text,
    no_transfer_of_a_range,
];

/// The first rule that objects, answers.
pub(crate) fn judge(session: &Session, command: &Command) -> Option<Reply> {
    CHAIN.iter().find_map(|rule| rule(session, command))
}

/// RFC 4217 §4: nothing that matters before `AUTH` where TLS is required.
fn tls_before_login(session: &Session, command: &Command) -> Option<Reply> {
    let needs = matches!(command, Command::User(_) | Command::Pass(_));
    let required = matches!(session.shared.options.tls, Tls::Required(_));
    (required && needs && !session.control.is_tls())
        .then(|| Reply::new(530, "Encryption is required: send AUTH TLS first"))
}

fn login_first(session: &Session, command: &Command) -> Option<Reply> {
    let is_open = matches!(
        command,
        Command::User(_)
            | Command::Pass(_)
            | Command::Quit
            | Command::Noop
            | Command::Feat
            | Command::Help
            | Command::Syst
            | Command::Auth(_)
            | Command::Pbsz
            | Command::Prot(_)
            | Command::Ccc
            | Command::OptsUtf8
            | Command::Rein
            | Command::Clnt
    );
    (!is_open && session.user().is_none()).then(|| Reply::new(530, "Log in first"))
}

/// RFC 2428 §4.
fn epsv_all(session: &Session, command: &Command) -> Option<Reply> {
    let other_way = matches!(command, Command::Port(_) | Command::Pasv | Command::Eprt(_));
    (session.extended == Extended::Only && other_way).then(|| Reply::new(503, "EPSV ALL was given"))
}

/// No bounce attack: data goes to the client itself, and to no port that belongs to a system service (RFC 2577 §3).
fn data_to_peer_only(session: &Session, command: &Command) -> Option<Reply> {
    let (Command::Port(address) | Command::Eprt(address)) = command else {
        return None;
    };
    // No address at all is the client's own: lftp 4.9 says `::` over IPv6.
    let is_peer =
        address.ip().is_unspecified() || address.ip().to_canonical() == session.peer.ip().to_canonical();
    (!is_peer || address.port() < 1024).then(|| {
        Reply::new(
            504,
            "Data connections go to your own address and a port above 1023 only",
        )
    })
}

fn data_under_tls(session: &Session, command: &Command) -> Option<Reply> {
    let opens = matches!(
        command,
        Command::Retr(_)
            | Command::Stor(_)
            | Command::Stou
            | Command::Appe(_)
            | Command::List(_)
            | Command::Nlst(_)
            | Command::Mlsd(_)
    );
    let required = matches!(session.shared.options.tls, Tls::Required(_));
    (required && opens && session.protection == Protection::Clear)
        .then(|| Reply::new(521, "Data connections must be protected: send PROT P first"))
}

fn no_writing(session: &Session, command: &Command) -> Option<Reply> {
    let writes = matches!(
        command,
        Command::Stor(_)
            | Command::Stou
            | Command::Appe(_)
            | Command::Dele(_)
            | Command::Mkd(_)
            | Command::Rmd(_)
            | Command::Rnfr(_)
            | Command::Rnto(_)
            | Command::Mfmt { .. }
            | Command::Allo
    );
    // ALLO is harmless; RFC 959 wants 202 where it is superfluous.
    let harmless = matches!(command, Command::Allo);
    (writes && !harmless && session.shared.options.access == Access::ReadOnly)
        .then(|| Reply::new(550, "This server is read-only"))
}

/// An offset counts bytes of the file; in text they are not those of the wire.
fn no_restart_in_text(session: &Session, command: &Command) -> Option<Reply> {
    let uses = matches!(command, Command::Retr(_) | Command::Stor(_) | Command::Appe(_));
    (uses && session.restart > 0 && session.transfer_type == TransferType::Ascii)
        .then(|| Reply::new(504, "REST needs TYPE I"))
}

/// Here `RANG` names a part for `HASH` alone; who meant a transfer must not be given the whole.
fn no_transfer_of_a_range(session: &Session, command: &Command) -> Option<Reply> {
    let transfers = matches!(
        command,
        Command::Retr(_) | Command::Stor(_) | Command::Stou | Command::Appe(_)
    );
    (transfers && session.hash_range.is_some())
        .then(|| Reply::new(504, "RANG is for HASH only; RANG 1 0 takes it back"))
}

/// What `EPSV` says of the connection's family.
pub(crate) fn family_of(session: &Session) -> EpsvArgument {
    if session.local.ip().to_canonical().is_ipv4() {
        EpsvArgument::V4
    } else {
        EpsvArgument::V6
    }
}
