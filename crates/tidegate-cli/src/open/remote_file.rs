//! `ftp://` and `ftps://` addresses.
//!
//! Knows where passwords come from: a file, the URL, `~/.netrc`, in this order.

use std::path::{Path, PathBuf};

use tidegate_ftp::client::{
    self, Ask, ClientOptions, DataMode, FtpSink, FtpSource, FtpUrl, Put, Resume, Security, Standing,
};
use tidegate_io::{Blame, EndpointError, ErrorKind};

use super::tls;
use crate::settings::{CopySettings, EndSettings, Existing};

/// A download from an offset on.
pub(super) async fn source(
    url: &str,
    offset: u64,
    settings: &CopySettings,
) -> Result<FtpSource, EndpointError> {
    let (url, options) = prepare(url, settings)?;
    let resume = Resume {
        offset,
        ..Resume::default()
    };
    client::get(&url, &options, resume).await
}

/// An upload, from an offset on where one was asked for.
pub(super) async fn sink(url: &str, offset: u64, settings: &CopySettings) -> Result<FtpSink, EndpointError> {
    let (url, options) = prepare(url, settings)?;
    let put = match settings.existing {
        _ if offset > 0 => Put::From(offset),
        Existing::Append => Put::Append,
        Existing::Refuse | Existing::Replace if settings.ends.part => Put::Beside,
        Existing::Refuse | Existing::Replace => Put::Direct,
    };
    client::put(&url, &options, put).await
}

/// How much of an upload is there already, and what it is.
pub(super) async fn kept(
    url: &str,
    ask: Ask,
    settings: &CopySettings,
) -> Result<Option<Standing>, EndpointError> {
    let (url, options) = prepare(url, settings)?;
    client::kept(&url, &options, ask).await
}

/// What is there to go on with behind the first `bytes` of a download.
pub(super) async fn first(
    url: &str,
    bytes: u64,
    settings: &CopySettings,
) -> Result<Option<Standing>, EndpointError> {
    let (url, options) = prepare(url, settings)?;
    client::first(&url, &options, bytes).await
}

/// Checks what can be checked before anything is opened.
///
/// # Errors
/// A sentence saying what is wrong.
pub(crate) fn check(url: &str) -> Result<(), String> {
    url.parse::<FtpUrl>()
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn prepare(url: &str, settings: &CopySettings) -> Result<(FtpUrl, ClientOptions), EndpointError> {
    let wrong = |what: String| EndpointError::new(ErrorKind::Open, Blame::Caller, what);
    let mut url: FtpUrl = url.parse().map_err(|error| wrong(format!("{error}")))?;
    let mut options = ClientOptions {
        connect_timeout: settings.flow.connect_timeout,
        mode: if settings.ends.active {
            DataMode::Active
        } else {
            DataMode::Passive
        },
        ..ClientOptions::default()
    };
    options.password = password(&mut url, &settings.ends).map_err(wrong)?;
    if url.security == Security::Explicit {
        options.tls = Some(tls::client_config(&settings.ends.tls)?);
    }
    Ok((url, options))
}

/// The password, and from `~/.netrc` the user too when the URL names none.
fn password(url: &mut FtpUrl, ends: &EndSettings) -> Result<Option<String>, String> {
    if let Some(path) = &ends.password_file {
        return first_line(path).map(Some);
    }
    if url.password.is_some() {
        return Ok(None);
    }
    let Some(text) = netrc_path().and_then(|path| std::fs::read_to_string(path).ok()) else {
        return Ok(None);
    };
    let found = netrc(&text, &url.host, url.user.as_deref());
    if let (Some(login), None) = (&found, &url.user) {
        url.user.clone_from(&login.user);
    }
    Ok(found.and_then(|login| login.password))
}

fn first_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the password from {}: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or("").to_owned())
}

fn netrc_path() -> Option<PathBuf> {
    let named = std::env::var_os("NETRC").map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".netrc")))
}

/// A login from a netrc file.
#[derive(Debug, Default, Eq, PartialEq)]
struct Login {
    user: Option<String>,
    password: Option<String>,
}

/// The first entry for the machine (and the user, when one is wanted); `default` stands for every machine but gives no
/// password to a user it does not name.
fn netrc(text: &str, host: &str, user: Option<&str>) -> Option<Login> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .collect();
    let joined = lines.join("\n");
    let mut words = joined.split_whitespace();
    let mut entries: Vec<(bool, Login)> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "machine" => entries.push((words.next() == Some(host), Login::default())),
            "default" => entries.push((true, Login::default())),
            "login" | "password" | "account" => {
                let value = words.next().map(str::to_owned);
                if let Some((_, entry)) = entries.last_mut() {
                    match word {
                        "login" => entry.user = value,
                        "password" => entry.password = value,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let fits = |login: &Login| user.is_none() || login.user.as_deref() == user;
    entries
        .into_iter()
        .find(|(here, login)| *here && fits(login))
        .map(|(_, login)| login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netrc_entries_are_found_by_machine_and_user() {
        let text = "# mine\nmachine a login me password one\nmachine a login you password two\n\
                    machine b\n  login me\n  password three\ndefault login anonymous password x@y\n";
        let password = |host, user| netrc(text, host, user).and_then(|login| login.password);
        assert_eq!(password("a", None).as_deref(), Some("one"));
        assert_eq!(password("a", Some("you")).as_deref(), Some("two"));
        assert_eq!(password("b", Some("me")).as_deref(), Some("three"));
        assert_eq!(password("c", Some("me")), None);
        assert_eq!(
            netrc(text, "c", None).and_then(|login| login.user).as_deref(),
            Some("anonymous")
        );
    }
}
