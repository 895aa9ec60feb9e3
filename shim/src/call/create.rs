use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_runtime::seccomp::Filter;
use skiff_runtime::{ImageVolume, Init, cgroup, create, may_trace};
use skiff_shim_proto::message::{self, Create, Failure, FailureKind, LOG_ENTRY, Rootfs};

use crate::bundle::Bundle;
use crate::call::update::Updates;
use crate::container::{Container, Output, State};
use crate::failure;
use crate::log::Log;
use crate::peers::Asker;
use crate::pipes::Pipes;
use crate::pod::{Pod, has_own_pid_namespace};
use crate::poll::{Ready, Source};
use crate::process::Process;
use crate::shim::{Now, Shim};
use crate::stdio::Users;
use crate::{filter, process_tree, sys};

impl Shim {
    /// Builds a container. Answered when the child has built it or given up.
    pub(crate) fn create(&mut self, asker: Asker, create: Create, fds: Vec<OwnedFd>) -> Now {
        self.check_create(&create)?;
        if let Some(runtime) = &self.pod()?.external {
            let runtime = Arc::clone(runtime);
            return self.create_outside(asker, create, &runtime);
        }
        let filter = filter::take(&create, fds)?;
        let bundle = Bundle::make(self.run_dir.path(), &create.id, &create.spec)?;
        let pod = self.pod()?;
        let log = match &create.log_path {
            Some(path) => Some(
                Log::open(path, create.log_entry.unwrap_or(LOG_ENTRY))
                    .map_err(|e| failure::system(format!("open log {}", path.display()), &e))?,
            ),
            None => None,
        };
        let earlier_oom_kills = cgroup::oom_kills(&create.cgroup);
        let mut pipes = Pipes::new(&create)?;
        let users = Users::of(&create.spec);
        pipes.give(&users, &create).map_err(|e| {
            failure::system(format!("give its pipes to container {}", create.id), &e)
        })?;
        let init = {
            let bundle = bundle.as_ref().map(Bundle::path);
            clone(pod, &create, bundle, filter.as_ref(), &self.null, &pipes)?
        };
        let start_time = start_time(&init)?;
        let key = self.new_key();
        let mut output = Output::new(log);
        let terminal = pipes.is_terminal();
        let mut watched = self
            .poll
            .add(init.status_fd(), Source::Progress(key), Ready::IN);
        let expects_news = watched.is_ok();
        for (stream, end) in pipes.readers() {
            watched = watched.and_then(|()| output.read(&self.poll, key, stream, end));
        }
        let container = Container {
            own_pid_namespace: has_own_pid_namespace(&create.spec),
            may_trace: create.spec.process().as_ref().is_some_and(may_trace),
            id: create.id,
            state: State::Creating,
            process: Process::Own(init),
            start_time,
            expects_news,
            cgroup: create.cgroup,
            earlier_oom_kills,
            output,
            users,
            filter,
            bundle,
            stdin: pipes.take_stdin(),
            stdin_once: create.stdin_once,
            terminal,
            reads_terminal: create.stdin,
            exit_path: create.exit_path,
            started_at: 0,
            let_go: None,
            exec_took: None,
            ended: None,
            failure: None,
            exit: None,
            creator: Some(asker),
            starter: None,
            removers: Vec::new(),
            removal: None,
            updates: Updates::default(),
        };
        self.containers.insert(key, container);
        if let Err(e) = watched {
            self.give_up(
                key,
                failure::system("watch the container's descriptors", &e),
            );
        }
        Ok(None)
    }

    fn check_create(&self, create: &Create) -> Result<(), Failure> {
        let pod = self.pod()?;
        let no_longer = |why: &str| Err(failure::new(FailureKind::InvalidState, why));
        if let Some(why) = &pod.broken {
            return no_longer(why);
        }
        if !self.enders.is_empty() {
            return no_longer("the pod is ending");
        }
        if self.find(&create.id).is_ok() {
            let message = format!("container {} exists in this pod", create.id);
            return Err(failure::new(FailureKind::AlreadyExists, message));
        }
        let paths = [
            ("cgroup", Some(&create.cgroup)),
            ("exit_path", Some(&create.exit_path)),
            ("log_path", create.log_path.as_ref()),
        ];
        for (field, path) in paths {
            if path.is_some_and(|path| !is_plain(path)) {
                return Err(failure::invalid(format!(
                    "container {}: {field} is not an absolute path without ..",
                    create.id
                )));
            }
        }
        Ok(())
    }
}

fn is_plain(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

fn clone(
    pod: &Pod,
    wanted: &Create,
    bundle: Option<&Path>,
    filter: Option<&Filter>,
    null: &OwnedFd,
    pipes: &Pipes,
) -> Result<Init, Failure> {
    let (rootfs, images) = (rootfs(wanted), images(wanted));
    let stdio = pipes.stdio(null);
    let mut arguments =
        skiff_runtime::Create::new(&wanted.id, &wanted.spec, &rootfs, &wanted.cgroup, stdio);
    arguments.inherit = pod.inherited(&wanted.spec)?;
    arguments.shm = pod.shm();
    arguments.images = &images;
    arguments.bundle = bundle;
    arguments.seccomp = filter;
    arguments.user_namespace = pod.user_namespace();
    arguments.pid_namespace = pod.shared_pid(&wanted.spec).map(|init| init.pidfd.as_fd());
    create(arguments).map_err(|e| {
        let failure = failure::of(&e);
        Failure {
            message: format!("create container {}: {}", wanted.id, failure.message),
            ..failure
        }
    })
}

/// The root file system, in words of the runtime library.
pub(crate) fn rootfs(create: &Create) -> skiff_runtime::Rootfs {
    match &create.rootfs {
        Rootfs::Overlay { lower, upper, work } => skiff_runtime::Rootfs::Overlay {
            lower: lower.clone(),
            upper: upper.clone(),
            work: work.clone(),
        },
        Rootfs::Directory(path) => skiff_runtime::Rootfs::Directory(path.clone()),
    }
}

/// The image volumes, in words of the runtime library.
pub(crate) fn images(create: &Create) -> Vec<ImageVolume> {
    let volume = |(destination, image): (&PathBuf, &message::ImageVolume)| ImageVolume {
        destination: destination.clone(),
        layers: image.layers.clone(),
        sub_path: image.sub_path.clone(),
    };
    create.images.iter().map(volume).collect()
}

/// A child of ours that has no start time has ended and was reaped by somebody else, which
/// nobody does; it is killed for good measure.
fn start_time(init: &Init) -> Result<u64, Failure> {
    match process_tree::stat(init.pid()) {
        Some(stat) => Ok(stat.start_time),
        None => {
            let _ = sys::send_signal(init.pidfd(), libc::SIGKILL);
            let message = format!("read the start time of process {}", init.pid());
            Err(failure::new(FailureKind::System, message))
        }
    }
}
