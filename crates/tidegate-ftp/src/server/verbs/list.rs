//! `LIST`, `NLST` (RFC 959 §4.1.3) and `MLSD` (RFC 3659 §7): a directory over the data connection.

use crate::grammar::Reply;
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::server::transfer::{Lines, Transfer};
use crate::storage::{ListingStyle, StorageError};

pub(super) async fn run(session: &mut Session, argument: &[u8], style: ListingStyle) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().list(&path, style).await {
        Ok(listing) => {
            let mut transfer = Transfer::send(b"listing", listing);
            transfer.opening = b"Here comes the listing".to_vec();
            transfer.done = b"Listing sent".to_vec();
            transfer.lines = Lines::AsTheyAre;
            Answer::Transfer(Box::new(transfer))
        }
        Err(StorageError::NotADirectory) => Reply::new(501, "Not a directory").into(),
        Err(error) => failure::refused(argument, &error).into(),
    }
}
