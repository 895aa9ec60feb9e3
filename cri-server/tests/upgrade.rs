//! What an older skiff has left: shims that speak an older protocol, played from bytes that were
//! recorded, and records (`tests/records/<version>`, never changed).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::Value;
use skiff_cri_server::container::record::ContainerRecord;
use skiff_cri_server::pod::record::PodRecord;
use skiff_cri_server::shim::{Client, ShimError};
use skiff_shim_proto::frame;
use skiff_shim_proto::message::{Attach, Create, FailureKind, Rootfs, Seccomp};

/// A shim of protocol 1, as its answers were recorded. It knows no attach.
fn old_shim() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let recorded = include_str!("../../proto/shim/tests/protocol/1/messages.jsonl");
    let answers: Vec<Value> = recorded
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    std::thread::spawn(move || {
        let mut buffer = Vec::new();
        while let Ok((request, _)) = frame::recv::<Value>(&theirs, &mut buffer) {
            let call = &request["call"];
            let name = call
                .as_str()
                .or_else(|| call.as_object()?.keys().next().map(String::as_str));
            let recorded_as = match name.unwrap() {
                "state" => 9,
                "create" => 2,
                "kill" => 6,
                _ => 12,
            };
            let answer = answers
                .iter()
                .find(|answer| answer["reply"]["seq"] == recorded_as);
            let mut answer = answer.unwrap().clone();
            answer["reply"]["seq"] = request["seq"].clone();
            let none: [BorrowedFd<'_>; 0] = [];
            frame::send(&theirs, &answer, &none).unwrap();
        }
    });
    ours
}

fn create() -> Create {
    Create {
        id: "c".repeat(64),
        spec: Spec::default(),
        rootfs: Rootfs::Directory("/".into()),
        images: Default::default(),
        cgroup: "/sys/fs/cgroup/x".into(),
        log_path: None,
        log_entry: None,
        stdin: false,
        stdin_once: false,
        seccomp: None,
        exit_path: "/x".into(),
    }
}

#[tokio::test]
async fn a_shim_of_protocol_1_is_served_and_asked_for_nothing_that_it_would_pass_over() {
    let (client, _events) = Client::new("old", old_shim()).unwrap();
    let state = client.state().await.unwrap();
    assert_eq!((state.protocol, state.containers.len()), (1, 1));
    client.kill("c", 15, false).await.unwrap();
    client.create(create(), None).await.unwrap();
    let seccomp = Seccomp {
        size: 8,
        flags: 0,
        listener: None,
    };
    let confined = Create {
        seccomp: Some(seccomp),
        ..create()
    };
    let null = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
    let error = client.create(confined, Some(null)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ShimError::Older {
                found: 1,
                needed: 2,
                ..
            }
        ),
        "{error}"
    );
    for word in ["protocol 1", "seccomp", "make the pod anew"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let attach = Attach {
        id: "c".into(),
        stdin: false,
        stdout: true,
        stderr: false,
    };
    let error = client.attach(attach, Vec::new()).await.unwrap_err();
    assert_eq!(error.refusal(), Some(FailureKind::Unsupported));
}

#[tokio::test]
async fn a_shim_of_the_future_is_not_talked_to() {
    let (client, _events) = Client::new("new", old_shim()).unwrap();
    let error = client.speaks(skiff_shim_proto::PROTOCOL + 1).unwrap_err();
    assert!(matches!(error, ShimError::Newer { .. }), "{error}");
}

fn record(letter: &str) -> PathBuf {
    let name = format!("tests/records/1/{}.json", letter.repeat(64));
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn records_of_version_1_are_read() {
    let (request, pod) = PodRecord::read(&record("b")).unwrap();
    assert_eq!(request.metadata.unwrap().name, "p");
    assert_eq!(pod.external, None);
    assert_eq!(pod.shim.id, "s1");
    let (birth, container) = ContainerRecord::read(&record("c")).unwrap();
    assert_eq!(birth.request.0.metadata.unwrap().name, "c");
    assert!(container.image_volumes.is_empty() && container.resources.is_none());
}
