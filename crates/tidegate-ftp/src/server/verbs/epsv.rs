//! `EPSV` (RFC 2428 §3): where we wait for the client, on the family of the control connection.

use crate::grammar::address::extended_passive_text;
use crate::grammar::{EpsvArgument, Reply};
use crate::server::opening::Plan;
use crate::server::session::{Answer, Extended, Session};
use crate::server::{opening, policy};

pub(super) async fn run(session: &mut Session, argument: EpsvArgument) -> Answer {
    let family = policy::family_of(session);
    match argument {
        EpsvArgument::All => {
            session.extended = Extended::Only;
            return Reply::new(200, "EPSV from now on").into();
        }
        EpsvArgument::V4 | EpsvArgument::V6 if argument != family => {
            let number = if family == EpsvArgument::V4 { 1 } else { 2 };
            return Reply::new(522, format!("Network protocol not supported, use ({number})")).into();
        }
        _ => {}
    }
    match listen(session).await {
        Ok(port) => Reply::new(229, extended_passive_text(port)).into(),
        Err(reply) => reply.into(),
    }
}

/// Binds where the client came to, and gives the port.
pub(super) async fn listen(session: &mut Session) -> Result<u16, Reply> {
    // An earlier one is given up first: its port may be the only one.
    session.plan = Plan::None;
    let ports = session.shared.options.passive_ports.as_ref();
    let bound = opening::listen(session.local.ip(), ports).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    match bound {
        Ok((port, listener)) => {
            session.plan = Plan::Passive(listener);
            Ok(port)
        }
        Err(error) => {
            tracing::warn!(%error, "no port for a data connection");
            Err(Reply::new(425, "No port is free for a data connection"))
        }
    }
}
