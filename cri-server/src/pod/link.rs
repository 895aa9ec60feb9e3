//! How a pod's task is connected with its shim, and what happens when it is not.
//!
//! What must hold: containers are killed for want of a shim only when its process has ended. One
//! that has hung up, or does not answer, is looked for until then, and its pod stays as it was.

use std::time::Duration;

use skiff_shim_proto::message::{ContainerState, PodState};

use super::record::PodRecord;
use super::state::{Event, State};
use super::task::{Done, PodTask};
use crate::container::Exit;
use crate::container::state::Event as ContainerEvent;
use crate::id::Id;
use crate::layout::Layout;
use crate::shim::connect::{Found, Search};
use crate::shim::process::ProcessId;
use crate::shim::{Client, Events, Process, Shim, ShimError, ShimEvent};

/// How long after the end of a shim its last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The connection with a pod's shim.
pub enum Link {
    /// It stands.
    Up(LiveShim),
    /// The shim lives, as far as is known, and is looked for.
    Sought,
    /// The shim has ended.
    Gone,
}

/// A shim that is connected.
pub struct LiveShim {
    client: Client,
    events: Events,
    process: Process,
}

impl From<Shim> for Link {
    fn from(shim: Shim) -> Self {
        let Shim {
            client,
            events,
            process,
            ..
        } = shim;
        Self::Up(LiveShim {
            client,
            events,
            process,
        })
    }
}

impl Link {
    /// What the shim tells next.
    pub(super) async fn event(&mut self) -> ShimEvent {
        let Self::Up(LiveShim {
            events, process, ..
        }) = self
        else {
            std::future::pending().await
        };
        let end = async {
            process.ended().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            // What it said before its end comes first, and then the end of the connection.
            biased;
            // A reader that is gone without a word has ended with the daemon.
            Some(event) = events.recv() => event,
            () = end => ShimEvent::Closed,
        }
    }
}

impl PodTask {
    /// The connection to the pod's shim, or why there is none.
    pub(crate) fn client(&self) -> Result<Client, ShimError> {
        let shim = self.record.shim.id.clone();
        match &self.link {
            Link::Up(live) => Ok(live.client.clone()),
            Link::Sought => Err(ShimError::Unreached { shim }),
            Link::Gone => Err(ShimError::Gone { shim }),
        }
    }

    /// Looks for the shim in the background.
    pub(crate) fn seek_shim(&mut self, search: Search) {
        self.link = Link::Sought;
        // A task of its own, which reaps the shim even if this one has ended before.
        let found = tokio::spawn(search.until_found());
        self.begin(async move {
            match found.await {
                Ok(found) => Done::Sought(found.map(Box::new)),
                // The daemon ends, which must not look like the end of the shim.
                Err(_) => std::future::pending().await,
            }
        });
    }

    /// The connection has ended: most likely the shim has.
    pub(super) fn hung_up(&mut self) {
        let Link::Up(LiveShim { process, .. }) = std::mem::replace(&mut self.link, Link::Gone)
        else {
            return;
        };
        if self.record.state == State::Stopping {
            // It was told to end.
            reap(process);
        } else {
            let mut search = search(&self.record, &self.daemon.layout);
            search.process = Some(process);
            self.seek_shim(search);
        }
        self.publish();
    }

    /// The search for the shim is over.
    pub(super) fn sought(&mut self, found: Option<Found>) {
        if !matches!(self.link, Link::Sought) {
            // The pod has been stopped meanwhile, and the shim with it.
            return;
        }
        let Some(Found { shim, state }) = found else {
            self.link = Link::Gone;
            self.shim_lost();
            return;
        };
        tracing::info!(pod = %self.record.id, shim = shim.id, "the pod's shim answers again");
        self.link = shim.into();
        self.catch_up(state);
        self.publish();
    }

    /// Takes over what the shim tells of the pod and its containers.
    fn catch_up(&mut self, state: PodState) {
        let mut told = state.containers;
        let ids: Vec<Id> = self.containers.keys().cloned().collect();
        for id in ids {
            match told.iter().position(|told| told.id == id.as_str()) {
                Some(at) => self.container_found(&id, told.swap_remove(at)),
                None if self.has_ended(&id) => {}
                None => self.settle_exit(&id, Exit::shim_lost),
            }
        }
        // What is left was being made when the connection ended, and is nobody's.
        for stranger in told {
            let Ok(client) = self.client() else { return };
            tokio::spawn(async move {
                let id = stranger.id;
                if let Err(error) = client.delete(&id).await {
                    let error = crate::telemetry::chain(&error);
                    tracing::error!(container = id, error, "the shim does not forget it");
                }
            });
        }
        if let Some(reason) = state.broken {
            self.broken(reason);
        }
    }

    fn container_found(&mut self, id: &Id, told: ContainerState) {
        match told.exit {
            Some(record) => self.container_exited(record),
            None => {
                let process = ProcessId {
                    pid: told.pid,
                    start_time: told.start_time,
                };
                let started_at = told.started_at;
                let found = ContainerEvent::Found {
                    process,
                    started_at,
                };
                self.apply(id, found);
                self.save_container(id);
            }
        }
    }

    /// The shim can run no container any more. It still ends those there are, and tells of it.
    pub(crate) fn broken(&mut self, reason: String) {
        let id = &self.record.id;
        tracing::error!(pod = %id, reason, "the pod is of no use any more");
        self.reason = Some(reason);
        if self.record.state == State::Ready {
            self.step(Event::Lost);
            self.save();
        }
        self.publish();
    }

    /// Lets go of a shim that was told to end, after what it still had to say.
    pub(super) fn part_with_shim(&mut self) {
        let Link::Up(mut live) = std::mem::replace(&mut self.link, Link::Gone) else {
            return;
        };
        while let Ok(ShimEvent::Event(event)) = live.events.try_recv() {
            self.shim_news(event);
        }
        live.process.kill();
        reap(live.process);
    }

    fn has_ended(&self, id: &Id) -> bool {
        let slot = self.containers.get(id);
        slot.is_none_or(|slot| slot.view.state.exit().is_some())
    }
}

/// The search for the shim of a record.
pub(crate) fn search(record: &PodRecord, layout: &Layout) -> Search {
    Search {
        pod: record.id.to_string(),
        shim: record.shim.id.clone(),
        run_dir: layout.shim(&record.shim.id),
        id: record.shim.process,
        process: None,
    }
}

/// Waits for the end of a process that is told to end, which may be a child of ours.
fn reap(mut process: Process) {
    tokio::spawn(async move { process.ended().await });
}
