//! `SITE CHMOD` where files have no such modes.
//!
//! Knows the shape of `site/unix.rs`.

use crate::grammar::Reply;
use crate::server::session::{Answer, Session};

pub(super) async fn change(_: &Session, _: &[u8], _: u32) -> Answer {
    Reply::new(502, "This system has no such modes").into()
}
