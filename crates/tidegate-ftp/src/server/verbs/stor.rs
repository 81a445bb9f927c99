//! `STOR` (RFC 959 §4.1.3), from where `REST` said: written beside the target, which it replaces when it is complete.

use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::server::transfer::Transfer;
use crate::storage::StoreAs;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let store_as = match std::mem::take(&mut session.restart) {
        0 => StoreAs::New,
        offset => StoreAs::From(offset),
    };
    store(session, argument, store_as).await
}

/// Also for `APPE` and `STOU`.
pub(super) async fn store(session: &mut Session, argument: &[u8], store_as: StoreAs) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    let options = &session.shared.options;
    let storage = session.storage();
    match storage
        .upload(&path, store_as, options.partial, options.durability)
        .await
    {
        Ok(upload) => {
            let mut transfer = Transfer::receive(&path.to_bytes(), upload);
            transfer.opening = b"Ready for the data".to_vec();
            Answer::Transfer(Box::new(transfer))
        }
        Err(error) => failure::refused(argument, &error).into(),
    }
}
