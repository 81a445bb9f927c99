//! `STAT` (RFC 959 §4.1.3) when nothing is under way: the session, or a directory on the control connection.

use crate::grammar::Reply;
use crate::grammar::command::Protection;
use crate::server::failure;
use crate::server::session::{Answer, Session};
use crate::storage::{HeadEnd, ListingStyle};

/// A listing on the control connection is held whole; more than this is for `LIST`.
const LISTING_BYTES_MAX: usize = 32 * 1024;

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    if argument.is_empty() {
        return status(session).into();
    }
    let path = match session.path(argument) {
        Ok(path) => path,
        Err(reply) => return reply.into(),
    };
    let listing = match session.storage().list(&path, ListingStyle::Long).await {
        Ok(listing) => listing.head(LISTING_BYTES_MAX).await,
        Err(error) => Err(error),
    };
    match listing {
        Ok((text, end)) => {
            let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let reply = lines.fold(Reply::new(213, "Listing"), |reply, line| {
                reply.line([b" ", line].concat())
            });
            reply
                .line(match end {
                    HeadEnd::All => "End",
                    HeadEnd::More => "There is more: use LIST",
                })
                .into()
        }
        Err(error) => failure::refused(argument, &error).into(),
    }
}

fn status(session: &Session) -> Reply {
    let protection = match (session.control.is_tls(), session.protection) {
        (false, _) => "no encryption",
        (true, Protection::Clear) => "control connection encrypted",
        (true, Protection::Private) => "control and data connections encrypted",
    };
    let user = session.user().map_or("nobody", |user| &user.name);
    Reply::new(211, "Tidegate FTP server")
        .line(format!(" Connected from {}", session.peer.ip().to_canonical()))
        .line(format!(" Logged in as {user}"))
        .line(format!(
            " Type {:?}, stream mode, {protection}",
            session.transfer_type
        ))
        .line("End")
}
