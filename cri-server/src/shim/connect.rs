//! Finds a shim again: one that an earlier daemon left, or that has hung up.
//!
//! A shim that lives and does not answer is not a dead one: its containers run. It may be stopped
//! or starved, or this daemon may have no descriptor left for the connection. So it is asked again
//! until it answers or its process ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use skiff_shim_proto::message::PodState;

use super::process::{Process, ProcessId};
use super::{Client, Events, Shim, ShimError};
use crate::layout;

/// Longest wait for the answer of a shim that is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a shim is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The shim of a pod, which is looked for.
#[derive(Debug)]
pub struct Search {
    /// Pod id.
    pub pod: String,
    /// Name of the shim's run directory.
    pub shim: String,
    /// That directory.
    pub run_dir: PathBuf,
    /// Its process.
    pub id: ProcessId,
    /// The same, once it was seen alive.
    pub process: Option<Process>,
}

/// A shim that answers.
pub struct Found {
    /// The shim, connected.
    pub shim: Shim,
    /// What it says of its pod.
    pub state: PodState,
}

/// What a look came to.
pub enum Look {
    /// It answers.
    Found(Found),
    /// It lives and does not answer.
    Silent(Search, ShimError),
    /// Its process has ended, or it is another pod's or nobody's.
    Gone,
}

impl Search {
    /// Connects and asks for the state of the pod, which may take so long.
    pub async fn look(mut self, patience: Duration) -> Look {
        if self.process.is_none() {
            match Process::find(self.id) {
                Ok(None) => return Look::Gone,
                Ok(process) => self.process = process,
                Err(source) => {
                    let shim = self.shim.clone();
                    return Look::Silent(self, ShimError::Spawn { shim, source });
                }
            }
        }
        let answer = tokio::time::timeout(patience, self.ask()).await;
        let error = match (answer, self.process.take()) {
            (Ok(Ok((_, _, state))), _) if state.pod_id.as_ref() != Some(&self.pod) => {
                // One that had not been adopted ends by itself.
                return Look::Gone;
            }
            (Ok(Ok((client, events, state))), Some(process)) => {
                let shim = Shim {
                    id: self.shim,
                    run_dir: self.run_dir,
                    client,
                    events,
                    process,
                };
                return Look::Found(Found { shim, state });
            }
            (Ok(Err(error)), process) => {
                self.process = process;
                error
            }
            (_, process) => {
                self.process = process;
                ShimError::Silent {
                    shim: self.shim.clone(),
                    call: "state",
                    seconds: patience.as_secs(),
                }
            }
        };
        // One that has just ended, or waits for somebody to reap it, does not answer either.
        if self.id.is_alive() {
            Look::Silent(self, error)
        } else {
            self.reap().await;
            Look::Gone
        }
    }

    /// Looks until it answers; `None` when its process has ended, which is reaped if it is ours.
    pub async fn until_found(self) -> Option<Found> {
        let mut search = self;
        loop {
            search = match search.look(PATIENCE).await {
                Look::Found(found) => return Some(found),
                Look::Gone => return None,
                Look::Silent(search, _) => search,
            };
            let pause = tokio::time::sleep(PAUSE);
            match &mut search.process {
                Some(process) => tokio::select! {
                    () = process.ended() => return None,
                    () = pause => {}
                },
                None => pause.await,
            }
        }
    }

    async fn ask(&self) -> Result<(Client, Events, PodState), ShimError> {
        let (client, events) = connect_client(&self.shim, &self.run_dir)?;
        let state = client.state().await?;
        Ok((client, events, state))
    }

    async fn reap(&mut self) {
        if let Some(process) = &mut self.process {
            process.ended().await;
        }
    }
}

/// Connects to whatever listens in a shim's run directory.
pub fn connect_client(id: &str, run_dir: &Path) -> Result<(Client, Events), ShimError> {
    let gone = |_| ShimError::Gone { shim: id.into() };
    let address = SocketAddrUnix::new(layout::shim_socket(run_dir)).map_err(gone)?;
    // Without waiting: a stopped shim does not accept, and its queue may be full.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
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
