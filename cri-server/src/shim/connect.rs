//! Finds a shim that an earlier daemon left.

use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::process::{Process, ProcessId};
use super::{Client, Shim, ShimError};
use crate::layout;

/// Connects to the shim `id`. [`ShimError::Gone`] when its process or its socket is no more.
pub fn connect_to(id: &str, run_dir: &Path, process: ProcessId) -> Result<Shim, ShimError> {
    let failed = |source| ShimError::Spawn {
        shim: id.into(),
        source,
    };
    let gone = || ShimError::Gone { shim: id.into() };
    let process = Process::find(process).map_err(failed)?.ok_or_else(gone)?;
    let (client, events) = connect_client(id, run_dir)?;
    Ok(Shim {
        id: id.into(),
        run_dir: run_dir.into(),
        client,
        events,
        process,
    })
}

/// Connects to whatever listens in a shim's run directory.
pub fn connect_client(id: &str, run_dir: &Path) -> Result<(Client, super::Events), ShimError> {
    let gone = |_| ShimError::Gone { shim: id.into() };
    let address = SocketAddrUnix::new(layout::shim_socket(run_dir)).map_err(gone)?;
    let flags = SocketFlags::CLOEXEC;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(|e| {
            ShimError::Spawn {
                shim: id.into(),
                source: e.into(),
            }
        })?;
    connect(&socket, &address).map_err(gone)?;
    Client::new(id, socket)
}
