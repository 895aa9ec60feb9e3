use std::num::NonZeroUsize;
use std::path::Path;

use skiff_runtime::MountLabel;
use skiff_runtime::cgroup;
use skiff_runtime::stage::Stage;
use skiff_shim_proto::message::{Create, ExternalRuntime, Failure, LOG_ENTRY};

use super::bundle::{Bundle, Staged};
use super::command::{Line, Purpose, Tool};
use super::outsider::{Console, Outsider};
use crate::call::create::{images, rootfs};
use crate::call::update::Updates;
use crate::container::{Container, Output, State};
use crate::failure;
use crate::log::Log;
use crate::peers::Asker;
use crate::pipes::Pipes;
use crate::pod::{Pod, has_own_pid_namespace};
use crate::poll::Key;
use crate::process::Process;
use crate::shim::{Now, Shim};
use crate::stdio::Users;

impl Shim {
    /// Has another runtime build a container. Answered when its `create` has ended.
    pub(crate) fn create_outside(
        &mut self,
        asker: Asker,
        create: Create,
        runtime: &ExternalRuntime,
    ) -> Now {
        let key = self.new_key();
        let pod = self.pod()?;
        if create.seccomp.is_some() {
            let why = "its filter comes as a program, which no other runtime takes";
            return Err(failure::invalid(format!("container {}: {why}", create.id)));
        }
        let log = create.log_path.as_deref();
        let entry = create.log_entry.unwrap_or(LOG_ENTRY);
        let log = log.map(|path| open_log(path, entry)).transpose()?;
        let run_dir = self.run_dir.path();
        let (bundle, staged) = Bundle::make(run_dir, &create.id, create.spec.clone(), pod)?;
        let earlier_oom_kills = cgroup::oom_kills(&create.cgroup);
        let mut pipes = Pipes::new(&create)?;
        let users = Users::of(&create.spec);
        pipes.give(&users, &create).map_err(|e| {
            failure::system(format!("give its pipes to container {}", create.id), &e)
        })?;
        let terminal = pipes.is_terminal();
        let console = terminal
            .then(|| Console::listen(run_dir.join(console_name(key))))
            .transpose()?;
        let job = Job {
            key,
            runtime,
            bundle: &bundle,
            staged: &staged,
            console: console.as_ref(),
        };
        let (pid, tool) = job.start(pod, &create, &pipes)?;
        let pid_file = bundle.file(PID);
        let mut outsider = Outsider::new(pid, pid_file, console);
        outsider.bundle = Some(bundle);
        let container = Container {
            may_trace: false,
            own_pid_namespace: has_own_pid_namespace(&create.spec),
            id: create.id,
            state: State::Creating,
            process: Process::External(outsider),
            start_time: 0,
            expects_news: false,
            cgroup: create.cgroup,
            earlier_oom_kills,
            output: Output::new(log),
            users,
            filter: None,
            bundle: None,
            stdin: pipes.take_stdin(),
            stdin_once: create.stdin_once,
            terminal,
            reads_terminal: create.stdin,
            exit_path: create.exit_path,
            started_at: 0,
            ended: None,
            failure: None,
            exit: None,
            let_go: None,
            exec_took: None,
            creator: Some(asker),
            starter: None,
            removers: Vec::new(),
            removal: None,
            updates: Updates::default(),
        };
        self.tools.insert(pid, tool);
        self.containers.insert(key, container);
        self.read_output(key, pipes);
        Ok(None)
    }
}

impl Shim {
    fn read_output(&mut self, key: Key, mut pipes: Pipes) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let mut readers = pipes.readers();
        let read = readers
            .try_for_each(|(stream, end)| container.output.read(&self.poll, key, stream, end));
        if let Err(e) = read {
            self.give_up(
                key,
                failure::system("watch the container's descriptors", &e),
            );
        }
    }
}

/// Where a runtime tells the pid of a container's first process, in the bundle.
const PID: &str = "pid";

/// Short, since all the path to a socket has 108 bytes.
pub(super) fn console_name(key: Key) -> String {
    format!("t{key:x}")
}

fn open_log(path: &Path, entry: NonZeroUsize) -> Result<Log, Failure> {
    Log::open(path, entry).map_err(|e| failure::system(format!("open log {}", path.display()), &e))
}

/// A container for which a runtime is started.
struct Job<'a> {
    key: Key,
    runtime: &'a ExternalRuntime,
    bundle: &'a Bundle,
    staged: &'a Staged,
    console: Option<&'a Console>,
}

impl Job<'_> {
    /// Starts `create` where the root file system is mounted.
    fn start(&self, pod: &Pod, create: &Create, pipes: &Pipes) -> Result<(i32, Tool), Failure> {
        let mut line = Line::new(self.runtime, "create", self.bundle.log(self.key))
            .option("--bundle", self.bundle.path())
            .option("--pid-file", self.bundle.file(PID));
        if let Some(console) = self.console {
            line = line.option("--console-socket", console.path());
        }
        if let Some(stdio) = pipes.copies() {
            line = line.stdio(stdio.map_err(|e| {
                failure::system(format!("copy the pipes of container {}", create.id), &e)
            })?);
        }
        let line = line.arg(&create.id);
        let (rootfs, images) = (rootfs(create), images(create));
        let root = self.bundle.root();
        let stage = Stage {
            rootfs: &rootfs,
            root: &root,
            mounts: self.staged,
            shm: pod.shm(),
            images: &images,
            user_namespace: pod.user_namespace(),
            label: MountLabel::of(create.spec.linux().as_ref()),
        };
        let purpose = Purpose::Create(self.key);
        stage.enter(|| Ok(line.start(purpose))).map_err(|e| {
            let failure = failure::of(&e);
            let message = format!("create container {}: {}", create.id, failure.message);
            Failure { message, ..failure }
        })?
    }
}
