//! Isolation as a container sees it: every check starts containers through the CRI socket and asks a
//! probe in them what they really have and may do.
//!
//! The checks speak to any runtime, so that what they expect can be compared with a peer. Each file
//! holds those of one area.

#![forbid(unsafe_code)]

mod cdi;
mod credentials;
mod devices;
mod escape;
mod filters;
mod inside;
mod lab;
mod mounts;
mod process;
mod resources;
mod stock;
mod users;
mod volumes;

use clap::Parser;
use skiff_integration::report::Report;

use crate::lab::{Lab, Options};

/// Calls a check by the name of its function.
macro_rules! run {
    ($lab:ident, $report:ident, $only:expr, $($area:ident :: $check:ident),+ $(,)?) => {
        $(
            let name = concat!(stringify!($area), ": ", stringify!($check)).replace('_', " ");
            if $only.as_ref().is_none_or(|only: &String| name.contains(only.as_str())) {
                $report.result(&name, &$area::$check(&mut $lab).await)?;
            }
        )+
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let only = options.only.clone();
    let mut report = Report::open()?;
    let mut lab = Lab::new(&options).await?;
    if options.stock {
        run!(
            lab,
            report,
            only,
            stock::host_port_by_nat,
            stock::cpuset,
            stock::huge_pages,
            filters::apparmor_runtime_default,
            filters::apparmor_localhost,
            filters::seccomp_runtime_default,
            users::advertised,
            users::the_mapping_that_was_asked_for,
            users::owners_of_files,
            resources::limits,
            resources::swap_by_unified,
            devices::a_given_device,
            mounts::recursive_read_only,
        );
        return Ok(());
    }
    run!(
        lab,
        report,
        only,
        process::defaults,
        process::what_a_pod_shares,
        process::one_pid_namespace,
        process::the_hosts_namespaces,
        credentials::drop_all_then_add,
        credentials::add_all_but_one,
        credentials::ambient_capabilities,
        credentials::user_and_group_by_number,
        credentials::user_by_name,
        credentials::user_of_the_image,
        credentials::groups_merged,
        credentials::groups_strict,
        credentials::no_new_privileges,
        credentials::file_capabilities,
        process::privileged,
        process::read_only_root,
        process::masked_and_read_only_paths,
        process::oom_score,
        process::sysctls_of_the_pod,
        process::exec_inherits_all_of_it,
        process::a_node_agent,
        filters::seccomp_runtime_default,
        filters::seccomp_default_follows_capabilities,
        filters::seccomp_unconfined,
        filters::seccomp_localhost,
        filters::seccomp_profiles_that_do_not_work,
        filters::apparmor_runtime_default,
        filters::apparmor_localhost,
        filters::apparmor_unconfined,
        users::advertised,
        users::the_mapping_that_was_asked_for,
        users::owners_of_files,
        users::image_volumes,
        users::volumes_of_the_image,
        users::two_pods,
        users::ids_of_another_pod,
        users::the_hosts_network,
        users::attempts_to_escape,
        users::requests_that_are_refused,
        users::a_user_that_is_not_mapped,
        resources::limits,
        resources::no_limits,
        resources::unified,
        resources::unified_key_that_is_none,
        resources::update_while_it_runs,
        resources::out_of_memory,
        resources::out_of_memory_of_a_child,
        resources::swap_by_unified,
        resources::swap_by_the_typed_field,
        devices::the_default_set,
        devices::a_given_device,
        devices::a_device_that_is_not_there,
        devices::a_raw_block_volume,
        devices::cdi,
        cdi::annotations_and_hooks,
        volumes::an_image_in_use,
        volumes::over_proc,
        volumes::propagation_of_a_private_mount,
        mounts::propagation,
        mounts::recursive_read_only,
        mounts::image_volumes,
        mounts::options,
        mounts::a_path_that_is_not_there,
        mounts::a_link_at_the_mount_point,
        mounts::a_socket_of_the_host,
        escape::leaked_descriptors,
        escape::overwriting_the_runtime,
        escape::masked_paths_that_are_links,
        escape::tracing_others,
    );
    Ok(())
}
