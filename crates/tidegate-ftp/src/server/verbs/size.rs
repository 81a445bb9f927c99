//! `SIZE` (RFC 3659 §4): bytes that `RETR` would send. In text that is not known without reading, so it is refused.

use crate::grammar::command::TransferType;
use crate::grammar::{Facts, Reply};
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::storage::StorageError;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    if session.transfer_type == TransferType::Ascii {
        return Reply::new(550, "SIZE needs TYPE I").into();
    }
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().facts(&path).await {
        Ok(Facts { size: Some(size), .. }) => Reply::new(213, size.to_string()).into(),
        Ok(_) => failure::refused(argument, &StorageError::NotAFile).into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
