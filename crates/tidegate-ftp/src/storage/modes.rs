//! Permission bits, on systems that have them.
//!
//! Knows nothing of how a client asks for them.

use cap_std::fs::{Permissions, PermissionsExt};

use super::{Storage, StorageError};
use crate::grammar::VirtualPath;

impl Storage {
    /// Sets the permission bits, without set-user-ID, set-group-ID and sticky.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn set_mode(&self, path: &VirtualPath, mode: u32) -> Result<(), StorageError> {
        self.may_write()?;
        let path = path.to_relative();
        let permissions = Permissions::from_mode(mode & 0o777);
        self.work(move |dir| Ok(dir.set_permissions(path, permissions)?))
            .await
    }
}
