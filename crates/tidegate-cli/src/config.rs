//! The configuration file: defaults for options, and endpoints with names.
//!
//! Knows where the file is and what may stand in it; who wins over whom is decided in [`crate::settings`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
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

/// A value as text, and where in the file it stands.
type Written = toml::Spanned<String>;

/// The same words as the options; sizes and times as text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Defaults {
    pub(crate) low: Option<Written>,
    pub(crate) high: Option<Written>,
    pub(crate) max: Option<Written>,
    pub(crate) chunk: Option<Written>,
    pub(crate) rate: Option<Written>,
    pub(crate) stall: Option<Written>,
    pub(crate) connect_timeout: Option<Written>,
    pub(crate) drain: Option<Written>,
    pub(crate) lane: Option<Written>,
    pub(crate) checksum: Option<Written>,
    pub(crate) durability: Option<Written>,
    pub(crate) progress: Option<Written>,
    pub(crate) log_format: Option<Written>,
    pub(crate) quiet: Option<bool>,
    pub(crate) verbose: Option<u8>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) header: Option<Vec<String>>,
    pub(crate) method: Option<String>,
    pub(crate) retries: Option<u32>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) active: Option<bool>,
    pub(crate) part: Option<bool>,
    /// Where all this was read.
    #[serde(skip)]
    origin: Origin,
}

/// A file and its text, to say on which line a value stands.
#[derive(Clone, Debug, Default)]
struct Origin {
    path: PathBuf,
    text: String,
}

impl Defaults {
    /// What a configured value says, if there is one.
    ///
    /// # Errors
    /// It cannot be read; the error names file and line.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        written: &Option<Written>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        let Some(written) = written else {
            return Ok(None);
        };
        match parse(written.get_ref()) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let before = self.origin.text.get(..written.span().start).unwrap_or("");
                let line = before.matches('\n').count() + 1;
                bail!("{}:{line}: `{name}`: {error}", self.origin.path.display())
            }
        }
    }
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
            Ok(text) => Self::parse(path, text),
            // Of a HOME that is no folder, as many a daemon's is /dev/null, neither.
            Err(error) if !must && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(Self::default())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(path: PathBuf, text: String) -> Result<Self> {
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).unwrap_or("").matches('\n').count() + 1;
            anyhow!(
                "{}:{line}: {}",
                path.display(),
                error.message().replace('\n', " ")
            )
        })?;
        config.defaults.origin = Origin { path, text };
        Ok(config)
    }

    /// The file it was read from, if there was one.
    pub(crate) fn path(&self) -> Option<&Path> {
        let path = self.defaults.origin.path.as_path();
        (!path.as_os_str().is_empty()).then_some(path)
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
        match crate::address::slips::nearest(name, names) {
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
    use crate::size::parse_rate;

    fn parse(text: &str) -> Result<Config> {
        Config::parse("/etc/x.toml".into(), text.to_owned())
    }

    #[test]
    fn names_resolve_and_slips_get_a_suggestion() {
        let config = parse(
            "[defaults]\nrate = '1MiB/s'\nconnect-timeout = '5s'\n[endpoints]\nbackup = 'tcp://127.0.0.1:9'\n",
        )
        .unwrap();
        let timeout = config.defaults.connect_timeout.as_ref().unwrap();
        assert_eq!(timeout.get_ref(), "5s");
        assert_eq!(
            config.resolve(OsStr::new("@backup")).unwrap(),
            "tcp://127.0.0.1:9"
        );
        assert_eq!(config.resolve(OsStr::new("./@backup")).unwrap(), "./@backup");
        let error = config.resolve(OsStr::new("@bakcup")).unwrap_err().to_string();
        assert!(error.contains("@backup"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (text, at) in [
            ("[defaults]\nrat = '1'\n", "/etc/x.toml:2: unknown field `rat`"),
            ("[defaults]\n\nretries = 'many'\n", "/etc/x.toml:3: invalid type"),
            ("[defaults\n", "/etc/x.toml:1: "),
            ("[endpoints]\na = 1\n", "/etc/x.toml:2: invalid type"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(at), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let defaults = parse("[defaults]\n# slow\nrate = 'soon'\n").unwrap().defaults;
        let error = defaults
            .read("rate", &defaults.rate, parse_rate)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("/etc/x.toml:3: `rate`: `soon` is no rate"),
            "{error}"
        );
    }
}
