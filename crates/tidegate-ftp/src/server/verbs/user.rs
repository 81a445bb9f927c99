//! `USER` (RFC 959 §4.1.1): every name gets the same answer, so that nobody learns which exist.

use crate::grammar::Reply;
use crate::server::session::{Answer, Login, Session};

pub(super) const ANONYMOUS: &str = "anonymous";
pub(super) const FTP: &str = "ftp";

pub(super) fn run(session: &mut Session, name: &[u8]) -> Answer {
    session.forget_user();
    let Ok(name) = std::str::from_utf8(name) else {
        return Reply::new(501, "A name must be UTF-8").into();
    };
    session.login = Login::Named(name.to_owned());
    Reply::new(331, "Password, please").into()
}
