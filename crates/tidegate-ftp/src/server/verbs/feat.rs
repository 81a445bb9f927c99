//! `FEAT` (RFC 2389 §3): what we can do beyond RFC 959.

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &Session) -> Answer {
    let mut reply = Reply::new(211, "Features");
    if session.shared.tls.is_some() {
        for feature in ["AUTH TLS", "PBSZ", "PROT"] {
            reply = reply.line(format!(" {feature}"));
        }
    }
    for feature in [
        "EPRT",
        "EPSV",
        "HASH SHA-256*",
        "MDTM",
        "MFMT",
        "RANG STREAM",
        "REST STREAM",
        "SIZE",
        "TVFS",
        "UTF8",
        "XSHA256",
    ] {
        reply = reply.line(format!(" {feature}"));
    }
    reply
        .line(format!(" {}", session.facts.feature()))
        .line("End")
        .into()
}
