//! `PBSZ` (RFC 2228 §3): always 0 under TLS (RFC 4217 §9).

use crate::grammar::Reply;
use crate::server::session::{Answer, BufferSize, Session};

pub(super) fn run(session: &mut Session) -> Answer {
    if !session.control.is_tls() {
        return Reply::new(503, "AUTH comes first").into();
    }
    session.buffer_size = BufferSize::Given;
    Reply::new(200, "PBSZ=0").into()
}
