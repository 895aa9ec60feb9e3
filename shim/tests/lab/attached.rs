//! Clients of a container's streams, sizes of terminals, and connections to ports.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::pipe::{PipeFlags, pipe_with};
use skiff_shim_proto::message::{Attach, Call, FailureKind, Reply, Resize, TerminalOf};

use crate::daemon::{Daemon, Shim, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

/// A client: what it types into, what it sees, and its session.
struct Client {
    stdin: Option<File>,
    stdout: File,
    session: u64,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

impl Client {
    fn attach(daemon: &mut Daemon, id: &str, stdin: bool) -> Self {
        let (input, output) = (pipe(), pipe());
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        if stdin {
            fds.push(input.0.as_fd());
        }
        fds.push(output.1.as_fd());
        let attach = Attach {
            id: id.into(),
            stdin,
            stdout: true,
            stderr: false,
        };
        let session = daemon.send(Call::Attach(attach), &fds);
        Self {
            stdin: stdin.then(|| input.1.into()),
            stdout: output.0.into(),
            session,
        }
    }

    fn type_in(&mut self, text: &str) {
        self.stdin
            .as_ref()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn sees(&mut self, wanted: &str) {
        let mut seen = vec![0; wanted.len()];
        self.stdout.read_exact(&mut seen).unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), wanted);
    }

    fn sees_to_the_end(&mut self) -> String {
        let mut seen = String::new();
        self.stdout.read_to_string(&mut seen).unwrap();
        seen
    }
}

fn is_done(daemon: &mut Daemon, client: &Client) {
    let answer = daemon.answer(client.session);
    assert!(matches!(answer, Ok(Reply::Done)), "{answer:?}");
}

#[test]
fn the_first_session_closes_a_stdin_that_is_for_one() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let mut create = scene.container(shim.pid, "c", &["sh", "-c", "cat; echo end"]);
    (create.stdin, create.stdin_once) = (true, true);
    shim.daemon.run(create);
    let mut client = Client::attach(&mut shim.daemon, "c", true);
    client.type_in("hello\n");
    client.sees("hello\n");
    client.stdin = None;
    assert_eq!(client.sees_to_the_end(), "end\n");
    is_done(&mut shim.daemon, &client);
    assert_eq!(shim.daemon.exit("c").code, 0);
    assert_eq!(scene.log("c").lines().count(), 2);
    shim.shutdown();
}

#[test]
fn several_clients_come_and_go_and_the_container_runs_on() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let mut create = scene.container(shim.pid, "c", &["cat"]);
    create.stdin = true;
    shim.daemon.run(create);
    let mut one = Client::attach(&mut shim.daemon, "c", true);
    let mut other = Client::attach(&mut shim.daemon, "c", true);
    let mut silent = Client::attach(&mut shim.daemon, "c", false);
    one.type_in("from one\n");
    for client in [&mut one, &mut other, &mut silent] {
        client.sees("from one\n");
    }
    // Its stdin is not closed with the client's, who sees on until it leaves.
    one.stdin = None;
    other.type_in("to all\n");
    for client in [&mut one, &mut other, &mut silent] {
        client.sees("to all\n");
    }
    drop(std::mem::replace(&mut one.stdout, pipe().0.into()));
    is_done(&mut shim.daemon, &one);
    // One that has no stdin leaves by closing its output, also when nothing is said.
    drop(std::mem::replace(&mut silent.stdout, pipe().0.into()));
    is_done(&mut shim.daemon, &silent);
    other.type_in("from the other\n");
    other.sees("from the other\n");
    let kill = Call::Kill {
        id: "c".into(),
        signal: libc::SIGKILL,
        all: true,
    };
    shim.daemon.ask(kill).unwrap();
    is_done(&mut shim.daemon, &other);
    let late = Attach {
        id: "c".into(),
        stdin: false,
        stdout: true,
        stderr: false,
    };
    let end = pipe().1;
    let seq = shim.daemon.send(Call::Attach(late), &[end.as_fd()]);
    let failure = shim.daemon.answer(seq).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidState, "{failure}");
    shim.shutdown();
}

/// `kubectl debug -i` with an input that ends at once: its session ended before the container had
/// spoken.
#[test]
fn a_client_whose_input_has_ended_sees_what_is_said_later() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let speaks = "until [ -e /dev/shm/go ]; do sleep 0.1; done; echo late";
    let mut create = scene.container(shim.pid, "c", &["sh", "-c", speaks]);
    create.stdin = true;
    shim.daemon.run(create);
    let mut client = Client::attach(&mut shim.daemon, "c", true);
    client.stdin = None;
    // A client that only types has nothing to wait for.
    let (typed, typist) = pipe();
    let seq = only_types(&mut shim.daemon, typed.as_fd());
    drop((typed, typist));
    assert!(matches!(shim.daemon.answer(seq), Ok(Reply::Done)));
    let go = shim
        .daemon
        .exec(scene.exec(1, "c", &["sh", "-c", ">/dev/shm/go"]), None);
    assert!(go.answer.is_ok(), "{go:?}");
    assert_eq!(client.sees_to_the_end(), "late\n");
    is_done(&mut shim.daemon, &client);
    shim.shutdown();
}

/// A client of container `c` that is shown nothing; gives the number of its call.
fn only_types(daemon: &mut Daemon, typed: BorrowedFd<'_>) -> u64 {
    let attach = Attach {
        id: "c".into(),
        stdin: true,
        stdout: false,
        stderr: false,
    };
    daemon.send(Call::Attach(attach), &[typed])
}

/// Its session lasted until the container ended: what it had typed was still to be read.
#[test]
fn a_client_that_typed_to_nobody_and_went_leaves_nothing() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let mut create = scene.container(shim.pid, "c", &["sleep", "1000"]);
    create.stdin = true;
    shim.daemon.run(create);
    let mut client = Client::attach(&mut shim.daemon, "c", true);
    // More than the container's pipe and the client's hold together.
    let typing = client.stdin.as_ref().unwrap();
    rustix::io::ioctl_fionbio(typing, true).unwrap();
    for _ in 0..100 {
        while rustix::io::write(typing, &[b'x'; 4096]).is_ok() {}
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    client.stdin = None;
    drop(std::mem::replace(&mut client.stdout, pipe().0.into()));
    is_done(&mut shim.daemon, &client);
    // One that was shown nothing either.
    let (typed, mut typing) = UnixStream::pair().unwrap();
    let seq = only_types(&mut shim.daemon, typed.as_fd());
    typing.write_all(b"more than it reads").unwrap();
    drop((typed, typing));
    assert!(matches!(shim.daemon.answer(seq), Ok(Reply::Done)));
    shim.shutdown();
}

#[test]
fn what_is_said_at_the_very_end_is_seen() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let create = scene.container(shim.pid, "c", &["echo", "all there is"]);
    shim.daemon.ask(Call::Create(Box::new(create))).unwrap();
    // Before it runs at all.
    let mut client = Client::attach(&mut shim.daemon, "c", false);
    shim.daemon.ask(Call::Start { id: "c".into() }).unwrap();
    assert_eq!(client.sees_to_the_end(), "all there is\n");
    is_done(&mut shim.daemon, &client);
    shim.shutdown();
}

#[test]
fn a_client_that_stops_reading_does_not_stop_the_log() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let flood = "yes | head -c 3000000; echo done";
    let create = scene.container(shim.pid, "c", &["sh", "-c", flood]);
    shim.daemon.ask(Call::Create(Box::new(create))).unwrap();
    let client = Client::attach(&mut shim.daemon, "c", false);
    shim.daemon.ask(Call::Start { id: "c".into() }).unwrap();
    assert_eq!(shim.daemon.exit("c").code, 0);
    assert!(scene.log("c").ends_with("F done\n"));
    is_done(&mut shim.daemon, &client);
    shim.shutdown();
}

#[test]
fn terminals_are_resized() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let mut create = scene.container(shim.pid, "c", &["cat"]);
    create.stdin = true;
    create
        .spec
        .process_mut()
        .as_mut()
        .unwrap()
        .set_terminal(Some(true));
    shim.daemon.run(create);
    let resize = |of, columns, rows| Call::Resize(Resize { of, columns, rows });
    shim.daemon
        .ask(resize(TerminalOf::Container("c".into()), 100, 30))
        .unwrap();
    let size = "busybox stty size </dev/pts/0";
    let seen = shim
        .daemon
        .exec(scene.exec(1, "c", &["sh", "-c", size]), None);
    assert_eq!(seen.stdout, "30 100\n", "{seen:?}");
    let mut exec = scene.exec(7, "c", &["sh", "-c", "cat >/dev/null; busybox stty size"]);
    (exec.stdin, exec.terminal) = (true, true);
    let (input, output) = (pipe(), pipe());
    let seq = shim.daemon.send(
        Call::Exec(Box::new(exec)),
        &[input.0.as_fd(), output.1.as_fd()],
    );
    // Asked for at once: the terminal is not there yet.
    shim.daemon
        .ask(resize(TerminalOf::Exec(7), 90, 20))
        .unwrap();
    rustix::io::write(&input.1, b"\x04").unwrap();
    let answer = shim.daemon.answer(seq);
    assert!(
        matches!(answer, Ok(Reply::ExecExited { code: 0 })),
        "{answer:?}"
    );
    drop(output.1);
    let mut seen = String::new();
    File::from(output.0).read_to_string(&mut seen).unwrap();
    assert!(seen.contains("20 90"), "{seen:?}");
    let failure = shim
        .daemon
        .ask(resize(TerminalOf::Exec(7), 1, 1))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    shim.shutdown();
}

#[test]
fn ports_of_the_pod_are_connected_to() {
    needs_a_lab!();
    let mut shim = Shim::pod();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let reply = shim.daemon.ask(Call::Dial { port }).unwrap();
    assert!(matches!(reply, Reply::Dialed), "{reply:?}");
    wait_for("the connection", || server.accept().ok());
    drop(server);
    let failure = shim.daemon.ask(Call::Dial { port }).unwrap_err();
    assert!(failure.message.contains(&port.to_string()), "{failure}");
    shim.shutdown();
}
