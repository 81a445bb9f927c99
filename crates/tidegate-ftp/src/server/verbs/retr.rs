//! `RETR` (RFC 959 §4.1.3), from where `REST` said (RFC 3659 §5).

use tidegate_io::endpoint::file::FileSource;

use crate::grammar::Reply;
use crate::grammar::command::TransferType;
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::server::transfer::Transfer;
use crate::storage::StorageError;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let restart = std::mem::take(&mut session.restart);
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    let opened = match session.storage().open_file(&path).await {
        Ok(opened) => opened,
        Err(error) => return failure::refused(argument, &error).into(),
    };
    if restart > opened.size {
        return failure::refused(argument, &StorageError::PastEnd { size: opened.size }).into();
    }
    let size = opened.size;
    let name = String::from_utf8_lossy(&path.to_bytes()).into_owned();
    let source = match FileSource::from_file(opened.file, &name) {
        // Not a range: that would shut out the kernel's lane.
        Ok(source) => source.from_offset(restart),
        Err(error) => {
            tracing::warn!(%error, "cannot read a file that was opened");
            return Reply::new(451, "Local error").into();
        }
    };
    let mut transfer = Transfer::send(&path.to_bytes(), source);
    let kind = match session.transfer_type {
        TransferType::Image => "BINARY",
        TransferType::Ascii => "ASCII",
    };
    transfer.opening = format!("Opening {kind} mode data connection ({size} bytes)").into_bytes();
    Answer::Transfer(Box::new(transfer))
}
