//! Cold pulls: the image removed and the page cache dropped before each.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use skiff_cri::v1::RemoveImageRequest;
use skiff_integration::client::{Cri, image_spec};
use skiff_integration::figures::Column;
use skiff_integration::process;

use crate::memory::megabytes;

/// Options of `pull`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoints: super::Endpoints,
    /// A runtime's daemon, as its command line begins (repeatable).
    #[arg(long = "process", value_name = "NAME=DAEMON", value_parser = super::name_and_value)]
    processes: Vec<(String, String)>,
    /// The image.
    #[arg(long)]
    image: String,
    /// How often each runtime pulls it.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

struct Runtime {
    column: Column,
    cri: Cri,
    daemon: u32,
    /// Bytes, over all rounds.
    peak: u64,
}

/// Measures the runtimes in turn and prints the table. The image is removed in the end.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut runtimes = Vec::new();
    for (name, cri) in options.endpoints.connect().await? {
        let mut daemons = options.processes.iter();
        let daemon = daemons.find_map(|(runtime, daemon)| (*runtime == name).then_some(daemon));
        let daemon = daemon.with_context(|| format!("--process {name}=DAEMON is missing"))?;
        let pids = process::running(daemon);
        let [pid] = pids[..] else {
            bail!("{} processes {daemon}, expected one", pids.len());
        };
        let column = Column::new(&name);
        runtimes.push(Runtime {
            column,
            cri,
            daemon: pid,
            peak: 0,
        });
    }
    for round in 0..=options.rounds {
        for runtime in &mut runtimes {
            let outcome = runtime.pull(&options.image).await;
            outcome.with_context(|| format!("{}: round {round}", runtime.column.name))?;
            if round == 0 {
                runtime.column.clear();
            }
        }
    }
    let columns: Vec<Column> = runtimes
        .iter()
        .map(|runtime| runtime.column.clone())
        .collect();
    super::report(&columns, options.json.as_ref())?;
    for Runtime { column, peak, .. } in &runtimes {
        let peak = megabytes(*peak);
        writeln!(
            std::io::stdout(),
            "{}: daemon's peak memory {peak:.1} MB",
            column.name
        )?;
    }
    Ok(())
}

impl Runtime {
    async fn pull(&mut self, image: &str) -> anyhow::Result<()> {
        self.remove(image).await?;
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache")?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        process::reset_peak(self.daemon).context("reset the daemon's peak memory")?;
        let began = Instant::now();
        self.cri.pull(image).await.context("PullImage")?;
        self.column.push("PullImage", began.elapsed());
        let peak = process::peak_resident(self.daemon).context("read the daemon's peak memory")?;
        self.peak = self.peak.max(peak);
        self.remove(image).await
    }

    async fn remove(&mut self, image: &str) -> anyhow::Result<()> {
        let request = RemoveImageRequest {
            image: Some(image_spec(image)),
        };
        self.cri
            .image
            .remove_image(request)
            .await
            .context("RemoveImage")?;
        Ok(())
    }
}
