//! `MKD` (RFC 959 §4.1.3).

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().make_directory(&path).await {
        Ok(()) => {
            let mut text = path.quoted();
            text.extend_from_slice(b" made");
            Reply::new(257, text).into()
        }
        Err(error) => failure::refused(argument, &error).into(),
    }
}
