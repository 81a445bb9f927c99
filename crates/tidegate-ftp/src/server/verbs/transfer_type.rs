//! `TYPE` (RFC 959 §4.1.2).

use crate::grammar::Reply;
use crate::grammar::command::TransferType;
use crate::server::session::{Answer, Session};

pub(super) fn run(session: &mut Session, transfer_type: TransferType) -> Answer {
    session.transfer_type = transfer_type;
    let name = match transfer_type {
        TransferType::Ascii => "ASCII",
        TransferType::Image => "binary",
    };
    Reply::new(200, format!("Type is {name}")).into()
}
