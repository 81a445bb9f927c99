//! `MLST` (RFC 3659 §7): the facts of one entry, on the control connection.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().facts(&path).await {
        Ok(facts) => {
            let mut line = b" ".to_vec();
            line.extend_from_slice(&facts.encode(&session.facts, &path.to_bytes()));
            Reply::new(250, "Facts").line(line).line("End").into()
        }
        Err(error) => failure::refused(argument, &error).into(),
    }
}
