//! runc's command line around skiff-runtime, for whoever drives an OCI runtime by executing it.
//!
//! One command per file; `args` is the command line, `record` what is kept about a container
//! between two executions, `protect` and `sys` what keeps the binary and the caller safe.

#![deny(unsafe_code)]

mod args;
mod create;
mod delete;
mod exec;
mod features;
mod foreground;
mod kill;
mod list;
mod log;
mod pause;
mod protect;
mod ps;
mod record;
mod resources;
mod seccomp;
mod spec;
mod start;
mod state;
#[allow(unsafe_code)]
mod sys;
mod update;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use skiff_runtime::Failure;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            log::report(&args, &error);
            exit_code(&error)
        }
    }
}

/// A command that cannot be executed is told apart as a shell would: 127 or 126.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let failure = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>());
    let code = failure.and_then(|failure| failure.exit_code);
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

fn run(args: &Args) -> Result<ExitCode> {
    if args.systemd_cgroup {
        bail!("--systemd-cgroup is not supported: cgroups are managed as files");
    }
    let root = record::Root::new(&args.root);
    let done = |()| ExitCode::SUCCESS;
    match &args.command {
        Command::Create(command) => create::run(&root, command).map(done),
        Command::Start(command) => start::run(&root, &command.id).map(done),
        Command::Run(command) => create::run_and_wait(&root, command),
        Command::Exec(command) => exec::run(&root, command),
        Command::Kill(command) => kill::run(&root, command).map(done),
        Command::Delete(command) => delete::run(&root, command).map(done),
        Command::State(command) => state::run(&root, &command.id).map(done),
        Command::List(command) => list::run(&root, command).map(done),
        Command::Ps(command) => ps::run(&root, command).map(done),
        Command::Pause(command) => pause::run(&root, &command.id, true).map(done),
        Command::Resume(command) => pause::run(&root, &command.id, false).map(done),
        Command::Update(command) => update::run(&root, command).map(done),
        Command::Features => features::run().map(done),
        Command::Spec(command) => spec::run(command).map(done),
        Command::Checkpoint(_) => bail!("checkpoint is not supported yet"),
        Command::Restore(_) => bail!("restore is not supported yet"),
    }
}
