//! `PROT` (RFC 2228 §3, RFC 4217 §9): whether data connections are protected.

use crate::grammar::Reply;
use crate::grammar::command::Protection;
use crate::server::Tls;
use crate::server::session::{Answer, BufferSize, Session};

pub(super) fn run(session: &mut Session, protection: Protection) -> Answer {
    if !session.control.is_tls() || session.buffer_size == BufferSize::NotGiven {
        return Reply::new(503, "AUTH and PBSZ come first").into();
    }
    if protection == Protection::Clear && matches!(session.shared.options.tls, Tls::Required(_)) {
        return Reply::new(534, "Data connections must be protected here").into();
    }
    session.protection = protection;
    Reply::new(200, "Protection set").into()
}
