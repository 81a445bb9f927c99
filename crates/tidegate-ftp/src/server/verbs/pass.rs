//! `PASS` (RFC 959 §4.1.1): the password is checked off the runtime, and a wrong one costs as much as a right one.

use std::path::PathBuf;

use super::user::{ANONYMOUS, FTP};
use crate::grammar::command::Secret;
use crate::grammar::{Reply, VirtualPath};
use crate::server::Anonymous;
use crate::server::session::{Answer, LoggedIn, Login, Session};
use crate::users::KnownUser;

pub(super) async fn run(session: &mut Session, password: Secret) -> Answer {
    let name = match std::mem::replace(&mut session.login, Login::Nobody) {
        Login::Named(name) => name,
        other => {
            session.login = other;
            return Reply::new(503, "Send USER first").into();
        }
    };
    let is_anonymous = matches!(name.as_str(), ANONYMOUS | FTP);
    let known = if is_anonymous && session.shared.options.anonymous == Anonymous::Allowed {
        Some(KnownUser {
            name: ANONYMOUS.to_owned(),
            directory: PathBuf::new(),
        })
    } else {
        session.shared.users.verify(&name, password.0).await
    };
    let Some(known) = known else {
        return wrong(session, &name);
    };
    match session.shared.storage.below(&known.directory).await {
        Ok(storage) => {
            tracing::info!(peer = %session.peer, user = %known.name, "logged in");
            session.login = Login::In(LoggedIn {
                name: known.name,
                storage,
            });
            session.cwd = VirtualPath::root();
            Reply::new(230, "Logged in").into()
        }
        Err(error) => {
            tracing::error!(user = %known.name, %error, "the user's directory cannot be opened");
            Reply::new(530, "Cannot log in: no directory").into()
        }
    }
}

fn wrong(session: &mut Session, name: &str) -> Answer {
    session.attempts += 1;
    tracing::warn!(peer = %session.peer, user = name, attempt = session.attempts, "login failed");
    if session.attempts >= session.shared.options.limits.login_attempts_max {
        return Answer::Quit(Reply::new(421, "Too many wrong passwords; goodbye"));
    }
    Reply::new(530, "Login incorrect").into()
}
