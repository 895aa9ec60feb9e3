//! Pods come and go while skiffd is killed again and again; afterwards nothing may be left.
//!
//! Some workers each run pods through their life as a kubelet would, repeating a call whose answer
//! never came. At random points, the same for the same seed, the daemon gets SIGKILL and is started
//! again. What is tested, each under its own name:
//!
//! - no container is lost: a pod that stood before the crash is ready after it;
//! - no exit code and no log line is lost, whether or not a daemon was there when it happened;
//! - a start answers within a second;
//! - once all pods are removed, the node is as it was before: see [`Footprint`].

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Parser;
use skiff_cri::v1::{ContainerState, ListPodSandboxRequest, PodSandboxConfig, PodSandboxState};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_integration::daemon::Daemon;
use skiff_integration::footprint::Footprint;
use skiff_integration::process;
use skiff_integration::report::Report;
use tonic::{Code, Status};

/// Lines that every container writes, and the exit code it ends with by itself.
const LINES: usize = 10;
const EXIT_CODE: i32 = 7;

/// How long a call may go unanswered, restarts included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs pods through their life while skiffd is killed, and compares the node before and after.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// The daemon to start and kill.
    #[arg(long, default_value = "/usr/local/bin/skiffd")]
    skiffd: PathBuf,
    /// Its socket.
    #[arg(long, default_value = "unix:///run/skiff/skiff.sock")]
    endpoint: String,
    /// Its log, appended to.
    #[arg(long, default_value = "/var/log/skiffd.log")]
    log: PathBuf,
    /// Pods in all.
    #[arg(long, default_value_t = 200)]
    pods: usize,
    /// SIGKILLs in all.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Pods at the same time.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Where the kills fall.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a start may take until Version and Status answer, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    start_limit_ms: u64,
}

/// What workers and killer share.
#[derive(Debug, Default)]
struct Shared {
    /// Pods not yet begun.
    next: usize,
    /// Pods that were ready when last heard of, and that nobody has begun to stop.
    standing: BTreeSet<String>,
    /// What went wrong, by test.
    wrong: BTreeMap<&'static str, Vec<String>>,
}

type Board = Arc<Mutex<Shared>>;

const TESTS: [&str; 5] = [
    "churn: every pod lives and ends",
    "churn: pods stand after a crash",
    "churn: exit codes and log lines survive",
    "churn: a start answers in time",
    "churn: nothing is left behind",
];

fn with<T>(board: &Board, change: impl FnOnce(&mut Shared) -> T) -> T {
    // a panic of one worker is no reason for the others to panic
    change(
        &mut board
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    )
}

fn complain(board: &Board, test: usize, what: String) {
    with(board, |shared| {
        shared.wrong.entry(TESTS[test]).or_default().push(what)
    });
}

/// Snapshots that are removed and not yet deleted.
const TRASH: &str = "/var/lib/skiff/snapshots/.trash";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut report = Report::open()?;
    let start = Daemon::start(&options.skiffd, &[], &options.log, &options.endpoint);
    let (mut daemon, mut cri) = start.await?;
    cri.pull(BUSYBOX).await.context("pull the image")?;
    // one pod first: what the first pod of a node makes for good, such as a bridge, is no leak
    let board = Board::default();
    life(&mut cri, &board, "first").await?;
    settle(&mut daemon)?;
    let before = Footprint::read();

    daemon.restart().await?;
    let daemon = run(&options, cri, daemon, &board).await?;
    report_leaks(daemon, &board, &before)?;

    let shared = with(&board, std::mem::take);
    for test in TESTS {
        let wrong = shared.wrong.get(test);
        let outcome = wrong.map_or(Ok(()), |list| {
            let more = list.len().saturating_sub(10);
            let rest = if more > 0 {
                format!("; and {more} more")
            } else {
                String::new()
            };
            Err(anyhow!(
                "seed {}: {}{rest}",
                options.seed,
                list[..list.len() - more].join("; ")
            ))
        });
        report.result(test, &outcome)?;
    }
    Ok(())
}

/// Workers and killer until all pods are through. Gives the daemon back.
async fn run(options: &Options, cri: Cri, daemon: Daemon, board: &Board) -> anyhow::Result<Daemon> {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut workers = Vec::new();
            for _ in 0..options.workers {
                let (cri, board, pods) = (cri.clone(), Arc::clone(board), options.pods);
                workers.push(tokio::task::spawn_local(work(cri, board, pods)));
            }
            let killer = tokio::task::spawn_local(kill(options.clone(), daemon, Arc::clone(board)));
            for worker in workers {
                worker.await.context("a worker")?;
            }
            killer.await.context("the killer")?
        })
        .await
}

async fn work(mut cri: Cri, board: Board, pods: usize) {
    loop {
        let number = with(&board, |shared| {
            shared.next += 1;
            shared.next
        });
        if number > pods {
            return;
        }
        if let Err(error) = life(&mut cri, &board, &format!("churn-{number}")).await {
            complain(&board, 0, format!("churn-{number}: {error:#}"));
        }
    }
}

/// One pod with two containers, from nothing to nothing: `brief` ends by itself, `long` is stopped.
async fn life(cri: &mut Cri, board: &Board, name: &str) -> anyhow::Result<()> {
    let pod = client::pod(name);
    let id = insist(cri, |mut cri| {
        let pod = pod.clone();
        async move { cri.run_pod(&pod).await }
    })
    .await
    .context("RunPodSandbox")?;
    with(board, |shared| shared.standing.insert(id.clone()));
    let outcome = containers(cri, board, &pod, &id).await;
    with(board, |shared| shared.standing.remove(&id));
    // also after a failure, so that what is left behind is the daemon's doing and not ours
    insist(cri, |mut cri| {
        let id = id.clone();
        async move { cri.stop_pod(&id).await }
    })
    .await
    .context("StopPodSandbox")?;
    insist(cri, |mut cri| {
        let id = id.clone();
        async move { cri.remove_pod(&id).await }
    })
    .await
    .context("RemovePodSandbox")?;
    outcome
}

async fn containers(
    cri: &mut Cri,
    board: &Board,
    pod: &PodSandboxConfig,
    id: &str,
) -> anyhow::Result<()> {
    let script = format!("for i in $(seq {LINES}); do echo line $i; usleep 20000; done");
    let brief = format!("{script}; exit {EXIT_CODE}");
    let long = format!("{script}; sleep 3600");
    let brief = launch(cri, pod, id, "brief", &brief)
        .await
        .context("brief")?;
    let long = launch(cri, pod, id, "long", &long).await.context("long")?;
    let code = exit_code(cri, &brief).await.context("brief")?;
    if code != EXIT_CODE {
        complain(
            board,
            2,
            format!("{brief}: exit code {code}, not {EXIT_CODE}"),
        );
    }
    insist(cri, |mut cri| {
        let long = long.clone();
        async move { cri.stop(&long, 0).await }
    })
    .await
    .context("StopContainer long")?;
    let code = exit_code(cri, &long).await.context("long")?;
    if code != 137 {
        complain(board, 2, format!("{long}: exit code {code} after SIGKILL"));
    }
    let path = format!("{}/brief.log", pod.log_directory);
    let log = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    for line in 1..=LINES {
        let found = log
            .lines()
            .filter(|text| text.ends_with(&format!(" stdout F line {line}")))
            .count();
        if found != 1 {
            complain(
                board,
                2,
                format!("{path}: line {line} is there {found} times"),
            );
        }
    }
    std::fs::remove_dir_all(&pod.log_directory)
        .with_context(|| format!("remove {}", pod.log_directory))?;
    Ok(())
}

/// CreateContainer and StartContainer. A start whose answer was lost may have happened.
async fn launch(
    cri: &mut Cri,
    pod: &PodSandboxConfig,
    pod_id: &str,
    name: &str,
    script: &str,
) -> anyhow::Result<String> {
    let container = client::container(name, &["sh", "-c", script], pod);
    let id = insist(cri, |mut cri| {
        let (pod, pod_id, container) = (pod.clone(), pod_id.to_owned(), container.clone());
        async move { cri.create(&pod_id, &container, &pod).await }
    })
    .await
    .context("CreateContainer")?;
    insist(cri, |mut cri| {
        let id = id.clone();
        async move {
            match cri.status(&id).await?.state() {
                ContainerState::ContainerCreated => started(&mut cri, &id).await,
                _ => Ok(()),
            }
        }
    })
    .await
    .context("StartContainer")?;
    Ok(id)
}

/// StartContainer, which may find that the start of a daemon now gone came through meanwhile.
async fn started(cri: &mut Cri, id: &str) -> Result<(), Status> {
    let Err(refusal) = cri.start(id).await else {
        return Ok(());
    };
    let begun = cri.status(id).await?.state() != ContainerState::ContainerCreated;
    if refusal.code() == Code::FailedPrecondition && begun {
        Ok(())
    } else {
        Err(refusal)
    }
}

/// Waits until the container has ended.
async fn exit_code(cri: &mut Cri, id: &str) -> anyhow::Result<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = insist(cri, |mut cri| {
            let id = id.to_owned();
            async move { cri.status(&id).await }
        })
        .await
        .context("ContainerStatus")?;
        if status.state() == ContainerState::ContainerExited {
            ensure!(status.finished_at > 0, "exited without a time");
            return Ok(status.exit_code);
        }
        if Instant::now() > deadline {
            bail!("{id} is still {:?} after {PATIENCE:?}", status.state());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Repeats a call for as long as it fails because there is no daemon.
async fn insist<T, F>(cri: &Cri, call: impl Fn(Cri) -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call(cri.clone()).await {
            Err(status) if daemon_gone(&status) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

/// Whether a call failed in the transport and not in the daemon.
fn daemon_gone(status: &Status) -> bool {
    status.code() == Code::Unavailable
        || (matches!(
            status.code(),
            Code::Unknown | Code::Cancelled | Code::Internal
        ) && std::error::Error::source(status).is_some())
}

/// Kills the daemon at random points and starts it again.
async fn kill(options: Options, mut daemon: Daemon, board: Board) -> anyhow::Result<Daemon> {
    let mut random = Random(options.seed);
    let stride = options.pods / options.kills.max(1);
    for kill in 0..options.kills {
        // a random pod of this kill's share, and a random moment of its life
        let share = u64::try_from(stride.max(1))?;
        let at = kill * stride + usize::try_from(random.next() % share)? + 1;
        while with(&board, |shared| shared.next) < at {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_micros(random.next() % 500_000)).await;
        let standing = with(&board, |shared| shared.standing.clone());
        daemon.crash()?;
        let (mut cri, took) = daemon
            .restart()
            .await
            .with_context(|| format!("start after kill {kill}"))?;
        if took > Duration::from_millis(options.start_limit_ms) {
            complain(
                &board,
                3,
                format!("start {kill} took {} ms", took.as_millis()),
            );
        }
        let ready = ready_pods(&mut cri).await?;
        // a pod that was stopped meanwhile is no longer standing
        let expected = with(&board, |shared| {
            standing
                .intersection(&shared.standing)
                .cloned()
                .collect::<Vec<_>>()
        });
        for id in expected.iter().filter(|id| !ready.contains(*id)) {
            complain(&board, 1, format!("kill {kill}: pod {id} is not ready"));
        }
    }
    Ok(daemon)
}

async fn ready_pods(cri: &mut Cri) -> anyhow::Result<BTreeSet<String>> {
    let list = cri
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .context("ListPodSandbox")?;
    let ready = list
        .into_inner()
        .items()?
        .into_iter()
        .filter(|pod| pod.state() == PodSandboxState::SandboxReady);
    Ok(ready.map(|pod| pod.id).collect())
}

/// Lets the daemon delete what it has removed, which it does in the background, then ends it and
/// waits for its spare shims to follow.
fn settle(daemon: &mut Daemon) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(TRASH)?.next().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.terminate()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !process::running("skiff-shim").is_empty() {
        if Instant::now() > deadline {
            return Ok(()); // the footprint names them
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn report_leaks(mut daemon: Daemon, board: &Board, before: &Footprint) -> anyhow::Result<()> {
    settle(&mut daemon)?;
    // the kernel takes network namespaces apart after their last process has gone
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut left = Footprint::read().difference(before);
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        left = Footprint::read().difference(before);
    }
    for line in left {
        complain(board, 4, line);
    }
    Ok(())
}

/// splitmix64: the same points for the same seed, nothing more is asked of it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
