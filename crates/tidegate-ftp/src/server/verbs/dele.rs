//! `DELE` (RFC 959 §4.1.3): removes a file, or a link and not what it points to.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().remove_file(&path).await {
        Ok(()) => Reply::new(250, "Removed").into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
