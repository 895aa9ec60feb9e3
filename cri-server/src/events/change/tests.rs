use std::collections::BTreeMap;

use skiff_cri::v1 as cri;

use super::*;
use crate::container::Exit;
use crate::pod::PodHandle;
use crate::shim::process::ProcessId;
use crate::store::Store;

const PROCESS: ProcessId = ProcessId {
    pid: 7,
    start_time: 70,
};

pub(crate) fn created() -> State {
    State::Created { process: PROCESS }
}

fn starting() -> State {
    State::Starting { process: PROCESS }
}

pub(crate) fn running() -> State {
    State::Running {
        process: PROCESS,
        started_at: 5,
    }
}

pub(crate) fn exited(reason: &str, finished_at: i64) -> State {
    let exit = Exit {
        code: 0,
        reason: reason.into(),
        message: String::new(),
        started_at: 5,
        finished_at,
    };
    State::Exited { exit }
}

/// An id that is the same for the same name.
fn id(name: &str) -> Id {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    Id::parse(&format!("{hex:0<64}")).unwrap()
}

pub(crate) fn container(name: &str, state: State) -> Arc<ContainerView> {
    let record = crate::container::record::ContainerRecord {
        boot_id: String::new(),
        id: id(name),
        pod: id("pod"),
        created_at: 1,
        image_id: String::new(),
        image: String::new(),
        image_volumes: BTreeMap::new(),
        cgroup: "/c".into(),
        log_path: None,
        user: crate::container::record::UserRecord {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        stop_signal: 15,
        resources: None,
        state: state.clone(),
    };
    let facts = crate::container::Facts::new(
        &record,
        cri::ContainerConfig::default(),
        oci_spec::runtime::Spec::default(),
        None,
    );
    Arc::new(ContainerView::new(Arc::new(facts), state))
}

pub(crate) fn pod_view(name: &str, attempt: u32, containers: &[Arc<ContainerView>]) -> PodView {
    let metadata = cri::PodSandboxMetadata {
        name: name.into(),
        attempt,
        ..Default::default()
    };
    let facts = crate::pod::Facts {
        id: id(&format!("{name}{attempt}")),
        config: cri::PodSandboxConfig {
            metadata: Some(metadata),
            ..Default::default()
        },
        runtime_handler: String::new(),
        labels: None,
        created_at: 1,
    };
    let containers = containers.iter();
    PodView {
        facts: Arc::new(facts),
        state: PodState::Ready,
        holding: true,
        ips: Vec::new(),
        netns: None,
        cgroup_parent: std::path::PathBuf::new(),
        shim: None,
        reason: None,
        containers: containers
            .map(|view| (view.facts.id.clone(), Arc::clone(view)))
            .collect(),
        listed: crate::listed::Listed::default(),
    }
}

/// Enters a pod that readers see so.
pub(crate) fn enter(store: &Store, view: PodView) {
    let (handle, _inbox) = PodHandle::new(Arc::clone(&view.facts));
    assert!(store.reserve(handle.name(), &handle).is_ok());
    handle.show(view);
}

fn kinds(before: &PodView, after: &PodView) -> Vec<(Kind, Id)> {
    between(before, after)
}

#[test]
fn a_container_lives() {
    use Kind::{ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted};
    use Kind::{ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped};
    let at = |state: Option<State>| {
        let containers: Vec<_> = state.into_iter().map(|s| container("c", s)).collect();
        pod_view("p", 0, &containers)
    };
    let unknown = |started_at| State::Unknown {
        started_at,
        why: String::new(),
    };
    for (before, after, want) in [
        (None, Some(created()), vec![Created]),
        (Some(created()), Some(starting()), vec![]),
        (Some(starting()), Some(created()), vec![]),
        (Some(starting()), Some(running()), vec![Started]),
        (Some(running()), Some(unknown(5)), vec![]),
        (Some(unknown(5)), Some(running()), vec![]),
        (Some(unknown(0)), Some(running()), vec![Started]),
        (Some(running()), Some(exited("Error", 9)), vec![Stopped]),
        // The end may overtake the answer to the start that caused it.
        (
            Some(starting()),
            Some(exited("Completed", 9)),
            vec![Started, Stopped],
        ),
        (
            Some(starting()),
            Some(exited("StartError", 9)),
            vec![Stopped],
        ),
        // One that never ran ended when it began.
        (Some(created()), Some(exited("Error", 5)), vec![Stopped]),
        // Start and end came together: nobody has seen it start.
        (
            Some(created()),
            Some(exited("Error", 9)),
            vec![Started, Stopped],
        ),
        (
            Some(created()),
            Some(exited("StartError", 9)),
            vec![Stopped],
        ),
        (Some(exited("Error", 9)), Some(exited("Error", 9)), vec![]),
        (Some(exited("Error", 9)), None, vec![Deleted]),
    ] {
        let want: Vec<_> = want.into_iter().map(|kind| (kind, id("c"))).collect();
        let got = kinds(&at(before.clone()), &at(after.clone()));
        assert_eq!(got, want, "{before:?} to {after:?}");
    }
}

#[test]
fn a_pod_has_stopped_after_its_containers() {
    let at = |state, container_state| {
        let mut view = pod_view("p", 0, &[container("c", container_state)]);
        view.state = state;
        view
    };
    let empty = |state| {
        let mut view = pod_view("p", 0, &[]);
        view.state = state;
        view
    };
    let pod = id("p0");
    let stopped = Kind::ContainerStoppedEvent;
    assert_eq!(
        kinds(&empty(PodState::Starting), &empty(PodState::Ready)),
        [
            (Kind::ContainerCreatedEvent, pod.clone()),
            (Kind::ContainerStartedEvent, pod.clone())
        ]
    );
    let ready = at(PodState::Ready, running());
    let stopping = at(PodState::Stopping, running());
    let not_ready = at(PodState::NotReady, exited("Error", 9));
    assert_eq!(kinds(&ready, &stopping), []);
    assert_eq!(
        kinds(&stopping, &not_ready),
        [(stopped, id("c")), (stopped, pod)]
    );
    assert_eq!(kinds(&not_ready, &not_ready), []);
}
