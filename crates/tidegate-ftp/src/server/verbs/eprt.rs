//! `EPRT` (RFC 2428 §2) and `PORT` (RFC 959 §4.1.2): where the client waits for us. Policy has looked at the address.

use std::net::SocketAddr;

use crate::grammar::Reply;
use crate::server::opening::Plan;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &mut Session, mut address: SocketAddr) -> Answer {
    if address.ip().is_unspecified() {
        address.set_ip(session.peer.ip().to_canonical());
    }
    session.plan = Plan::Active(address);
    Reply::new(200, "Will connect there").into()
}
