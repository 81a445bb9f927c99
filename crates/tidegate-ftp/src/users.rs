//! Users: a file with one line a user and an argon2 hash on it.
//!
//! Refuses to know replies and sessions: asked with a name and a password it says who that is, or that it is nobody.
//!
//! A line is `name:hash`, or `name:hash:directory` for a user whose root lies below the served directory. Empty lines and
//! lines that begin with `#` are passed over. The hash is in PHC form (`$argon2id$v=19$…`), as `hash_line` writes it.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

/// What is wrong with a file of users, or with a user to be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read the file of users: {0}")]
    Read(#[from] io::Error),
    /// A line is not of the form above. Lines count from 1.
    #[error("line {line} of the file of users is wrong: {why}")]
    Line {
        /// Which line.
        line: usize,
        /// In what way.
        why: &'static str,
    },
    /// A name that cannot stand in the file.
    #[error("a user name must be printable and without colon or space")]
    Name,
    /// The hash could not be computed.
    #[error("cannot hash the password: {0}")]
    Hash(String),
}

/// A user who has proved who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownUser {
    /// The name.
    pub name: String,
    /// Where the user's root lies, relative to the served directory; empty for the directory itself.
    pub directory: PathBuf,
}

/// The users of a file.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: Arc<HashMap<String, Entry>>,
    /// A crowd that logs in at once must not take 19 MiB each.
    turns: Arc<Semaphore>,
}

impl Default for Users {
    fn default() -> Self {
        Self::new(HashMap::new())
    }
}

#[derive(Debug)]
struct Entry {
    hash: String,
    directory: PathBuf,
}

impl Users {
    /// Reads a file of users. Blocks: call it before serving.
    ///
    /// # Errors
    /// [`UsersError`].
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// The users of a text in the form of the file.
    ///
    /// # Errors
    /// [`UsersError::Line`].
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut by_name = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| UsersError::Line { line: index + 1, why };
            let (name, entry) = parse_line(line).map_err(wrong)?;
            if by_name.insert(name, entry).is_some() {
                return Err(wrong("the name stands there twice"));
            }
        }
        Ok(Self::new(by_name))
    }

    fn new(by_name: HashMap<String, Entry>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            by_name: Arc::new(by_name),
            turns: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Whether no user is there.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Checks a password on a thread of its own: argon2 takes tens of milliseconds and 19 MiB. An unknown name costs as
    /// much as a wrong password, so that nobody learns which names exist. No more run at once than there are processors;
    /// the others wait.
    ///
    /// # Cancel safety
    /// The thread ends by itself.
    pub async fn verify(&self, name: &str, password: Vec<u8>) -> Option<KnownUser> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let (users, name) = (self.clone(), name.to_owned());
        let verified = tokio::task::spawn_blocking(move || {
            let known = users.verify_now(&name, &password);
            drop(turn);
            known
        });
        verified.await.ok().flatten()
    }

    fn verify_now(&self, name: &str, password: &[u8]) -> Option<KnownUser> {
        let entry = self.by_name.get(name);
        let hash = entry.map_or(DECOY, |entry| &entry.hash);
        let hash = PasswordHash::new(hash).ok()?;
        let is_right = Argon2::default().verify_password(password, &hash).is_ok();
        entry.filter(|_| is_right).map(|entry| KnownUser {
            name: name.to_owned(),
            directory: entry.directory.clone(),
        })
    }
}

/// A hash nobody knows a password for, with the parameters of `hash_line`.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$dGlkZWdhdGUtZGVjb3k$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The line for a new user. Blocks for some tens of milliseconds.
///
/// ```
/// let line = tidegate_ftp::users::hash_line("anna", "secret").unwrap();
/// assert!(line.starts_with("anna:$argon2id$"));
/// ```
///
/// # Errors
/// [`UsersError::Name`], [`UsersError::Hash`].
pub fn hash_line(name: &str, password: &str) -> Result<String, UsersError> {
    check_name(name).map_err(|_| UsersError::Name)?;
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    let hash = hash.map_err(|error| UsersError::Hash(error.to_string()))?;
    Ok(format!("{name}:{hash}"))
}

fn parse_line(line: &str) -> Result<(String, Entry), &'static str> {
    let mut fields = line.splitn(3, ':');
    let name = fields.next().unwrap_or_default();
    check_name(name)?;
    let hash = fields.next().ok_or("no hash")?;
    let parsed = PasswordHash::new(hash).map_err(|_| "the hash is not in PHC form")?;
    if !parsed.algorithm.as_str().starts_with("argon2") {
        return Err("the hash is not argon2");
    }
    let directory = PathBuf::from(fields.next().unwrap_or_default());
    let is_below = directory
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_below {
        return Err("the directory must be relative and without `..`");
    }
    let entry = Entry {
        hash: hash.to_owned(),
        directory,
    };
    Ok((name.to_owned(), entry))
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && c != ':';
    if name.is_empty() || name.starts_with('#') || !name.chars().all(is_plain) {
        return Err("the name must be printable and without colon or space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_written_is_a_user_known() {
        let line = hash_line("anna", "sécret").unwrap();
        let users = Users::parse(&format!("# people\n\n{line}:home/anna\n")).unwrap();
        let anna = users.verify_now("anna", "sécret".as_bytes()).unwrap();
        assert_eq!(
            (anna.name.as_str(), anna.directory.as_path()),
            ("anna", Path::new("home/anna"))
        );
        assert_eq!(users.verify_now("anna", b"wrong"), None);
        assert_eq!(users.verify_now("anna", b""), None);
        assert_eq!(users.verify_now("otto", "sécret".as_bytes()), None);
        assert_ne!(line, hash_line("anna", "sécret").unwrap(), "the salt differs");
    }

    #[test]
    fn the_decoy_is_a_hash_like_any_other() {
        let decoy = PasswordHash::new(DECOY).unwrap();
        assert!(decoy.hash.is_some());
        let own = hash_line("a", "b").unwrap();
        let own = PasswordHash::new(own.strip_prefix("a:").unwrap()).unwrap();
        assert_eq!(decoy.params, own.params);
    }

    #[test]
    fn wrong_lines_are_named_by_number() {
        let good = hash_line("anna", "x").unwrap();
        for (text, line) in [
            ("anna".to_owned(), 1),
            ("anna:plain".to_owned(), 1),
            (":".to_owned(), 1),
            (format!("{good}\n{good}"), 2),
            (format!("{good}:../up"), 1),
            (format!("{good}:/abs"), 1),
        ] {
            match Users::parse(&text) {
                Err(UsersError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(hash_line("a:b", "x"), Err(UsersError::Name)));
    }
}
