//! Whether what is there of an FTP transfer is the beginning of what is to come: two files must not be joined into one.
//!
//! Knows what can be compared: the SHA-256 of the part where the server tells it, else the times. Refuses to know how a
//! transfer is opened.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_ftp::client::{Ask, Standing};
use tidegate_io::{Blame, EndpointError, ErrorKind};

use super::remote_file;
use crate::address::{Address, Place, Scheme};
use crate::checksum::{Hasher, Kind};
use crate::settings::{CopySettings, Existing};

const PIECE_BYTES: usize = 256 * 1024;

/// Where an upload to `url` goes on.
pub(super) async fn upload(
    source: &Address,
    url: &str,
    settings: &CopySettings,
) -> Result<u64, EndpointError> {
    // Only a file can be read twice.
    let path = match (source.scheme, &source.place) {
        (Scheme::File, Place::Path(path)) => Some(path),
        _ => None,
    };
    let ask = path.map_or(Ask::Size, |_| Ask::Content);
    let Some(kept) = remote_file::kept(url, ask, settings).await? else {
        return Ok(0);
    };
    let bytes = kept.bytes;
    if let Some(path) = path.filter(|_| bytes > 0) {
        let begun = Begun { bytes, path, url };
        let changed = |local, remote| local > remote;
        begun.compare(kept, settings.existing, changed).await?;
    }
    Ok(bytes)
}

/// Checks a download of which the first `bytes` are in the file at `path`.
pub(super) async fn download(
    source: &Address,
    path: &Path,
    bytes: u64,
    settings: &CopySettings,
) -> Result<(), EndpointError> {
    let (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) = (source.scheme, &source.place) else {
        return Ok(());
    };
    if bytes == 0 {
        return Ok(());
    }
    match remote_file::first(url, bytes, settings).await? {
        Some(there) if there.bytes >= bytes => {
            let changed = |local, remote| remote > local;
            Begun { bytes, path, url }
                .compare(there, settings.existing, changed)
                .await
        }
        // Too short, or nobody knows: the transfer itself says so.
        _ => Ok(()),
    }
}

/// A transfer that was begun.
struct Begun<'a> {
    /// What was transferred.
    bytes: u64,
    /// The file on this side.
    path: &'a Path,
    /// The file on the other.
    url: &'a str,
}

impl Begun<'_> {
    /// `changed` says of the times of the local and of the remote file whether what is to be read was changed after the other
    /// was written.
    async fn compare(
        &self,
        remote: Standing,
        existing: Existing,
        changed: fn(i64, i64) -> bool,
    ) -> Result<(), EndpointError> {
        let (path, bytes) = (self.path.to_owned(), self.bytes);
        if let Some(theirs) = remote.sha256 {
            let hashed = tokio::task::spawn_blocking(move || sha256_of_first(&path, bytes)).await;
            return match hashed.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
                Ok(ours) if ours == theirs => Ok(()),
                Ok(_) => Err(self.refused("differ")),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(self.refused("are not all there"))
                }
                Err(error) => Err(EndpointError::open(
                    format!("cannot compare {}", self.path.display()),
                    error,
                )),
            };
        }
        let local = tokio::fs::metadata(&path)
            .await
            .map_err(|error| EndpointError::open(format!("cannot open {}", path.display()), error))?;
        if local.len() < bytes {
            return Err(self.refused("are not all there"));
        }
        let times = (
            local.modified().ok().and_then(unix_seconds),
            remote.modify_unix_seconds,
        );
        match times {
            (Some(local), Some(remote)) if changed(local, remote) && existing != Existing::Replace => {
                Err(self.refused(
                    "may differ: by the two clocks it was changed since; --force goes on all the same",
                ))
            }
            (Some(_), Some(_)) => Ok(()),
            _ => {
                tracing::warn!(
                    "the server tells neither hash nor time of {}: not compared",
                    without_password(self.url)
                );
                Ok(())
            }
        }
    }

    fn refused(&self, why: &str) -> EndpointError {
        let (bytes, path, url) = (self.bytes, self.path.display(), without_password(self.url));
        let what = format!("cannot resume: the first {bytes} bytes of {path} and {url} {why}");
        EndpointError::new(ErrorKind::Mismatch, Blame::Caller, what)
    }
}

fn without_password(url: &str) -> String {
    url.parse::<tidegate_ftp::client::FtpUrl>()
        .map_or_else(|_| "the remote file".to_owned(), |url| url.to_string())
}

fn unix_seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs())
            .ok()
            .map(|seconds| -seconds),
    }
}

/// In lower-case hex.
fn sha256_of_first(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?.take(bytes);
    let mut hasher = Hasher::new(Kind::Sha256);
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        match file.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                hasher.update(&piece[..got]);
                left -= got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finish().hex)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn compare(bytes: u64, remote: Standing, existing: Existing) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abcdef").unwrap();
        let written = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        file.as_file().set_modified(written).unwrap();
        let begun = Begun {
            bytes,
            path: file.path(),
            url: "ftp://anna:secret@h/f",
        };
        let upload = |local, remote| local > remote;
        let refused = begun.compare(remote, existing, upload).await.err()?;
        assert_eq!(refused.kind, ErrorKind::Mismatch);
        Some(refused.to_string())
    }

    fn at(seconds: i64) -> Standing {
        Standing {
            modify_unix_seconds: Some(seconds),
            ..Standing::default()
        }
    }

    #[tokio::test]
    async fn without_a_hash_the_times_are_compared() {
        assert_eq!(compare(3, at(1000), Existing::Refuse).await, None);
        let refused = compare(3, at(999), Existing::Refuse).await.unwrap();
        assert!(
            refused.contains("may differ") && !refused.contains("secret"),
            "{refused}"
        );
        assert_eq!(compare(3, at(999), Existing::Replace).await, None);
        assert_eq!(compare(3, Standing::default(), Existing::Refuse).await, None);
        assert!(compare(7, at(1000), Existing::Replace).await.is_some());
    }

    #[tokio::test]
    async fn a_hash_decides_alone() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hashed = |hash: &str| Standing {
            sha256: Some(hash.to_owned()),
            ..at(1)
        };
        assert_eq!(compare(3, hashed(abc), Existing::Refuse).await, None);
        for bytes in [2, 4, 7] {
            assert!(
                compare(bytes, hashed(abc), Existing::Replace).await.is_some(),
                "{bytes}"
            );
        }
    }
}
