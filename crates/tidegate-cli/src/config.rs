//! The configuration file: defaults for options, and endpoints with names.
//!
//! Knows where the file is and what may stand in it; who wins over whom is decided in [`crate::settings`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Values for options that neither the command line nor the environment gives.
    #[serde(default)]
    pub(crate) defaults: Defaults,
    /// `@name` on the command line stands for the address.
    #[serde(default)]
    pub(crate) endpoints: BTreeMap<String, String>,
}

/// The same words as the options; sizes and times as text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Defaults {
    pub(crate) low: Option<String>,
    pub(crate) high: Option<String>,
    pub(crate) max: Option<String>,
    pub(crate) chunk: Option<String>,
    pub(crate) rate: Option<String>,
    pub(crate) stall: Option<String>,
    pub(crate) connect_timeout: Option<String>,
    pub(crate) drain: Option<String>,
    pub(crate) lane: Option<String>,
    pub(crate) checksum: Option<String>,
    pub(crate) progress: Option<String>,
    pub(crate) log_format: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) retries: Option<u32>,
}

impl Config {
    /// Reads the file asked for, or the one in its usual place when there is one.
    ///
    /// # Errors
    /// A file that was asked for is missing; a file holds what cannot be read.
    pub(crate) fn load(asked: Option<&Path>) -> Result<Self> {
        let (path, must) = match (asked, usual_place()) {
            (Some(path), _) => (path.to_owned(), true),
            (None, Some(path)) => (path, false),
            (None, None) => return Ok(Self::default()),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("cannot use {}", path.display())),
            Err(error) if !must && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Puts the address in the place of `@name`; everything else stays as it is.
    ///
    /// # Errors
    /// No endpoint has that name.
    pub(crate) fn resolve(&self, written: &OsStr) -> Result<OsString> {
        let Some(name) = written.to_str().and_then(|text| text.strip_prefix('@')) else {
            return Ok(written.to_owned());
        };
        if let Some(address) = self.endpoints.get(name) {
            return Ok(address.into());
        }
        let names = self.endpoints.keys().map(String::as_str);
        match crate::address::grammar::nearest(name, names) {
            Some(near) => bail!("no endpoint is called @{name}\n  try @{near}, or ./@{name} for a file"),
            None => bail!(
                "no endpoint is called @{name}\n  try ./@{name} for a file, or name it under [endpoints] in the configuration"
            ),
        }
    }
}

/// `$XDG_CONFIG_HOME/tidegate/config.toml`, else under `~/.config`.
fn usual_place() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .or_else(|| set("APPDATA"))?;
    Some(base.join("tidegate").join("config.toml"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_resolve_and_slips_get_a_suggestion() {
        let config: Config = toml::from_str(
            "[defaults]\nrate = '1MiB/s'\nconnect-timeout = '5s'\n[endpoints]\nbackup = 'tcp://127.0.0.1:9'\n",
        )
        .unwrap();
        assert_eq!(config.defaults.connect_timeout.as_deref(), Some("5s"));
        assert_eq!(
            config.resolve(OsStr::new("@backup")).unwrap(),
            "tcp://127.0.0.1:9"
        );
        assert_eq!(config.resolve(OsStr::new("./@backup")).unwrap(), "./@backup");
        let error = config.resolve(OsStr::new("@bakcup")).unwrap_err().to_string();
        assert!(error.contains("@backup"), "{error}");
    }

    #[test]
    fn an_unknown_word_is_refused() {
        assert!(toml::from_str::<Config>("[defaults]\nrat = '1'\n").is_err());
    }
}
