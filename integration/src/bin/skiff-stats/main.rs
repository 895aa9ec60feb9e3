//! Stats and metrics through the real socket: what is told of a container that burns a processor,
//! holds memory, swaps, writes or sends is what it does, and what the kernel's files say.
//!
//! The driver starts the daemon itself and kills it where a test is about that.

#![forbid(unsafe_code)]

mod lab;
mod lists;
mod metrics;
mod network;
mod usage;

use clap::Parser;
use skiff_integration::report::Report;

use crate::lab::{Lab, Options};

/// Calls a test by the name of its function.
macro_rules! run {
    ($lab:ident, $report:ident, $only:expr, $($area:ident :: $test:ident),+ $(,)?) => {
        $(
            let name = concat!("stats: ", stringify!($area), ": ", stringify!($test)).replace('_', " ");
            if $only.as_ref().is_none_or(|only: &String| name.contains(only.as_str())) {
                let outcome = $area::$test(&mut $lab).await;
                let cleared = $lab.clear().await;
                $report.result(&name, &outcome.and(cleared))?;
            }
        )+
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let only = options.only.clone();
    let mut report = Report::open()?;
    let mut lab = Lab::start(options).await?;
    run!(
        lab,
        report,
        only,
        usage::a_burnt_processor,
        usage::a_processor_left_alone,
        usage::held_memory,
        usage::swap,
        usage::no_limits,
        usage::written_files,
        usage::processes,
        usage::pressure_as_the_kernel_has_it,
        network::sent_bytes,
        network::the_hosts_network_is_no_pods,
        lists::a_young_container_is_there,
        lists::filters,
        lists::streams_have_what_lists_have,
        lists::the_ended_keep_what_they_wrote,
        lists::the_gone_are_not_found,
        lists::a_new_daemon_knows,
        metrics::names_and_labels,
        metrics::values,
        metrics::only_pods_that_run,
    );
    Ok(())
}
