//! Logging in, both sides: a name and a password by challenge and response, or anonymously.
//!
//! Knows the exchange and its hash; where passwords are kept is the portal's business. (Twisted: `PBClientFactory.login`,
//! `_PortalWrapper`, `_PortalAuthChallenger`.)
//!
//! `login(name)` on the root answers a challenge and a challenger; `respond(md5(md5(password) + challenge), mind)` on that
//! answers the avatar. The hash is what the protocol has; it hides the password from onlookers who cannot compute MD5
//! faster than they can guess, and nothing else. Over an open network use TLS underneath.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use md5::{Digest, Md5};

use crate::broker::{Broker, Call, Referenceable, Responder};
use crate::jelly::Value;
use crate::{PbError, Reference, RemoteError};

/// Logs in with a name and a password. `mind` is what the peer's realm gets as mind; usually [`Value::None`].
///
/// # Errors
/// The peer refused, or the connection is gone.
pub async fn login(broker: &Broker, name: &str, password: &[u8], mind: Value) -> Result<Reference, PbError> {
    let name = Value::Bytes(Bytes::copy_from_slice(name.as_bytes()));
    let answer = broker.root().call("login", vec![name]).await?;
    let (challenge, challenger) = match &answer.value {
        Value::Tuple(parts) if parts.len() == 2 => (parts[0].as_bytes(), answer.reference(&parts[1])),
        _ => (None, None),
    };
    let (Some(challenge), Some(challenger)) = (challenge, challenger) else {
        return Err(PbError::Protocol(
            "a login is answered with a challenge and a challenger",
        ));
    };
    let response = respond(&md5(&[password]), challenge);
    let answer = challenger
        .call(
            "respond",
            vec![Value::Bytes(Bytes::copy_from_slice(&response)), mind],
        )
        .await?;
    answer
        .reference(&answer.value)
        .ok_or(PbError::NoObject("an avatar"))
}

/// Logs in without a name.
///
/// # Errors
/// The peer takes no guests, or the connection is gone.
pub async fn login_anonymous(broker: &Broker, mind: Value) -> Result<Reference, PbError> {
    let answer = broker.root().call("loginAnonymous", vec![mind]).await?;
    answer
        .reference(&answer.value)
        .ok_or(PbError::NoObject("an avatar"))
}

/// Who may log in, and what they get.
pub trait Portal: Send + Sync {
    /// The avatar for these credentials.
    ///
    /// # Errors
    /// A refusal, as the peer shall see it.
    fn login(&self, credentials: &Credentials) -> Result<Arc<dyn Referenceable>, RemoteError>;
}

/// What somebody logs in with.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// A name, and proof of a password.
    Hashed(HashedPassword),
}

/// A name and the answer to a challenge.
#[derive(Clone, Debug)]
pub struct HashedPassword {
    /// Who it says it is.
    pub name: Vec<u8>,
    challenge: [u8; 16],
    response: Vec<u8>,
}

impl HashedPassword {
    /// Whether the answer was made with this password.
    pub fn check(&self, password: &[u8]) -> bool {
        self.check_md5(&md5(&[password]))
    }

    /// Whether the answer was made with the password of this MD5. Takes the same time whatever the answer is.
    pub fn check_md5(&self, password_md5: &[u8; 16]) -> bool {
        let expected = respond(password_md5, &self.challenge);
        let differ = expected
            .iter()
            .zip(&self.response)
            .fold(0, |differ, (one, other)| differ | (one ^ other));
        self.response.len() == expected.len() && differ == 0
    }
}

/// The root object of a server that asks for a login.
pub fn portal_root(portal: Arc<dyn Portal>) -> Arc<dyn Referenceable> {
    Arc::new(PortalRoot { portal })
}

struct PortalRoot {
    portal: Arc<dyn Portal>,
}

impl Referenceable for PortalRoot {
    fn call(&self, call: Call) {
        match (&call.method[..], &call.args[..]) {
            ("login", [name]) if name.as_bytes().is_some() => {
                let challenge = challenge();
                let challenger = Arc::new(Challenger {
                    portal: Arc::clone(&self.portal),
                    name: name.as_bytes().unwrap_or_default().to_vec(),
                    challenge: Mutex::new(Some(challenge)),
                });
                match call.broker().lend(challenger) {
                    Ok(challenger) => {
                        let challenge = Value::Bytes(Bytes::copy_from_slice(&challenge));
                        call.responder
                            .answer(Value::Tuple([challenge, challenger].into()));
                    }
                    Err(error) => call
                        .responder
                        .fail(RemoteError::new("twisted.spread.pb.Error", error.to_string())),
                }
            }
            ("loginAnonymous", [_mind]) => {
                let broker = call.broker().clone();
                admit(
                    &broker,
                    call.responder,
                    self.portal.login(&Credentials::Anonymous),
                );
            }
            _ => call.responder.fail(no_such_method(&call.method)),
        }
    }
}

/// Lent to one who gave a name. A challenge is answered once: the next try needs another.
struct Challenger {
    portal: Arc<dyn Portal>,
    name: Vec<u8>,
    challenge: Mutex<Option<[u8; 16]>>,
}

impl Referenceable for Challenger {
    fn call(&self, call: Call) {
        let response = match (&call.method[..], &call.args[..]) {
            ("respond", [response, _mind]) => response.as_bytes().map(<[u8]>::to_vec),
            _ => None,
        };
        let Some(response) = response else {
            return call.responder.fail(no_such_method(&call.method));
        };
        let challenge = self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(challenge) = challenge else {
            return call.responder.fail(RemoteError::new(
                "twisted.cred.error.UnauthorizedLogin",
                "answered already",
            ));
        };
        let credentials = HashedPassword {
            name: self.name.clone(),
            challenge,
            response,
        };
        let broker = call.broker().clone();
        admit(
            &broker,
            call.responder,
            self.portal.login(&Credentials::Hashed(credentials)),
        );
    }
}

fn admit(broker: &Broker, responder: Responder, verdict: Result<Arc<dyn Referenceable>, RemoteError>) {
    let avatar = verdict.and_then(|avatar| {
        broker
            .lend(avatar)
            .map_err(|error| RemoteError::new("twisted.spread.pb.Error", error.to_string()))
    });
    match avatar {
        Ok(avatar) => responder.answer(avatar),
        Err(error) => responder.fail(error),
    }
}

fn no_such_method(method: &str) -> RemoteError {
    RemoteError::new(
        "twisted.spread.flavors.NoSuchMethod",
        format!("No such method: remote_{method}"),
    )
}

fn respond(password_md5: &[u8; 16], challenge: &[u8]) -> [u8; 16] {
    md5(&[password_md5, challenge])
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Sixteen bytes nobody can foresee: the system's randomness keys std's hasher, which is a keyed function.
fn challenge() -> [u8; 16] {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let halves = [
        RandomState::new().hash_one(counter),
        RandomState::new().hash_one(!counter),
    ];
    md5(&[&halves[0].to_be_bytes(), &halves[1].to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_and_length_pass() {
        let challenge = challenge();
        let response = respond(&md5(&[b"secret"]), &challenge).to_vec();
        let credentials = |response: &[u8]| HashedPassword {
            name: vec![],
            challenge,
            response: response.to_vec(),
        };
        assert!(credentials(&response).check(b"secret"));
        assert!(!credentials(&response).check(b"Secret"));
        assert!(!credentials(&response[..15]).check(b"secret"));
        assert!(!credentials(&[&response[..], &[0]].concat()).check(b"secret"));
        assert!(!credentials(&[]).check(b"secret"));
    }

    #[test]
    fn challenges_differ() {
        let mut seen = std::collections::HashSet::new();
        assert!((0..100).all(|_| seen.insert(challenge())));
    }
}
