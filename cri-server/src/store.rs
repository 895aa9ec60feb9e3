//! All pods of the node: found by id, by an id's beginning, and by name.
//!
//! The maps hold handles only. Their lock is held for a look-up or an insertion and never across
//! I/O or an await; what a pod is like is read from its handle without any lock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use skiff_cri::v1::PodSandboxMetadata;

use crate::id::Id;
use crate::pod::host_ports::{HostPort, host_ports, taken};
use crate::pod::{PodHandle, PodView};

/// What a kubelet names a pod by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name in it.
    pub name: String,
    /// Kubernetes' uid of the pod.
    pub uid: String,
    /// Which sandbox for the pod.
    pub attempt: u32,
}

impl From<PodSandboxMetadata> for PodName {
    fn from(metadata: PodSandboxMetadata) -> Self {
        let PodSandboxMetadata {
            name,
            uid,
            namespace,
            attempt,
        } = metadata;
        Self {
            namespace,
            name,
            uid,
            attempt,
        }
    }
}

/// An id's beginning that fits several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is the beginning of several ids")]
pub struct Ambiguous(pub String);

/// Why a pod cannot be entered.
pub enum Taken {
    /// A pod has the name.
    Name(Arc<PodHandle>),
    /// A living pod has some of the host's ids that its user namespace is to have.
    Ids(Arc<PodHandle>),
    /// A living pod has a port of the host that is to lead to this one.
    Port(Arc<PodHandle>, HostPort),
}

/// A container and its pod.
pub type Found = (Id, Arc<PodHandle>);

/// All pods. Shared by everyone.
#[derive(Default)]
pub struct Store {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    pods: BTreeMap<Id, Arc<PodHandle>>,
    names: HashMap<PodName, Arc<PodHandle>>,
    containers: BTreeMap<Id, Arc<PodHandle>>,
}

impl Store {
    /// Enters a pod under its name, or returns the one that has the name.
    pub fn reserve(&self, name: &PodName, pod: &Arc<PodHandle>) -> Result<(), Arc<PodHandle>> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = index.names.get(name) {
            return Err(Arc::clone(holder));
        }
        index.enter(name, pod);
        Ok(())
    }

    /// Enters a pod that is found by its id only.
    pub fn enter_nameless(&self, pod: &Arc<PodHandle>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.pods.insert(pod.id().clone(), Arc::clone(pod));
    }

    /// Enters a pod that is to be made, unless one has the name, or a living one
    /// ([`PodView::is_living`]) would share ids of the host with it: two pods that did could reach each
    /// other's files and processes. Nor may it share a port of the host, which would lead to one of the
    /// two.
    pub fn claim(&self, name: &PodName, pod: &Arc<PodHandle>) -> Result<(), Taken> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = index.names.get(name) {
            return Err(Taken::Name(Arc::clone(holder)));
        }
        if let Some(user) = pod.user_namespace() {
            let shares = |other: &&Arc<PodHandle>| {
                other.user_namespace().is_some_and(|of| of.overlaps(&user))
                    && other.view().is_living()
            };
            if let Some(holder) = index.pods.values().find(shares) {
                return Err(Taken::Ids(Arc::clone(holder)));
            }
        }
        let ports = host_ports(&pod.facts().config);
        if !ports.is_empty() {
            let living = index.pods.values().filter(|other| other.view().is_living());
            for other in living {
                if let Some(port) = taken(&ports, &other.facts().config) {
                    return Err(Taken::Port(Arc::clone(other), port));
                }
            }
        }
        index.enter(name, pod);
        Ok(())
    }

    /// Forgets a pod with its name.
    pub fn forget(&self, name: &PodName, pod: &Id) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.pods.remove(pod);
        if index
            .names
            .get(name)
            .is_some_and(|holder| holder.id() == pod)
        {
            index.names.remove(name);
        }
    }

    /// The newest pod for the same pod of Kubernetes as the named one, if there is a newer one that
    /// clients may know of. A kubelet numbers its attempts without gaps.
    pub fn successor(&self, name: &PodName) -> Option<Arc<PodView>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let (mut name, mut newest) = (name.clone(), None);
        loop {
            name.attempt = name.attempt.checked_add(1)?;
            let Some(pod) = index.names.get(&name) else {
                return newest;
            };
            newest = Some(pod.view()).filter(|view| view.is_visible()).or(newest);
        }
    }

    /// Enters a container of a pod.
    pub fn add_container(&self, container: Id, pod: Arc<PodHandle>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.containers.insert(container, pod);
    }

    /// Forgets a container.
    pub fn forget_container(&self, container: &Id) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.containers.remove(container);
    }

    /// All pods, ordered by id.
    pub fn pods(&self) -> Vec<Arc<PodHandle>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.pods.values().cloned().collect()
    }

    /// The pod with that id, or the only one whose id begins so.
    pub fn pod(&self, text: &str) -> Result<Option<Arc<PodHandle>>, Ambiguous> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Ok(find(&index.pods, text)?.map(|(_, pod)| pod))
    }

    /// The container with that id, or the only one whose id begins so.
    pub fn container(&self, text: &str) -> Result<Option<Found>, Ambiguous> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        find(&index.containers, text)
    }
}

impl Index {
    fn enter(&mut self, name: &PodName, pod: &Arc<PodHandle>) {
        self.names.insert(name.clone(), Arc::clone(pod));
        self.pods.insert(pod.id().clone(), Arc::clone(pod));
    }
}

fn find(map: &BTreeMap<Id, Arc<PodHandle>>, text: &str) -> Result<Option<Found>, Ambiguous> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut from = map.range::<str, _>((Bound::Included(text), Bound::Unbounded));
    let mut next = || from.next().filter(|(id, _)| id.as_str().starts_with(text));
    let Some((id, pod)) = next() else {
        return Ok(None);
    };
    if id.as_str() != text && next().is_some() {
        return Err(Ambiguous(text.into()));
    }
    Ok(Some((id.clone(), Arc::clone(pod))))
}

#[cfg(test)]
mod tests {
    use skiff_cri::v1 as cri;

    use super::*;
    use crate::pod::{Facts, State};

    fn pod(name: &str, first_id: u32) -> Arc<PodHandle> {
        let ids = cri::IdMapping {
            host_id: first_id,
            container_id: 0,
            length: 65536,
        };
        let namespaces = cri::NamespaceOption {
            userns_options: Some(cri::UserNamespace {
                mode: cri::NamespaceMode::Pod.into(),
                uids: vec![ids],
                gids: vec![ids],
            }),
            ..Default::default()
        };
        let context = cri::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces),
            ..Default::default()
        };
        let facts = Facts {
            id: Id::random().unwrap(),
            config: cri::PodSandboxConfig {
                metadata: Some(PodSandboxMetadata {
                    name: name.into(),
                    ..Default::default()
                }),
                linux: Some(cri::LinuxPodSandboxConfig {
                    security_context: Some(context),
                    ..Default::default()
                }),
                ..Default::default()
            },
            runtime_handler: String::new(),
            created_at: 0,
            labels: None,
        };
        PodHandle::new(Arc::new(facts)).0
    }

    /// The ids of a pod that had lost its shim were given to another, its processes still being there.
    #[test]
    fn ids_of_the_host_are_refused_as_long_as_a_pods_processes_may_have_them() {
        let store = Store::default();
        let claim = |pod: &Arc<PodHandle>| store.claim(pod.name(), pod);
        let (first, second) = (pod("first", 1 << 16), pod("second", 1 << 16));
        assert!(claim(&first).is_ok());
        assert!(claim(&pod("other", 2 << 16)).is_ok());
        let mut view = (*first.view()).clone();
        (view.state, view.holding) = (State::NotReady, true);
        first.show(view.clone());
        match claim(&second) {
            Err(Taken::Ids(holder)) => assert_eq!(holder.id(), first.id()),
            _ => panic!("two pods have the same ids of the host"),
        }
        view.holding = false;
        first.show(view);
        assert!(claim(&second).is_ok());
    }
}
