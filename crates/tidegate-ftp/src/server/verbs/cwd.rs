//! `CWD` and `CDUP` (RFC 959 §4.1.1).

use crate::grammar::{Kind, Reply};
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::storage::StorageError;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().facts(&path).await {
        Ok(facts) if facts.kind == Kind::Directory => {
            let mut text = b"Now in ".to_vec();
            text.extend_from_slice(&path.to_bytes());
            session.cwd = path;
            Reply::new(250, text).into()
        }
        Ok(_) => failure::refused(argument, &StorageError::NotADirectory).into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
