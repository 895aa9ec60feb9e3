//! RuntimeClass handlers: pods of other OCI runtimes through the real socket, and a configuration
//! that is read again while they run.
//!
//! The suite has the handlers `runc` and `crun` in the drop-in `handlers.toml`, or one whose
//! containers have a kernel each (`--sandboxed`).

#![forbid(unsafe_code)]

mod lives;
mod node;
mod options;
mod place;
mod reload;

use clap::Parser;
use skiff_integration::report::Report;

use crate::node::{HANDLERS, Node, Options};

/// Calls a test by the name of its function.
macro_rules! run {
    ($node:ident, $report:ident, $what:expr, $($area:ident :: $test:ident),+ $(,)?) => {
        $(
            let name = format!("handlers: {}: {}", $what, stringify!($test)).replace('_', " ");
            if $node.options.only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
                let outcome = $area::$test(&mut $node).await;
                $report.result(&name, &outcome)?;
            }
        )+
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut report = Report::open()?;
    let mut node = Node::start(Options::parse()).await?;
    if let Some(handler) = node.options.sandboxed.clone() {
        node.cri.handler.clone_from(&handler);
        run!(
            node,
            report,
            handler,
            options::a_kernel_of_its_own,
            lives::log_exit_code_and_names,
            lives::exec_and_its_exit_codes,
            lives::stop_with_grace,
            lives::a_command_that_is_not_there,
            lives::a_crash_of_the_daemon_between_all_steps,
            place::volumes_and_images,
        );
        return Ok(());
    }
    for handler in HANDLERS {
        node.cri.handler = handler.to_owned();
        run!(
            node,
            report,
            handler,
            lives::log_exit_code_and_names,
            lives::exec_and_its_exit_codes,
            lives::stop_with_grace,
            lives::a_command_that_is_not_there,
            lives::a_crash_of_the_daemon_between_all_steps,
            lives::a_dead_shim,
            place::limits_update_and_memory,
            place::seccomp,
            place::what_the_pod_shares,
            place::volumes_and_images,
            place::a_user_namespace,
        );
    }
    node.cri.handler.clear();
    run!(
        node,
        report,
        "node",
        reload::status_tells_features,
        reload::handlers_come_and_go,
        reload::a_broken_file_changes_nothing,
        reload::what_takes_a_restart_is_said,
        reload::a_handler_with_other_defaults,
        options::root_and_arguments,
        options::log_entries_as_long_as_configured,
    );
    Ok(())
}
