//! `STOU` (RFC 959 §4.1.3): as `STOR`, under a name that is not taken (RFC 1123 §4.1.2.9 for the reply).

use super::stor::store;
use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::storage::{StorageError, StoreAs};

const TRIES_MAX: u32 = 1000;

pub(super) async fn run(session: &mut Session) -> Answer {
    for number in 1..=TRIES_MAX {
        let name = format!("upload-{number:04}");
        let path = match session.path(name.as_bytes()) {
            Ok(path) => path,
            Err(reply) => return reply.into(),
        };
        match session.storage().exists(&path).await {
            Ok(()) => {}
            Err(StorageError::NotFound) => {
                let answer = store(session, name.as_bytes(), StoreAs::New).await;
                return named(answer, &name);
            }
            Err(error) => return failure::refused(name.as_bytes(), &error).into(),
        }
    }
    Reply::new(450, "No free name found").into()
}

fn named(answer: Answer, name: &str) -> Answer {
    match answer {
        Answer::Transfer(mut transfer) => {
            transfer.opening = format!("FILE: {name}").into_bytes();
            Answer::Transfer(transfer)
        }
        other => other,
    }
}
