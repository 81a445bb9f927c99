//! `HELP` (RFC 959 §4.1.3): the verbs served.

use crate::grammar::{Command, Reply};
use crate::server::session::Answer;

pub(super) fn run() -> Answer {
    let verbs: Vec<_> = Command::verbs().collect();
    let rows = verbs
        .chunks(8)
        .map(|row| row.iter().map(|verb| format!(" {verb:<8}")).collect::<String>());
    let reply = rows.fold(Reply::new(214, "Commands served"), |reply, row| {
        reply.line(row.trim_end())
    });
    reply.line("End").into()
}
