//! `PASV` (RFC 959 §4.1.2): where we wait for the client, over IPv4.

use std::net::IpAddr;

use super::epsv::listen;
use crate::grammar::Reply;
use crate::grammar::address::passive_text;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session) -> Answer {
    let own = match session.local.ip().to_canonical() {
        IpAddr::V4(own) => own,
        IpAddr::V6(_) => return Reply::new(425, "PASV has no IPv6: use EPSV").into(),
    };
    let told = session.shared.options.passive_address.unwrap_or(own);
    match listen(session).await {
        Ok(port) => Reply::new(227, passive_text(told, port)).into(),
        Err(reply) => reply.into(),
    }
}
