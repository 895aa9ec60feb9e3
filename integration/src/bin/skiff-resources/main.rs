//! Limits through the real socket: what a request asks for is what the cgroup's files say, live
//! changes come whole or not at all, and the end by memory is told as such.
//!
//! The driver starts the daemon itself and kills it where a test is about that. With `--systemd`
//! it runs the tests of the systemd driver instead, on a node where systemd is PID 1.

#![forbid(unsafe_code)]

mod lab;
mod limits;
mod memory;
mod systemd;
mod update;

use clap::Parser;
use skiff_integration::report::Report;

use crate::lab::{Lab, Options};

/// Calls a test by the name of its function.
macro_rules! run {
    ($lab:ident, $report:ident, $only:expr, $($area:ident :: $test:ident),+ $(,)?) => {
        $(
            let name = concat!("resources: ", stringify!($area), ": ", stringify!($test)).replace('_', " ");
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
    let (only, systemd) = (options.daemon.only.clone(), options.systemd);
    let mut report = Report::open()?;
    let mut lab = Lab::start(options).await?;
    if systemd {
        run!(
            lab,
            report,
            only,
            systemd::the_kubelet_is_told,
            systemd::both_spellings_of_a_parent,
            systemd::what_is_no_slice_is_refused,
            systemd::limits_hold_through_a_reload,
            systemd::memory_runs_out,
            systemd::a_pod_outlives_the_daemon,
            systemd::a_scope_that_is_stopped_ends_soon,
            systemd::nothing_is_left,
            systemd::a_daemon_killed_while_pods_start,
        );
        return Ok(());
    }
    run!(
        lab,
        report,
        only,
        limits::all_are_there_before_the_start,
        limits::nothing_asked_for_is_no_swap,
        limits::unified_wins,
        limits::burst_idle_and_disk,
        limits::a_bad_unified_is_told_by_its_key,
        limits::the_status_says_what_the_files_say,
        limits::the_status_follows_every_write,
        update::raised_and_lowered,
        update::before_the_start,
        update::all_or_nothing,
        update::memory_in_use_is_not_taken,
        update::what_can_be_reclaimed_is,
        update::score_of_all_processes,
        update::after_the_end,
        update::outlives_the_daemon,
        update::the_pods_cgroup_is_the_kubelets,
        update::two_at_once,
        update::others_do_not_wait_for_a_reclaim,
        memory::all_processes_go_together,
        memory::a_child_alone,
        memory::while_the_daemon_is_away,
        memory::no_swap_is_the_end,
        memory::swap_is_used_as_far_as_given,
    );
    Ok(())
}
