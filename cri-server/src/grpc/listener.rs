//! The unix socket that clients connect to.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::clients::Services;
use super::{Images, Runtime};

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("listen on {}: another process is listening there", .0.display())]
    InUse(PathBuf),
    /// There is something that is not ours to remove.
    #[error("listen on {}: a file that is not a socket is there; remove it", .0.display())]
    NotSocket(PathBuf),
    /// The system refused.
    #[error("listen on {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A socket that is bound, so that a client can connect and wait.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
}

impl Listener {
    /// Binds `path`, for its owner and group. The socket that a dead daemon left is replaced.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io {
            path: path.into(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        clear(path)?;
        let socket = UnixListener::bind(path).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(path, mode).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Serves until `end`; what is being answered then is not waited for.
    pub async fn serve(self, runtime: Runtime, images: Images, end: impl Future<Output = ()>) {
        tokio::select! {
            never = Services::new(runtime, images).serve(&self.socket) => match never {},
            () = end => {}
        }
    }
}

fn clear(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io {
        path: path.into(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotSocket(path.into()));
        }
        Ok(_) => {}
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.into()));
    }
    std::fs::remove_file(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/skiff.sock");
        drop(Listener::bind(&path).unwrap());
        let listener = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(ListenError::NotSocket(_))
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
