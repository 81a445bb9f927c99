//! `APPE` (RFC 959 §4.1.3): as `STOR`, at the end of what is there. What a cut short upload left is continued first;
//! an `APPE` that is itself cut short leaves a file as it was.

use super::stor::store;
use crate::grammar::Reply;
use crate::server::session::{Answer, Session};
use crate::storage::StoreAs;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let restart = std::mem::take(&mut session.restart);
    if restart > 0 {
        return Reply::new(501, "REST has no meaning for APPE").into();
    }
    store(session, argument, StoreAs::Append).await
}
