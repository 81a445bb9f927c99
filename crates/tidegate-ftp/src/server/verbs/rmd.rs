//! `RMD` (RFC 959 §4.1.3): removes an empty directory.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) if path.contains(&session.cwd) => {
            return Reply::new(550, "You are in there").into();
        }
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().remove_directory(&path).await {
        Ok(()) => Reply::new(250, "Removed").into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
