//! The socket in a data folder.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "purlin.sock";

/// What the address of a unix socket holds on Linux, without the zero at its end; elsewhere it is a little less.
const LONGEST: usize = 100;

/// Where the process on a data folder answers its operator.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join(NAME)
}

/// Opens the socket of a data folder, for the user of the process only (mode 0600).
///
/// What a killed process left behind is replaced, so this is for whoever holds the lock of the data.
pub fn listen(data: &Path) -> io::Result<UnixListener> {
    let (path, room) = (socket_path(data), data.join(format!("{NAME}.new")));
    clear_away(&room)?;
    // A socket is there for everybody before it has its mode: until then it stands where nobody else can go.
    DirBuilder::new().mode(0o700).create(&room)?;
    let new = room.join(NAME);
    let listener = with_short(&new, |address| UnixListener::bind(address))?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, &path)?;
    fs::remove_dir(&room)?;
    Ok(listener)
}

/// Removes what a process left that died while it opened its socket.
fn clear_away(room: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(room) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(room),
        Ok(_) => fs::remove_file(room),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to the process on a data folder. `NotFound` and `ConnectionRefused` mean that there is none.
pub async fn connect(data: &Path) -> io::Result<UnixStream> {
    let stream = with_short(&socket_path(data), |address| std::os::unix::net::UnixStream::connect(address))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Calls `with` with an address of the socket that is short enough: a longer one goes by the folder's descriptor.
fn with_short<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() <= LONGEST {
        return with(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    with(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::message::new_id;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("purlin-{}", new_id())).join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
        }
    }

    async fn answers(data: &Path, listener: &UnixListener) {
        let (mut client, (mut server, _)) =
            tokio::try_join!(connect(data), async { listener.accept().await }).unwrap();
        server.write_all(b"here").await.unwrap();
        let mut word = [0; 4];
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"here");
    }

    #[tokio::test]
    async fn the_socket_is_for_the_user_of_the_process_only() {
        let folder = Folder::new("data");
        let listener = listen(&folder.0).unwrap();
        let mode = fs::metadata(socket_path(&folder.0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        answers(&folder.0, &listener).await;
    }

    #[tokio::test]
    async fn what_a_killed_process_left_behind_is_nobody_and_is_replaced() {
        let folder = Folder::new("data");
        assert_eq!(connect(&folder.0).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(listen(&folder.0).unwrap());
        assert_eq!(connect(&folder.0).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        answers(&folder.0, &listen(&folder.0).unwrap()).await;
        // One that died in the middle of it.
        fs::create_dir(folder.0.join("purlin.sock.new")).unwrap();
        fs::write(folder.0.join("purlin.sock.new").join(NAME), "").unwrap();
        answers(&folder.0, &listen(&folder.0).unwrap()).await;
        let names = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [NAME]);
    }

    #[tokio::test]
    async fn a_data_folder_may_have_a_long_name() {
        let folder = Folder::new(&"long".repeat(60));
        answers(&folder.0, &listen(&folder.0).unwrap()).await;
    }
}
