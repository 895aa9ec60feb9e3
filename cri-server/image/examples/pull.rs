//! Pulls an image into a store and says what came.
//!
//!     cargo run -p skiff-image --example pull -- <store root> <image> [certs.d]

use std::path::PathBuf;

use anyhow::{Context, Result};
use skiff_image::{PullRequest, Settings, Store};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().context("which store root?")?);
    let reference = arguments.next().context("which image?")?;
    let mut settings = Settings::default();
    if let Some(certs_dir) = arguments.next() {
        settings.certs_dir = certs_dir.into();
    }
    let store = Store::open(&root, settings)?;
    let started = std::time::Instant::now();
    let image = store
        .pull(PullRequest {
            reference,
            auth: None,
            policy: None,
        })
        .await?;
    println!(
        "{} in {:?}, {} bytes",
        image.id,
        started.elapsed(),
        image.size
    );
    println!(
        "tags {:?}, digests {:?}",
        image.repo_tags, image.repo_digests
    );
    for layer in &image.layers {
        println!("layer {}", layer.display());
    }
    let passwd = store.read_file(&image, "etc/passwd", 1 << 20)?;
    println!(
        "etc/passwd: {:?} bytes",
        passwd.map(|content| content.len())
    );
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or_default()
    );
    Ok(())
}
