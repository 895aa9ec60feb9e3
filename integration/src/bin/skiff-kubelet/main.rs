//! A real kubelet on the daemon, and real pods under it.
//!
//! Each test is a scenario of a pod's life, a function that gives the kubelet pods and says what
//! went wrong. Scenarios run side by side, as pods do; each has pods of its own. The kubelet is
//! alone, its pods are files and what it thinks of them is read from it; or, with `--cluster`, it
//! belongs to an API server, for the scenarios that need one.

#![forbid(unsafe_code)]

mod cluster;
mod commands;
mod disk;
mod examples;
mod figures;
mod http;
mod kubelet;
mod lab;
mod lifecycle;
mod load;
mod logs;
mod manifest;
mod midway;
mod network;
mod node;
mod order;
mod probes;
mod resize;
mod resources;
mod session;
mod status;
mod top;
mod users;
mod volumes;
mod workloads;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::Parser;
use serde_json::json;
use skiff_integration::report::Report;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::lab::Lab;
use crate::midway::Midway;
use crate::node::{Front, Node, Options};

type Scenario = fn(Arc<Lab>) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Scenarios with their names, which are those of their functions.
macro_rules! scenarios {
    ($($area:ident :: $test:ident),+ $(,)?) => {
        vec![$((
            concat!("kubelet: ", stringify!($area), ": ", stringify!($test)).replace('_', " "),
            (|lab| Box::pin($area::$test(lab))) as Scenario,
        )),+]
    };
}

/// What a scenario may take as a whole.
const LIMIT: Duration = Duration::from_secs(600);

/// Those of a kubelet alone.
fn alone() -> Vec<(String, Scenario)> {
    scenarios![
        logs::rotation_loses_nothing,
        order::init_containers_run_one_by_one,
        order::a_failing_init_container_is_repeated,
        order::sidecars_start_first_and_end_last,
        order::a_sidecar_is_restarted_alone,
        order::a_sidecar_does_not_hold_up_the_end,
        probes::readiness_by_exec,
        probes::readiness_by_http,
        probes::readiness_by_tcp,
        probes::readiness_by_grpc,
        probes::liveness_by_exec,
        probes::liveness_by_http,
        probes::liveness_by_tcp,
        probes::liveness_by_grpc,
        probes::startup_comes_first,
        probes::startup_by_every_protocol,
        probes::a_probe_that_takes_too_long,
        lifecycle::hooks_run_at_both_ends,
        lifecycle::a_hook_by_http,
        lifecycle::a_hook_that_fails,
        lifecycle::exit_codes,
        lifecycle::crash_loop,
        lifecycle::out_of_memory,
        lifecycle::the_grace_period,
        lifecycle::last_words,
        lifecycle::an_image_that_is_not_there,
        network::a_host_port,
        network::one_network_per_pod,
        network::host_network,
        network::names,
        network::shared_processes,
        resources::classes_of_service,
        resources::memory_qos,
        users::a_user_namespace,
        users::users_and_groups,
        users::a_restricted_container,
        users::kernel_settings,
        figures::of_a_pod,
        figures::who_tells_of_changes,
        volumes::sub_paths,
        volumes::downward_and_in_memory,
        volumes::an_image_as_a_volume,
        volumes::what_outlives_a_restart,
    ]
}

/// Those that need an API server.
fn of_the_cluster() -> Vec<(String, Scenario)> {
    scenarios![
        workloads::projected_volumes,
        workloads::the_accounts_token,
        workloads::a_rolling_update,
        workloads::an_indexed_job,
        workloads::a_daemon_set,
        workloads::streaming_sidecars,
        workloads::events,
        resize::in_place_up_and_down,
        resize::a_restart_where_it_is_asked_for,
        resize::swap_by_class,
        commands::exec,
        commands::run_and_remove,
        commands::attach,
        commands::logs,
        commands::port_forward,
        commands::copy,
        commands::debug,
        commands::debug_the_node,
        commands::the_grpc_example,
        top::pods_and_the_node,
        examples::a_user_namespace,
        examples::a_sidecar,
        examples::an_unsigned_image,
        examples::memory_qos,
        examples::a_counter,
        examples::a_configuration,
        examples::a_deployment,
        examples::a_runtime_class,
        examples::a_raw_device,
        disk::a_layer_that_grows_is_evicted,
        disk::a_volume_that_grows_is_evicted,
    ]
}

/// Those that change the kubelet, and so run last and one by one.
fn apart() -> Vec<(String, Scenario)> {
    scenarios![disk::unused_images_make_room]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(count) = options.load {
        return load::run(&options, count).await;
    }
    let (front, mut scenarios, mut apart) = match options.cluster {
        true => (Front::Api, of_the_cluster(), apart()),
        false => (Front::Files, alone(), Vec::new()),
    };
    if let Some(only) = &options.only {
        scenarios.retain(|(name, _)| name.contains(only.as_str()));
        apart.retain(|(name, _)| name.contains(only.as_str()));
    }
    let mut gates = json!({"MemoryQoS": true});
    for gate in &options.gates {
        gates[gate] = true.into();
    }
    let changes = json!({
        "featureGates": gates,
        "memoryReservationPolicy": "TieredReservation",
        "containerLogMaxSize": "16Ki",
        "containerLogMonitorInterval": "3s",
        "volumeStatsAggPeriod": "10s",
    });
    let mut report = Report::open()?;
    let _cluster = match front {
        Front::Api => Some(Cluster::start(&options.logs).await?),
        Front::Files => None,
    };
    let node = Arc::new(Node::start(&options, front, &changes).await?);
    while !scenarios.is_empty() {
        let at_once = options.together.min(scenarios.len());
        let wave = scenarios.drain(..at_once).collect();
        side_by_side(&node, wave, options.restarts, &mut report).await?;
        node.kubelet.lock().await.lives()?;
    }
    for scenario in apart {
        side_by_side(&node, vec![scenario], options.restarts, &mut report).await?;
        node.kubelet.lock().await.lives()?;
    }
    Ok(())
}

/// Runs scenarios together, and reports each as it ends.
async fn side_by_side(
    node: &Arc<Node>,
    scenarios: Vec<(String, Scenario)>,
    restarts: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let midway = restarts.then(|| Arc::new(Midway::of(scenarios.len())));
    let mut running = JoinSet::new();
    for (name, scenario) in scenarios {
        let lab = Arc::new(Lab::new(node.clone(), midway.clone()));
        running.spawn(async move {
            let outcome = tokio::time::timeout(LIMIT, scenario(lab)).await;
            let late = || Err(anyhow!("not over within {LIMIT:?}"));
            (name, outcome.unwrap_or_else(|_| late()))
        });
    }
    while let Some(ended) = running.join_next().await {
        let (name, outcome) = ended?;
        report.result(&name, &outcome)?;
    }
    Ok(())
}
