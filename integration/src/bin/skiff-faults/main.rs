//! Bad input and faults, each a test of its own through the real socket.
//!
//! One daemon serves them all; a test that needs a daemon or a disk of its own makes one. After
//! every test the daemon must still answer, and it is replaced when it does not: that fails the
//! test. Each file holds the tests of one area, as functions that return what went wrong.

#![forbid(unsafe_code)]

mod containers;
mod images;
mod network;
mod node;
mod records;
mod requests;
mod shims;
mod volumes;

use clap::Parser;
use skiff_integration::report::Report;

use crate::node::{Node, Options};

/// Calls a test by the name of its function.
macro_rules! run {
    ($node:ident, $report:ident, $only:expr, $($area:ident :: $test:ident),+ $(,)?) => {
        $(
            let name = concat!("faults: ", stringify!($area), ": ", stringify!($test)).replace('_', " ");
            if $only.as_ref().is_none_or(|only: &String| name.contains(only.as_str())) {
                let outcome = $area::$test(&mut $node).await;
                let alive = $node.revive().await;
                $report.result(&name, &outcome.and(alive))?;
            }
        )+
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let only = options.daemon.only.clone();
    let mut report = Report::open()?;
    let mut node = Node::start(options).await?;
    run!(
        node,
        report,
        only,
        requests::unknown_pods_and_containers,
        requests::missing_metadata,
        requests::an_id_prefix,
        requests::a_label_map_of_ten_megabytes,
        requests::unknown_handler,
        images::references_that_are_no_references,
        images::an_image_that_was_never_pulled,
        images::a_layer_whose_digest_lies,
        images::a_manifest_whose_digest_lies,
        images::a_layer_cut_short,
        images::a_dropped_connection_is_resumed,
        images::a_registry_that_refuses,
        images::a_registry_that_never_answers,
        images::a_layer_that_stalls,
        images::a_full_disk_during_unpack,
        images::an_image_volume_outlives_the_daemon,
        containers::a_command_that_does_not_exist,
        containers::a_command_that_is_not_executable,
        containers::a_working_directory_that_is_a_file,
        containers::a_thousand_children,
        containers::a_container_that_ignores_sigterm,
        containers::an_exec_that_outlives_its_timeout,
        containers::a_full_log_disk,
        network::a_plugin_that_fails,
        network::a_plugin_that_prints_garbage,
        network::a_plugin_that_hangs,
        network::no_configuration,
        records::a_corrupt_pod_record,
        records::a_corrupt_container_record,
        records::a_killed_shim,
        shims::a_stopped_shim,
        shims::a_killed_pod_init,
        shims::another_daemon,
        volumes::a_file_system_that_hangs,
    );
    Ok(())
}
