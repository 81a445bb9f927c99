//! `SITE CHMOD` carried out.
//!
//! Knows nothing of whether it is allowed.

use crate::grammar::Reply;
use crate::server::failure::refused;
use crate::server::session::{Answer, Session};

pub(super) async fn change(session: &Session, argument: &[u8], mode: u32) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().set_mode(&path, mode).await {
        Ok(()) => Reply::new(200, "Mode set").into(),
        Err(error) => refused(argument, &error).into(),
    }
}
