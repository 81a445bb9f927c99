//! `MFMT` (draft-somers-ftp-mfxx §3): sets when a file was last changed.

use crate::grammar::Reply;
use crate::grammar::time::format_timestamp;
use crate::server::failure;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, modify_unix_seconds: i64, argument: &[u8]) -> Answer {
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    match session.storage().set_modified(&path, modify_unix_seconds).await {
        Ok(()) => {
            let mut text = format!("Modify={}; ", format_timestamp(modify_unix_seconds)).into_bytes();
            text.extend_from_slice(argument);
            Reply::new(213, text).into()
        }
        Err(error) => failure::refused(argument, &error).into(),
    }
}
