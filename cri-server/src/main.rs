//! `skiffd`: reads the configuration, puts the daemon together, and serves until it is told to
//! end. Pods outlive it.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use skiff_config::{Config, Endpoint, LogFormat, LogLevel, Overrides};
use skiff_cri_server::daemon::{Daemon, Lock, StartError, open_images};
use skiff_cri_server::grpc::{Images, Listener, Runtime};
use skiff_cri_server::host::Host;
use skiff_cri_server::layout::Layout;
use skiff_cri_server::open_files::OpenFiles;
use skiff_cri_server::profile::apparmor;
use skiff_cri_server::shim::binary::Binary;
use skiff_cri_server::stats::Stats;
use skiff_cri_server::{recover, reload, telemetry};
use skiff_spec::{AppArmor, SeLinux};
use tokio::signal::unix::{SignalKind, signal};

/// A Kubernetes container runtime.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Configuration file; its drop-ins are in a directory of the same name with .d appended
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to serve the CRI, such as unix:///run/skiff/skiff.sock
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<Endpoint>,
    /// Directory of what outlives a boot
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Directory of what a boot clears
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Signatures that images need, a file as containers-policy.json(5) has it
    #[arg(long, value_name = "FILE")]
    signature_policy: Option<PathBuf>,
    /// Directory of such files for single namespaces, <namespace>.json
    #[arg(long, value_name = "DIR")]
    signature_policy_dir: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_parser = parse::<LogLevel>)]
    log_level: Option<LogLevel>,
    /// text or json
    #[arg(long, value_name = "FORMAT", value_parser = parse::<LogFormat>)]
    log_format: Option<LogFormat>,
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_value(text.into())
}

fn main() -> ExitCode {
    let Args {
        config,
        listen,
        root,
        state,
        signature_policy,
        signature_policy_dir,
        log_level,
        log_format,
    } = Args::parse();
    let overrides = Overrides {
        listen,
        root,
        state,
        log_level,
        log_format,
        signature_policy,
        signature_policy_dir,
    };
    match start(config, &overrides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Before logging is up there is no other place for it.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("skiffd: {}\n", telemetry::chain(&*error)),
            );
            ExitCode::FAILURE
        }
    }
}

fn start(config: Option<PathBuf>, overrides: &Overrides) -> anyhow::Result<()> {
    let loaded = Config::load(config.as_deref(), overrides)?;
    let logging = telemetry::start(&loaded.config.log).context("start logging")?;
    let source = reload::Source {
        path: config,
        overrides: overrides.clone(),
        logging,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let result = runtime.block_on(serve(loaded.config, source));
    // Pulls are cut short: the next daemon discards what they left.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config, source: reload::Source) -> anyhow::Result<()> {
    // Heeded from the first moment, since by itself it would be the end.
    let hangups = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    // Files are made with the modes that are asked for, whatever the daemon was started with.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Containers that share the host's PID namespace must not read passwords of registries, open
    // descriptors or the environment through /proc, and no dump is written of them.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbid ptrace and dumps")?;
    let mut host = Host::probe();
    host.cgroups
        .as_ref()
        .map_err(|reason| StartError::Cgroups(reason.clone()))?;
    let layout = Layout::new(config.root.clone(), config.state.clone());
    let _locks = (Lock::take(&layout.root)?, Lock::take(&layout.state)?);
    layout.make().context("prepare the state directories")?;
    let daemon_path = std::env::current_exe().context("find skiffd's own path")?;
    let files = OpenFiles::raise().context("raise the limit of open files to the hard limit")?;
    let shim = config.runtime.shim.path(&daemon_path);
    host.try_out(&shim, &config.root);
    if let Err(reason) = &host.user_namespaces {
        tracing::warn!(reason, "pods with user namespaces will be refused");
    }
    if let SeLinux::Unusable(reason) = &host.selinux {
        tracing::warn!(
            reason,
            "pods get no SELinux labels, and those that ask for some are refused"
        );
    }
    if let Err(reason) = &host.recursive_read_only {
        tracing::warn!(reason, "recursive read-only mounts will be refused");
    }
    let shim = Arc::new(Binary::load(&shim, files)?);
    let listen = config.listen.clone();
    let images = open_images(&config)?;
    let mut daemon = Daemon::new(config, layout, &host, images.clone(), shim)?;
    daemon.features.apparmor = load_apparmor(host.apparmor);
    let daemon = Arc::new(daemon);
    compile_default(&daemon);
    let reloads = reload::run(Arc::clone(&daemon), Arc::clone(&images), source, hangups);
    tokio::spawn(reloads);
    Stats::start(&daemon).context("start the threads that collect stats")?;
    if let Some(address) = daemon.config.load().metrics.address {
        let server = telemetry::server::Server::bind(address)?;
        tracing::info!(address = %server.address(), "metrics are served");
        tokio::spawn(server.serve(Arc::clone(&daemon), Arc::clone(&images)));
    }
    let listener = Listener::bind(listen.path())?;
    let recovery = async {
        recover::run(&daemon, &images)
            .await
            .context("find out which pods there are; they keep running, try again")?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let service = listener.serve(
        Runtime::new(daemon.clone()),
        Images::new(
            images.clone(),
            Arc::clone(&daemon.signatures),
            Arc::clone(&daemon.telemetry),
        ),
        end(),
    );
    // Before leftovers are removed: a plugin may take its time for them.
    let ready = async {
        daemon.ready().await;
        tracing::info!(%listen, "ready");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = service => {}
        result = recovery => result?,
        () = ready => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    end_traces(daemon).await;
    tracing::info!("ending; pods keep running");
    Ok(())
}

/// Loads our own AppArmor profile where there is AppArmor; without it containers that ask for
/// nothing are not confined, which the administrator should know.
fn load_apparmor(enabled: bool) -> AppArmor {
    let apparmor = apparmor::probe(enabled);
    if let AppArmor::NoDefault(why) = &apparmor {
        tracing::warn!(
            why,
            "AppArmor is enabled, but the default profile cannot be loaded"
        );
    }
    apparmor
}

/// Compiles the seccomp profile that most containers have before the first of them asks for it.
fn compile_default(daemon: &Arc<Daemon>) {
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        let handlers = daemon.handlers.load_full();
        let capabilities = &handlers.default().defaults.capabilities;
        let compiled = daemon.seccomp.runtime_default(capabilities).await;
        if let Err(error) = compiled {
            tracing::error!(
                error = telemetry::chain(&error),
                "no default seccomp profile"
            );
        }
    });
}

/// Sends the last spans, on a thread that may wait.
async fn end_traces(daemon: Arc<Daemon>) {
    let end = move || {
        if let Some(tracer) = &daemon.telemetry.tracer {
            tracer.end();
        }
    };
    let _ = tokio::task::spawn_blocking(end).await;
}

/// Waits for SIGTERM or SIGINT.
async fn end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        std::future::pending().await
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
