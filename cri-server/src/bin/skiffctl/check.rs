//! `skiffctl check`

use std::process::ExitCode;

use anyhow::Context;
use skiff_cdi::Cdi;
use skiff_cri_server::host::Host;
use skiff_cri_server::host::check::{self, Finding, Severity};

use crate::Options;

/// Prints what this host has and lacks. Fails when something is missing that pods need.
pub(crate) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.load()?;
    let own = std::env::current_exe().context("find the path of this program")?;
    let mut host = Host::probe();
    host.try_out(&config.runtime.shim.path(&own), &config.root);
    let mut findings = check::kernel(&host);
    findings.push(check::selinux(&host.selinux, &config));
    findings.extend(check::files(&config, host.kernel, &own));
    findings.extend(network(&config)?);
    findings.extend(check::cdi(&Cdi::new(config.cdi.dirs.clone()).overview()));
    findings.extend(check::handlers(&config));
    for finding in &findings {
        print(finding);
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    Ok(if worst == Some(Severity::Missing) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Asks a CNI client of our own: the daemon need not run. It keeps no attachments, so its cache
/// is a directory that is thrown away.
fn network(config: &skiff_config::Config) -> anyhow::Result<Vec<Finding>> {
    let cache = std::env::temp_dir().join(format!("skiffctl-check-{}", std::process::id()));
    let opened = skiff_cni::Cni::open(skiff_cni::Settings {
        conf_dir: config.network.conf_dir.clone(),
        bin_dirs: config.network.bin_dirs.clone(),
        cache_dir: cache.clone(),
        timeout: config.network.plugin_timeout.duration(),
    });
    let findings = opened.map(|cni| check::network(&cni.status()));
    std::fs::remove_dir_all(&cache).with_context(|| format!("remove {}", cache.display()))?;
    Ok(findings?)
}

fn print(finding: &Finding) {
    let mark = match finding.severity {
        Severity::Fine => "ok",
        Severity::Warning => "warning",
        Severity::Missing => "MISSING",
    };
    println!("{mark:<9}{:<20}{}", finding.name, finding.found);
    if !finding.advice.is_empty() {
        println!("{:<9}{:<20}-> {}", "", "", finding.advice);
    }
}
