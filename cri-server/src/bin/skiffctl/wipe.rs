//! `skiffctl wipe`: back to a host on which skiffd never ran a pod.
//!
//! What of the host's cgroups and network namespaces is of another daemon, with other directories,
//! is left alone.
//!
//! In the order in which a pod is taken down: containers, networks, shims, then what is left of
//! them. A step that fails is told and the next ones are tried all the same; wiping again is
//! always safe.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use skiff_config::Config;
use skiff_cri_server::daemon::Lock;
use skiff_cri_server::host::cgroup::ROOT;
use skiff_cri_server::id::Id;
use skiff_cri_server::layout::Layout;
use skiff_cri_server::ownership::{Own, netns_of};
use skiff_cri_server::pod::record::PodRecord;
use skiff_cri_server::shim::connect::connect_client;
use skiff_cri_server::telemetry::chain;
use skiff_cri_server::{cgroup, netns};

use crate::Options;

/// Longest wait for a shim to end.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// What to remove.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove; without it, only say what would be removed
    #[arg(long)]
    yes: bool,
    /// Remove images too
    #[arg(long)]
    images: bool,
    /// Remove also cgroups and network namespaces that are named like those of a pod and that no
    /// record of this skiffd knows: of one with other directories, which must not run, or of one
    /// whose records were deleted
    #[arg(long)]
    unrecorded: bool,
}

/// Something a daemon left.
#[derive(Debug)]
enum Residue {
    Cgroup(PathBuf),
    /// The parent of the cgroups of pods that have no other, which may have some of another daemon.
    Parent(PathBuf),
    Network(String),
    Shim(String),
    Netns(PathBuf),
    Directory(PathBuf),
}

impl std::fmt::Display for Residue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Parent(path) => write!(f, "cgroup {}, if it is empty", path.display()),
            Self::Network(pod) => write!(f, "network of pod {pod}"),
            Self::Shim(shim) => write!(f, "shim {shim}"),
            Self::Netns(path) => write!(f, "network namespace {}", path.display()),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
        }
    }
}

/// Removes what the daemon left, unless it runs.
pub(crate) async fn run(options: &Options, args: &Args) -> anyhow::Result<ExitCode> {
    let config = options.load()?;
    let socket = config.listen.path();
    if UnixStream::connect(socket).is_ok() {
        bail!("skiffd answers at {}; stop it first", config.listen);
    }
    let layout = Layout::new(config.root.clone(), config.state.clone());
    // A daemon that starts meanwhile must not find half of its state.
    let _locks = if args.yes {
        vec![Lock::take(&layout.root)?, Lock::take(&layout.state)?]
    } else {
        Vec::new()
    };
    let networks = Networks::open(&config, &layout)?;
    let mut failed = false;
    for residue in find(&config, &layout, &networks, args)? {
        if !args.yes {
            println!("would remove {residue}");
            continue;
        }
        match remove(&residue, &layout, &networks).await {
            Ok(()) => println!("removed {residue}"),
            Err(e) => {
                failed = true;
                eprintln!("skiffctl: {residue}: {}", chain(e.as_ref()));
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Everything there is, in the order it is removed.
fn find(
    config: &Config,
    layout: &Layout,
    networks: &Networks,
    args: &Args,
) -> anyhow::Result<Vec<Residue>> {
    let cgroups = Path::new(ROOT);
    let own = Own::of(layout)
        .map_err(|(e, path)| anyhow::Error::new(e).context(format!("read {}", path.display())))?;
    let mut all: Vec<_> = cgroup::scan(cgroups)
        .into_iter()
        .filter(|(_, id)| args.unrecorded || own.has(id))
        .map(|(path, _)| Residue::Cgroup(path))
        .collect();
    all.extend(networks.pods()?.into_iter().map(Residue::Network));
    all.extend(names(&layout.shims())?.into_iter().map(Residue::Shim));
    let namespaces = names(&layout.netns)?.into_iter();
    let namespaces = namespaces
        .map(|name| layout.netns.join(name))
        .filter(|path| own.has_netns(path) || args.unrecorded && netns_of(path).is_some());
    all.extend(namespaces.map(Residue::Netns));
    let parent = cgroups.join(cgroup::OWN);
    all.extend(parent.is_dir().then_some(Residue::Parent(parent)));
    let mut directories = vec![
        layout.shims(),
        layout.all_pod_files(),
        layout.runtimes(),
        layout.root.join("state"),
        layout.root.join("snapshots"),
    ];
    directories.push(layout.root.join("cni"));
    let roots = runtime_roots(config, layout)?;
    for root in &roots {
        for (id, path) in children(root)? {
            if args.unrecorded || own.has(&id) {
                directories.push(path);
            }
        }
    }
    directories.extend(args.images.then(|| layout.root.join("images")));
    directories.retain(|directory| directory.is_dir());
    all.extend(directories.into_iter().map(Residue::Directory));
    Ok(all)
}

/// Where other runtimes keep what they know of pods, but for the place that is ours: by the
/// configuration, and by records of pods that were made with another.
fn runtime_roots(config: &Config, layout: &Layout) -> anyhow::Result<BTreeSet<PathBuf>> {
    let handlers = config.runtime.handlers.values();
    let configured = handlers.filter_map(|handler| handler.root.as_ref());
    let mut roots: BTreeSet<PathBuf> = configured.map(|root| root.as_path().into()).collect();
    for name in names(&layout.pods())? {
        // One that cannot be read says nothing, and goes with the others.
        if let Ok((_, record)) = PodRecord::read(&layout.pods().join(name))
            && let Some(external) = record.external
        {
            roots.extend(external.root.parent().map(PathBuf::from));
        }
    }
    roots.remove(&layout.runtimes());
    Ok(roots)
}

/// What in a directory is called by the id of a pod; nothing where there is none.
fn children(root: &Path) -> anyhow::Result<Vec<(Id, PathBuf)>> {
    let names = names(root)?.into_iter();
    let children = names.filter_map(|name| Some((Id::parse(&name)?, root.join(name))));
    Ok(children.collect())
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read {}", directory.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry
            .with_context(|| format!("read {}", directory.display()))?
            .file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

async fn remove(residue: &Residue, layout: &Layout, networks: &Networks) -> anyhow::Result<()> {
    match residue {
        Residue::Cgroup(path) => {
            if !cgroup::kill(path).await? {
                bail!("its processes do not end");
            }
            Ok(())
        }
        Residue::Parent(path) => remove_parent(path),
        Residue::Network(pod) => networks.remove(pod, layout).await,
        Residue::Shim(shim) => end_shim(shim, &layout.shim(shim)).await,
        Residue::Netns(path) => Ok(netns::remove(path)?),
        Residue::Directory(path) => Ok(fs::remove_dir_all(path)?),
    }
}

/// Removes the parent of pods' cgroups, and those of pods that are gone, where nothing is left.
fn remove_parent(parent: &Path) -> anyhow::Result<()> {
    for pod in names(parent)?.iter().filter_map(|name| Id::parse(name)) {
        // What is not empty is another daemon's.
        let _ = fs::remove_dir(parent.join(pod.as_str()));
    }
    let _ = fs::remove_dir(parent);
    Ok(())
}

/// Asks a shim to end and waits until it has. One that nobody listens for has ended already.
async fn end_shim(shim: &str, run_dir: &Path) -> anyhow::Result<()> {
    if let Ok((client, _events)) = connect_client(shim, run_dir) {
        client.shutdown().await?;
        let deadline = tokio::time::Instant::now() + SHIM_PATIENCE;
        while run_dir.exists() {
            if tokio::time::Instant::now() > deadline {
                bail!("it does not end");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    match fs::remove_dir_all(run_dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Attachments of pods; none when nothing was ever attached.
struct Networks(Option<skiff_cni::Cni>);

impl Networks {
    fn open(config: &Config, layout: &Layout) -> anyhow::Result<Self> {
        let cache_dir = layout.root.join("cni");
        if !cache_dir.is_dir() {
            return Ok(Self(None));
        }
        let settings = skiff_cni::Settings {
            conf_dir: config.network.conf_dir.clone(),
            bin_dirs: config.network.bin_dirs.clone(),
            cache_dir,
            timeout: config.network.plugin_timeout.duration(),
        };
        Ok(Self(Some(skiff_cni::Cni::open(settings)?)))
    }

    fn pods(&self) -> anyhow::Result<Vec<String>> {
        match &self.0 {
            Some(cni) => Ok(cni.cached()?),
            None => Ok(Vec::new()),
        }
    }

    async fn remove(&self, pod: &str, layout: &Layout) -> anyhow::Result<()> {
        let Some(cni) = &self.0 else { return Ok(()) };
        let netns = Id::parse(pod)
            .map(|id| layout.netns(&id))
            .filter(|path| path.exists());
        Ok(cni.teardown(pod, netns.as_deref()).await?)
    }
}
