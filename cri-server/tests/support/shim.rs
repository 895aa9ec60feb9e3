//! Shims that speak the protocol and run nothing. Each is a thread of the test, with a real
//! process (`sleep`) to stand for it, and it outlives the daemon that started it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, socket_with,
    socketpair,
};
use rustix::process::{Pid, Signal, kill_process};
use skiff_cri_server::shim::Process;
use skiff_cri_server::shim::pool::Kind;
use skiff_cri_server::shim::spawn::Spawn;
use skiff_shim_proto::frame::{recv, send};
use skiff_shim_proto::message::{
    Adopt, Call, ContainerState, Create, CreateTook, Event, Exec, Failure, FailureKind, Message,
    PodState, Reply, Request,
};
use skiff_shim_proto::record::ExitRecord;
use skiff_shim_proto::{PROTOCOL, record::run_dir};

/// How shims behave from now on.
#[derive(Default)]
pub(crate) struct Script {
    /// Adoption fails.
    pub(crate) refuse_adopt: Option<Failure>,
    /// Creation fails.
    pub(crate) refuse_create: Option<Failure>,
    /// Creation is not answered.
    pub(crate) silent_create: bool,
    /// Starting fails.
    pub(crate) refuse_start: Option<Failure>,
    /// Starting is not answered.
    pub(crate) silent_start: bool,
    /// Changing limits fails.
    pub(crate) refuse_update: Option<Failure>,
    /// Changing limits is not answered before [`Shims::answer_update`].
    pub(crate) hold_updates: bool,
    held_updates: Vec<(u64, Arc<OwnedFd>)>,
    /// Containers end with this code before their creation is answered.
    pub(crate) stillborn: Option<i32>,
    /// Exit records cannot be written.
    pub(crate) disk_full: bool,
    /// Signals that containers do not end from.
    pub(crate) ignored: Vec<i32>,
    /// Execs run until they are killed.
    pub(crate) endless_exec: bool,
    /// Signals that were sent, and what else was asked, in order.
    pub(crate) log: Vec<String>,
}

/// All shims of a node.
#[derive(Clone, Default)]
pub(crate) struct Shims {
    pub(crate) script: Arc<Mutex<Script>>,
    all: Arc<Mutex<Vec<Arc<FakeShim>>>>,
}

struct FakeShim {
    pid: i32,
    start_time: u64,
    script: Arc<Mutex<Script>>,
    run_dir: PathBuf,
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pod: Option<Adopt>,
    broken: Option<String>,
    containers: BTreeMap<String, (ContainerState, PathBuf)>,
    mounts: BTreeMap<String, Vec<(String, String)>>,
    connections: Vec<Arc<OwnedFd>>,
    execs: BTreeMap<u64, (u64, Arc<OwnedFd>)>,
}

impl Spawn for Shims {
    fn spawn(&self, run_dir: &Path, kind: Kind) -> io::Result<(OwnedFd, Process)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Without the test's output, which its runner waits for the end of.
        let child = Command::new("sleep")
            .arg("3600")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Process::of_child(child)?;
        let shim = Arc::new(FakeShim {
            pid: process.id.pid,
            start_time: process.id.start_time,
            script: Arc::clone(&self.script),
            run_dir: run_dir.into(),
            kind,
            state: Mutex::default(),
        });
        self.all.lock().unwrap().push(Arc::clone(&shim));
        let listener = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(
            &listener,
            &SocketAddrUnix::new(run_dir.join(run_dir::SOCKET))?,
        )?;
        listen(&listener, 8)?;
        let ready = Event::Ready {
            protocol: PROTOCOL,
            pid: shim.pid,
            start_time: process.id.start_time,
        };
        send(&theirs, &Message::Event(ready), &[]).unwrap();
        let accepting = Arc::clone(&shim);
        std::thread::spawn(move || {
            while let Ok(connection) = accept(&listener) {
                let shim = Arc::clone(&accepting);
                std::thread::spawn(move || shim.serve(connection));
            }
        });
        std::thread::spawn(move || shim.serve(theirs));
        Ok((ours, process))
    }
}

impl Shims {
    /// Answers the first change of limits that was held.
    pub(crate) fn answer_update(&self, result: Result<(), Failure>) {
        let (seq, to) = self.script.lock().unwrap().held_updates.remove(0);
        let result = result.map(|()| Reply::Done);
        send(&*to, &Message::Reply { seq, result }, &[]).unwrap();
    }

    /// `kill -9` of the shim of a pod.
    pub(crate) fn kill(&self, pod: &str) {
        let shim = self.find(pod).expect("a shim of that pod");
        shim.end();
    }

    /// What the shims that were started are for.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.all
            .lock()
            .unwrap()
            .iter()
            .map(|shim| shim.kind)
            .collect()
    }

    /// A container of a pod ends by itself.
    pub(crate) fn exit(&self, pod: &str, container: &str, code: i32) {
        self.find(pod)
            .expect("a shim of that pod")
            .exit(container, code, 0, true);
    }

    /// Source and destination of the mounts that a container was created with.
    pub(crate) fn mounts(&self, pod: &str, container: &str) -> Vec<(String, String)> {
        let shim = self.find(pod).expect("a shim of that pod");
        shim.state.lock().unwrap().mounts[container].clone()
    }

    /// The connections of a pod's shim close; it goes on.
    pub(crate) fn hang_up(&self, pod: &str) {
        let shim = self.find(pod).expect("a shim of that pod");
        for connection in shim.state.lock().unwrap().connections.iter() {
            let _ = rustix::net::shutdown(connection.as_fd(), rustix::net::Shutdown::Both);
        }
    }

    /// A pod's shim cannot be connected to any more.
    pub(crate) fn hide(&self, pod: &str) {
        let socket = self.find(pod).unwrap().run_dir.join(run_dir::SOCKET);
        std::fs::rename(&socket, socket.with_extension("hidden")).unwrap();
    }

    /// It can again.
    pub(crate) fn show(&self, pod: &str) {
        let socket = self.find(pod).unwrap().run_dir.join(run_dir::SOCKET);
        std::fs::rename(socket.with_extension("hidden"), &socket).unwrap();
    }

    /// A pod cannot run containers any more.
    pub(crate) fn break_pod(&self, pod: &str, reason: &str) {
        let shim = self.find(pod).expect("a shim of that pod");
        shim.state.lock().unwrap().broken = Some(reason.into());
        shim.tell(&Event::Broken {
            reason: reason.into(),
        });
    }

    /// A container whose start was not answered runs.
    pub(crate) fn come_through(&self, pod: &str, container: &str) {
        let shim = self.find(pod).expect("a shim of that pod");
        let mut state = shim.state.lock().unwrap();
        state.containers.get_mut(container).unwrap().0.started_at = 1_000;
        drop(state);
        shim.tell(&Event::Started {
            id: container.into(),
            started_at: 1_000,
        });
    }

    /// What shims were asked, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.script.lock().unwrap().log.clone()
    }

    /// Pods that have a living shim.
    pub(crate) fn pods(&self) -> Vec<String> {
        let all = self.all.lock().unwrap();
        let shims = all.iter();
        shims
            .filter_map(|shim| shim.state.lock().unwrap().pod.clone())
            .map(|p| p.pod_id)
            .collect()
    }

    /// Ends them all, with the test.
    pub(crate) fn end(&self) {
        for shim in self.all.lock().unwrap().iter() {
            shim.end();
        }
    }

    fn find(&self, pod: &str) -> Option<Arc<FakeShim>> {
        let all = self.all.lock().unwrap();
        all.iter()
            .find(|shim| {
                shim.state
                    .lock()
                    .unwrap()
                    .pod
                    .as_ref()
                    .is_some_and(|adopt| adopt.pod_id == pod)
            })
            .cloned()
    }
}

impl FakeShim {
    fn serve(self: Arc<Self>, connection: OwnedFd) {
        let connection = Arc::new(connection);
        self.state
            .lock()
            .unwrap()
            .connections
            .push(Arc::clone(&connection));
        let mut buffer = Vec::new();
        while let Ok((request, fds)) = recv::<Request>(&*connection, &mut buffer) {
            let Request { seq, call } = request;
            let last = matches!(call, Call::Shutdown);
            if let Some(result) = self.answer(seq, call, fds, &connection) {
                let _ = send(&*connection, &Message::Reply { seq, result }, &[]);
            }
            if last {
                break;
            }
        }
        let mut state = self.state.lock().unwrap();
        state
            .connections
            .retain(|other| !Arc::ptr_eq(other, &connection));
        let spare = state.pod.is_none();
        drop(state);
        if spare {
            self.end();
        }
    }

    /// Ends as a killed process does: connections close, the directory stays.
    fn end(&self) {
        let mut state = self.state.lock().unwrap();
        state.pod = None;
        for connection in state.connections.drain(..) {
            let _ = rustix::net::shutdown(connection.as_fd(), rustix::net::Shutdown::Both);
        }
        let _ = std::fs::remove_file(self.run_dir.join(run_dir::SOCKET));
        let _ = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
    }

    fn answer(
        &self,
        seq: u64,
        call: Call,
        fds: Vec<OwnedFd>,
        connection: &Arc<OwnedFd>,
    ) -> Option<Result<Reply, Failure>> {
        let mut script = self.script.lock().unwrap();
        Some(match call {
            Call::Adopt(adopt) => match script.refuse_adopt.clone() {
                Some(failure) => Err(failure),
                None => {
                    if let Some(netns) = &adopt.netns {
                        std::fs::write(netns, "").unwrap();
                    }
                    let init_pid = adopt.shared_pid.then_some(self.pid);
                    self.state.lock().unwrap().pod = Some(adopt);
                    Ok(Reply::Adopted {
                        init_pid,
                        took: Some(1_000),
                    })
                }
            },
            Call::Create(_) if script.silent_create => return None,
            Call::Create(create) => match script.refuse_create.clone() {
                Some(failure) => Err(failure),
                None => {
                    let (id, stillborn) = (create.id.clone(), script.stillborn);
                    drop(script);
                    let reply = self.create(*create);
                    if let Some(code) = stillborn {
                        self.exit(&id, code, 0, true);
                    }
                    Ok(reply)
                }
            },
            Call::Start { .. } if script.silent_start => return None,
            Call::Start { id } => match script.refuse_start.clone() {
                Some(failure) => Err(failure),
                None => {
                    let mut state = self.state.lock().unwrap();
                    state.containers.get_mut(&id).unwrap().0.started_at = 1_000;
                    Ok(Reply::Started {
                        started_at: 1_000,
                        took: Some(1_000),
                    })
                }
            },
            Call::Exec(exec) => {
                let endless = script.endless_exec;
                script.log.push("exec".into());
                return self.exec(seq, *exec, fds, endless, connection);
            }
            Call::KillExec { exec_id } => {
                script.log.push("kill exec".into());
                if let Some((seq, to)) = self.state.lock().unwrap().execs.remove(&exec_id) {
                    let script = Arc::clone(&self.script);
                    thread::spawn(move || {
                        // Who is killed dies later.
                        thread::sleep(Duration::from_millis(200));
                        script.lock().unwrap().log.push("exec ended".into());
                        let result = Ok(Reply::ExecExited { code: 137 });
                        let _ = send(&*to, &Message::Reply { seq, result }, &[]);
                    });
                }
                Ok(Reply::Done)
            }
            Call::Kill { id, signal, all } => {
                script
                    .log
                    .push(format!("kill {signal}{}", if all { " all" } else { "" }));
                let ends = !script.ignored.contains(&signal);
                drop(script);
                if ends {
                    self.exit(&id, 128 + signal, signal, true);
                }
                Ok(Reply::Done)
            }
            Call::Delete { id } => {
                script.log.push("delete".into());
                self.state.lock().unwrap().containers.remove(&id);
                Ok(Reply::Done)
            }
            Call::ReopenLog { .. } => Ok(Reply::Done),
            Call::State => {
                let state = self.state.lock().unwrap();
                Ok(Reply::State(PodState {
                    pod_id: state.pod.as_ref().map(|adopt| adopt.pod_id.clone()),
                    protocol: PROTOCOL,
                    containers: state.containers.values().map(|(c, _)| c.clone()).collect(),
                    broken: state.broken.clone(),
                }))
            }
            Call::Update(update) => match script.refuse_update.clone() {
                Some(failure) => Err(failure),
                None => {
                    let limits = serde_json::to_string(&update.resources).unwrap();
                    let score = update.oom_score_adj;
                    script.log.push(format!("update {limits} {score:?}"));
                    if script.hold_updates {
                        script.held_updates.push((seq, Arc::clone(connection)));
                        return None;
                    }
                    Ok(Reply::Done)
                }
            },
            call @ (Call::Attach(_) | Call::Resize(_) | Call::Dial { .. }) => Err(Failure {
                kind: FailureKind::Unsupported,
                message: format!("{call:?}"),
            }),
            Call::Shutdown => {
                script.log.push("shutdown".into());
                drop(script);
                let ids: Vec<String> = self
                    .state
                    .lock()
                    .unwrap()
                    .containers
                    .keys()
                    .cloned()
                    .collect();
                for id in ids {
                    self.exit(&id, 137, 9, false);
                }
                let _ = send(
                    &**connection,
                    &Message::Reply {
                        seq,
                        result: Ok(Reply::Done),
                    },
                    &[],
                );
                self.end();
                return None;
            }
        })
    }

    fn create(&self, create: Create) -> Reply {
        let container = ContainerState {
            id: create.id.clone(),
            pid: self.pid,
            start_time: self.start_time,
            started_at: 0,
            exit: None,
        };
        let mounts = create.spec.mounts().iter().flatten().map(|mount| {
            let source = mount.source().clone().unwrap_or_default();
            let text = |path: &Path| path.to_str().unwrap().to_owned();
            (text(&source), text(mount.destination()))
        });
        let mut state = self.state.lock().unwrap();
        state.mounts.insert(create.id.clone(), mounts.collect());
        state
            .containers
            .insert(create.id, (container, create.exit_path));
        Reply::Created {
            pid: self.pid,
            start_time: self.start_time,
            took: Some(CreateTook::default()),
        }
    }

    fn tell(&self, event: &Event) {
        for connection in &self.state.lock().unwrap().connections {
            let _ = send(&**connection, &Message::Event(event.clone()), &[]);
        }
    }

    fn exec(
        &self,
        seq: u64,
        exec: Exec,
        fds: Vec<OwnedFd>,
        endless: bool,
        connection: &Arc<OwnedFd>,
    ) -> Option<Result<Reply, Failure>> {
        let args = exec.process.args().clone().unwrap_or_default();
        let mut streams = fds.into_iter().map(File::from);
        let _ = writeln!(streams.next().unwrap(), "{}", args.join(" "));
        let _ = streams.next().unwrap().write_all(b"oops");
        if endless {
            let mut state = self.state.lock().unwrap();
            state
                .execs
                .insert(exec.exec_id, (seq, Arc::clone(connection)));
            return None;
        }
        if args[0] == "/missing" {
            let kind = FailureKind::Command { exit_code: 127 };
            return Some(Err(Failure {
                kind,
                message: "exec /missing: no such file".into(),
            }));
        }
        Some(Ok(Reply::ExecExited { code: 3 }))
    }

    /// Ends a container: the record first, then the word.
    fn exit(&self, id: &str, code: i32, signal: i32, tell: bool) {
        let disk_full = self.script.lock().unwrap().disk_full;
        let mut state = self.state.lock().unwrap();
        let Some((container, path)) = state.containers.get_mut(id) else {
            return;
        };
        if container.exit.is_some() {
            return;
        }
        let record = ExitRecord {
            version: 1,
            id: id.into(),
            code,
            signal,
            oom_killed: false,
            started_at: container.started_at,
            finished_at: 2_000,
            start_error: None,
        };
        if !disk_full {
            let _ = std::fs::write(path, serde_json::to_vec(&record).unwrap());
        }
        container.exit = Some(record.clone());
        for connection in state.connections.iter().filter(|_| tell) {
            let _ = send(
                &**connection,
                &Message::Event(Event::Exited(record.clone())),
                &[],
            );
        }
    }
}
