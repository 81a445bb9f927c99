//! `RNTO` (RFC 959 §4.1.3): the other name.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let Some(from) = session.rename_from.take() else {
        return Reply::new(503, "RNFR comes first").into();
    };
    let to = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().rename(&from, &to).await {
        Ok(()) => Reply::new(250, "Renamed").into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
