//! How a pod's task removes a container.

use std::path::PathBuf;
use std::sync::Arc;

use super::task::{Answer, Done, PodTask};
use crate::cgroup;
use crate::container::ContainerError;
use crate::container::remains::give_back;
use crate::daemon::Daemon;
use crate::id::Id;

impl PodTask {
    pub(super) fn remove_container(&mut self, id: &Id, answer: Answer<(), ContainerError>) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        slot.remove_waiters.push(answer);
        if !slot.removing {
            self.begin_container_removal(id);
        }
    }

    pub(super) fn begin_container_removal(&mut self, id: &Id) {
        let client = self.client();
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        slot.removing = true;
        let cgroup = slot.view.facts.cgroup.clone();
        let daemon = Arc::clone(&self.daemon);
        let id = id.clone();
        self.begin(async move {
            let failed = |source| ContainerError::Shim {
                action: "delete",
                id: id.clone(),
                source,
            };
            let deleted = match client {
                Ok(client) => client.delete(id.as_str()).await,
                Err(error) => Err(error),
            };
            // With a shim that is gone nobody else holds anything of it.
            let deleted = deleted.or_else(|e| if e.is_gone() { Ok(()) } else { Err(failed(e)) });
            let result = match deleted {
                Ok(()) => remove_remains(&daemon, &id, cgroup).await,
                Err(error) => Err(error),
            };
            Done::Removed(id, result)
        });
    }

    pub(super) fn container_removed(&mut self, id: &Id, result: Result<(), ContainerError>) {
        match result {
            Ok(()) => {
                let Some(slot) = self.containers.remove(id) else {
                    return;
                };
                self.daemon.store.forget_container(id);
                self.publish();
                for waiter in slot.stop_waiters.into_iter().chain(slot.remove_waiters) {
                    let _ = waiter.send(Ok(()));
                }
                self.advance_removal();
            }
            Err(error) => {
                let error = Arc::new(error);
                if let Some(slot) = self.containers.get_mut(id) {
                    slot.removing = false;
                    for waiter in slot.remove_waiters.drain(..) {
                        let _ = waiter.send(Err(Arc::clone(&error)));
                    }
                }
                self.fail_removal_by(ContainerError::Shared(error));
            }
        }
    }
}

async fn remove_remains(daemon: &Daemon, id: &Id, cgroup: PathBuf) -> Result<(), ContainerError> {
    let emptied = cgroup::kill(&cgroup)
        .await
        .map_err(|source| ContainerError::File {
            action: "empty cgroup",
            path: cgroup,
            source,
        })?;
    if !emptied {
        let seconds = cgroup::PATIENCE.as_secs();
        return Err(ContainerError::Undead {
            id: id.clone(),
            seconds,
        });
    }
    give_back(daemon, id)
}
