//! Turns the process that the daemon has started into a spare.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior, setsid,
};
use skiff_runtime::probe;
use skiff_shim_proto::PROTOCOL;
use skiff_shim_proto::message::Event;

use crate::listener::Listener;
use crate::poll::{Poll, Ready, Source};
use crate::run_dir::RunDir;
use crate::shim::{Parts, Shim};
use crate::{Error, pod, process_tree, sys};

/// Runs a shim from its first instruction to its end. The arguments are those after the
/// program's name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let (run_dir, user_namespace) = match parse(arguments)? {
        Task::Monitor {
            run_dir,
            user_namespace,
        } => (RunDir::new(run_dir), user_namespace),
        Task::ProbeUserNamespaces(path) => return Ok(probe::user_namespaces(&path)?),
        Task::ProbeReadOnly => return Ok(probe::recursive_read_only()?),
    };
    sys::close_from(3).map_err(|e| Error::system("close leaked descriptors", e))?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|e| Error::system("open /dev/null", e))?;
    let null = OwnedFd::from(null);
    let channel = take_channel(&null)?;
    become_monitor()?;
    let signals = sys::signals().map_err(|e| Error::system("make a signalfd", e))?;
    let spare = pod::prepare(user_namespace)?;
    let socket = run_dir.socket();
    let listener = copy(&null)
        .and_then(|reserve| Listener::bind(&socket, reserve))
        .map_err(|e| Error::system(format!("listen at {}", socket.display()), e))?;
    let poll = watch(&signals, &listener).map_err(|e| Error::system("set up epoll", e))?;
    let ready = ready()?;
    Shim::new(Parts {
        poll,
        channel,
        signals,
        listener,
        null,
        run_dir,
        spare,
    })?
    .run(&ready)
}

/// What a process of this program is started for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    /// To be a shim.
    Monitor {
        run_dir: PathBuf,
        /// Of a pod with a user namespace, for which more is made ahead of time.
        user_namespace: bool,
    },
    /// To try whether containers in this directory can have user namespaces: it fails with the
    /// reason.
    ProbeUserNamespaces(PathBuf),
    /// To try whether a mount can be made read-only with everything below it: it fails with the
    /// reason.
    ProbeReadOnly,
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Task, Error> {
    let arguments: Vec<OsString> = arguments.collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_str()).collect();
    let path = arguments.get(1).map(PathBuf::from);
    let path = path.filter(|path| path.is_absolute());
    match (words.as_slice(), path) {
        ([Some("--probe-recursive-read-only")], None) => Ok(Task::ProbeReadOnly),
        ([Some("--probe-user-namespaces"), _], Some(path)) => Ok(Task::ProbeUserNamespaces(path)),
        ([Some("--run-dir"), _], Some(run_dir)) => Ok(Task::Monitor {
            run_dir,
            user_namespace: false,
        }),
        ([Some("--run-dir"), _, Some("--user-namespace")], Some(run_dir)) => Ok(Task::Monitor {
            run_dir,
            user_namespace: true,
        }),
        _ => Err(Error::Usage),
    }
}

/// Takes the daemon's channel off descriptor 0, where a child would inherit it, and puts
/// /dev/null on 0 and 1.
fn take_channel(null: &OwnedFd) -> Result<OwnedFd, Error> {
    let channel = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|e| Error::system("take the daemon's channel from descriptor 0", e))?;
    rustix::net::sockopt::socket_type(&channel)
        .map_err(|e| Error::system("find the daemon's channel on descriptor 0", e))?;
    rustix::stdio::dup2_stdin(null)
        .and_then(|()| rustix::stdio::dup2_stdout(null))
        .map_err(|e| Error::system("put /dev/null on descriptors 0 and 1", e))?;
    Ok(channel)
}

/// What makes a process fit to outlive its daemon and to watch over others.
fn become_monitor() -> Result<(), Error> {
    let to = |what: &'static str| move |e: Errno| Error::system(what, e);
    match setsid() {
        // The leader of a process group stays in its session: nothing there signals us.
        Ok(_) | Err(Errno::PERM) => {}
        Err(e) => return Err(Error::system("start a session", e)),
    }
    rustix::process::chdir("/").map_err(to("change to the directory /"))?;
    rustix::thread::set_name(c"skiff-shim").map_err(to("set the process name"))?;
    set_child_subreaper(Some(getpid())).map_err(to("become a reaper of orphans"))?;
    sys::refuse_new_code();
    // No container's process may look into this one, nor into a copy on its way to exec.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(to("forbid ptrace and dumps"))
}

fn watch(signals: &OwnedFd, listener: &Listener) -> rustix::io::Result<Poll> {
    let poll = Poll::new()?;
    poll.add(signals, Source::Signals, Ready::IN)?;
    poll.add(listener, Source::Listener, Ready::IN)?;
    Ok(poll)
}

fn ready() -> Result<Event, Error> {
    let pid = getpid().as_raw_nonzero().get();
    let stat = process_tree::stat(pid)
        .ok_or_else(|| Error::system(format!("read /proc/{pid}/stat"), Errno::NOENT))?;
    Ok(Event::Ready {
        protocol: PROTOCOL,
        pid,
        start_time: stat.start_time,
    })
}

fn copy(fd: &OwnedFd) -> std::io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_an_option_with_an_absolute_path() {
        let parsed = |arguments: &[&str]| parse(arguments.iter().map(OsString::from));
        for (more, user_namespace) in [(&[][..], false), (&["--user-namespace"], true)] {
            let arguments = [&["--run-dir", "/run/x"], more].concat();
            let run_dir = "/run/x".into();
            let task = Task::Monitor {
                run_dir,
                user_namespace,
            };
            assert_eq!(parsed(&arguments).unwrap(), task);
        }
        assert_eq!(
            parsed(&["--probe-user-namespaces", "/var/x"]).unwrap(),
            Task::ProbeUserNamespaces("/var/x".into())
        );
        assert_eq!(
            parsed(&["--probe-recursive-read-only"]).unwrap(),
            Task::ProbeReadOnly
        );
        for wrong in [
            [].as_slice(),
            &["--run-dir"],
            &["--run-dir", "relative"],
            &["--run-dir", "/a", "/b"],
            &["--run-dir", "/a", "--user-namespace", "/b"],
            &["--probe-user-namespaces", "/a", "--user-namespace"],
            &["--probe-user-namespaces", "relative"],
            &["--root", "/run/x"],
            &["--probe-recursive-read-only", "/a"],
        ] {
            assert!(matches!(parsed(wrong), Err(Error::Usage)), "{wrong:?}");
        }
    }
}
