//! The first administrator, made on first start.

use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use purlin::message::{Uuid, new_id};
use purlin::store::{Cause, Commit, CommitError};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::user::{Particulars, Person, UserError};
use super::{FirstAdministrator, Users};
use crate::contracts::who::Role;

/// Where the first administrator is written to.
const EMAIL: &str = "admin@shop.local";

impl Users {
    /// Makes the first administrator, once: one who is forgotten does not come back. His password is in its file before he is there, so that
    /// a crash in between leaves nobody whose password nobody knows.
    pub(super) async fn first_administrator(&self, first: &FirstAdministrator) -> Result<(), Cause> {
        if self.administrators.is_first_made().await? {
            return Ok(());
        }
        // Earlier versions kept no record of it.
        if let Some(user_id) = self.addresses.owner(EMAIL).await? {
            return self.made(self.administrators.first(Commit::new(), user_id)).await;
        }
        let password = match &first.password {
            Some(password) => password.clone(),
            None => kept_password(&first.file)?,
        };
        let user_id = new_id();
        let hashed = self.passwords.hash(&password).await?;
        let person = Particulars { email: EMAIL, name: "Administrator", password: &hashed };
        let registration = self.registration(user_id, Role::Admin, person).await?;
        self.made(self.administrators.first(registration, user_id)).await
    }

    /// Commits, unless another process has done the same.
    async fn made(&self, commit: Commit) -> Result<(), Cause> {
        match self.base.store.commit(commit).await {
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The commit that makes somebody a user, unless his address is somebody's.
    pub(super) async fn registration(
        &self,
        user_id: Uuid,
        role: Role,
        particulars: Particulars<'_>,
    ) -> Result<Commit, purlin::aggregate::UpdateError<UserError>> {
        let person = Person::new(user_id, particulars);
        let change = self.users.change(user_id, |user| user.register(&person, role)).await?;
        Ok(self.addresses.take(Commit::from(change), particulars.email, user_id))
    }
}

/// The password in the file; a new one if there is no file.
fn kept_password(file: &Path) -> Result<String, Cause> {
    match std::fs::read_to_string(file) {
        Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the machine gives no random bytes")?;
    let password = URL_SAFE_NO_PAD.encode(bytes);
    write_secret(file, &password)?;
    Ok(password)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_secret(file: &Path, secret: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let draft = file.with_extension("new");
    let _ = std::fs::remove_file(&draft);
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(open, "{secret}")?;
    open.sync_all()?;
    std::fs::rename(&draft, file)?;
    // The name is in the folder, and lasts when that does.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_was_made_up_is_kept_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = std::env::temp_dir().join(format!("shop-admin-{}", new_id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("admin-password");
        let password = kept_password(&file).unwrap();
        assert!(password.len() >= 16);
        assert_eq!(kept_password(&file).unwrap(), password);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
