//! `OPTS` (RFC 2389 §4) for `MLST`, `HASH` and `UTF8`.

use crate::grammar::{FactSet, Reply};
use crate::server::session::{Answer, Session};

/// `OPTS MLST` (RFC 3659 §7.9).
pub(super) fn run_mlst(session: &mut Session, argument: &[u8]) -> Answer {
    session.facts = FactSet::parse(argument);
    Reply::new(200, format!("MLST OPTS {}", session.facts.names())).into()
}

/// `OPTS HASH`: there is one algorithm.
pub(super) fn run_hash(argument: &[u8]) -> Answer {
    match argument {
        b"" => Reply::new(200, "SHA-256").into(),
        name if name.eq_ignore_ascii_case(b"SHA-256") => Reply::new(200, "SHA-256").into(),
        _ => Reply::new(501, "Only SHA-256").into(),
    }
}

/// `OPTS UTF8 ON`: it always is (RFC 2640).
pub(super) fn run_utf8() -> Answer {
    Reply::new(200, "UTF8 is on").into()
}
