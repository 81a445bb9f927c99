//! `RNFR` (RFC 959 §4.1.3): what is to get another name; `RNTO` must follow at once.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().exists(&path).await {
        Ok(()) => {
            session.rename_from = Some(path);
            Reply::new(350, "RNTO comes next").into()
        }
        Err(error) => failure::refused(argument, &error).into(),
    }
}
