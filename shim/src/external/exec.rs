use std::fs;
use std::path::PathBuf;

use skiff_shim_proto::message::{self, Failure};

use super::command::{Line, Purpose};
use super::create::console_name;
use super::outsider::{Console, Outsider};
use crate::call::exec::Client;
use crate::container::Ended;
use crate::exec::{Exec, News};
use crate::failure;
use crate::peers::Asker;
use crate::poll::Key;
use crate::process::Process;
use crate::process_tree::Hunt;
use crate::shim::{Hunted, Now, Shim};

impl Shim {
    /// Has another runtime run a further process. Answered when that has ended.
    pub(crate) fn exec_outside(
        &mut self,
        asker: Asker,
        container: Key,
        exec: message::Exec,
        client: Client,
    ) -> Now {
        let key = self.new_key();
        let Some(runtime) = self.pod()?.external.clone() else {
            return Err(failure::no_container(&exec.id));
        };
        let place = self.containers.get_mut(&container);
        let outsider = place.and_then(|container| container.process.external());
        let Some(bundle) = outsider.and_then(|outsider| outsider.bundle.as_ref()) else {
            return Err(failure::no_container(&exec.id));
        };
        let json = serde_json::to_vec(&exec.process).map_err(Into::into);
        let files = Files {
            process: bundle.write(&format!("{key:x}.json"), json)?,
            pid: bundle.file(&format!("{key:x}.pid")),
        };
        let mut line = Line::new(&runtime, "exec", bundle.log(key))
            .arg("--detach")
            .option("--process", &files.process)
            .option("--pid-file", &files.pid);
        let console = match client.copies() {
            Some(stdio) => {
                let failed =
                    |e| failure::system(format!("copy the pipes of exec {}", exec.exec_id), &e);
                line = line.stdio(stdio.map_err(failed)?);
                None
            }
            None => {
                let console = Console::listen(self.run_dir.path().join(console_name(key)))?;
                line = line.option("--console-socket", console.path());
                Some(console)
            }
        };
        let (pid, tool) = line.arg(&exec.id).start(Purpose::Exec(key))?;
        let mut outsider = Outsider::new(pid, files.pid.clone(), console);
        outsider.files = Some(files);
        self.tools.insert(pid, tool);
        let running = Exec {
            id: exec.exec_id,
            container,
            asker,
            process: Process::External(outsider),
            news: News::Heard,
            failure: None,
            ended: None,
            screen: client.screen(),
            size: None,
        };
        self.execs.insert(key, running);
        Ok(None)
    }

    /// The command has run the process, or failed to.
    pub(super) fn execed_outside(&mut self, key: Key, ended: Ended, outcome: Result<(), Failure>) {
        let Some(exec) = self.execs.get_mut(&key) else {
            return;
        };
        let Some(outsider) = exec.process.external() else {
            return;
        };
        outsider.tool = None;
        let killers = outsider.doomed.take();
        let found = outcome.and_then(|()| {
            exec.ended = outsider.find(&mut self.orphans)?;
            outsider.take_terminal()
        });
        outsider.files = None;
        match found {
            Ok(Some(master)) => {
                if let Err(e) = exec.connect(&self.poll, key, master) {
                    let why = "connect the terminal with its client";
                    exec.failure = Some(failure::system(why, &e));
                    let _ = exec.process.signal(libc::SIGKILL);
                }
            }
            Ok(None) => {}
            Err(failure) => {
                exec.failure = Some(failure);
                exec.ended.get_or_insert(ended);
            }
        }
        if let Some(killers) = killers {
            self.hunt_outsider(key, killers);
        }
        if let Some(exec) = self.execs.get_mut(&key) {
            if exec.ended.is_some() {
                exec.copy(&self.poll);
            }
            self.finish_exec(key);
        }
    }

    /// Ends a process that was to be ended before anyone knew which it is.
    fn hunt_outsider(&mut self, key: Key, killers: Vec<Asker>) {
        let Some(exec) = self.execs.get(&key) else {
            return;
        };
        let root = exec.process.pid();
        let Some(container) = self.containers.get(&exec.container).filter(|_| root != 0) else {
            for asker in killers {
                self.peers
                    .answer(&self.poll, asker, Ok(message::Reply::Done));
            }
            return;
        };
        let mut askers: Vec<_> = killers.into_iter().map(Some).collect();
        if askers.is_empty() {
            askers.push(None);
        }
        for asker in askers {
            let hunt = Hunt::new(root, &container.cgroup);
            self.hunts.push(Hunted { hunt, asker });
        }
    }
}

/// Files of an exec, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Files {
    process: PathBuf,
    pid: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.process, &self.pid] {
            let _ = fs::remove_file(path);
        }
    }
}
