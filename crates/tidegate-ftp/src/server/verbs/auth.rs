//! `AUTH` (RFC 2228 §3, RFC 4217 §4): the control connection goes under TLS after the reply.

use crate::grammar::Reply;
use crate::grammar::command::{AuthMechanism, Protection};
use crate::server::session::{Answer, BufferSize, Session};

pub(super) fn run(session: &mut Session, mechanism: AuthMechanism) -> Answer {
    if session.shared.tls.is_none() {
        return Reply::new(502, "TLS is not offered here").into();
    }
    if session.control.is_tls() {
        return Reply::new(503, "TLS is on already").into();
    }
    // The old names imply a protected data connection (draft-murray-auth-ftp-ssl).
    session.protection = match mechanism {
        AuthMechanism::Tls => Protection::Clear,
        AuthMechanism::Ssl => Protection::Private,
    };
    session.buffer_size = BufferSize::NotGiven;
    Answer::StartTls(Reply::new(234, "Proceed with the handshake"))
}
