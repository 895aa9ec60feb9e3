//! The image of the pull comparison, in the storage layout of a docker-registry.
//!
//! Eight layers, 200 MB as they travel and twice that unpacked: half of the layers have few large
//! files, half have thousands of small ones; in each of them a third of the bytes do not compress,
//! and the rest is text. The same bytes every time.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use skiff_integration::footprint::digest;

const REPOSITORY: &str = "perf/large";
const TAG: &str = "latest";
const LAYERS: u64 = 8;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes of a layer that do not compress, and of those that do.
const NOISE: usize = 18_200_000;
const TEXT: usize = 36_400_000;
/// Sizes of files, in bytes.
const LARGE: usize = 9_100_000;
const SMALL: usize = 12_500;

const WORDS: [&str; 16] = [
    "fn",
    "struct",
    "return",
    "container",
    "sandbox",
    "image",
    "layer",
    "digest",
    "namespace",
    "(",
    ")",
    "{\n    ",
    ";\n",
    "-> Result<",
    ">",
    "0x",
];

/// Options of `image`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The root directory of the registry's file system storage.
    storage: PathBuf,
}

/// Writes the image as `perf/large:latest` and prints its size.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let registry = Storage(options.storage.join("docker/registry/v2"));
    let (mut entries, mut diff_ids, mut total) = (Vec::new(), Vec::new(), 0);
    for number in 0..LAYERS {
        let raw = layer(number)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&raw)?;
        let packed = gzip.finish()?;
        diff_ids.push(digest(&raw));
        entries.push(entry(LAYER, &packed));
        total += packed.len();
        registry.blob(&packed, "_layers")?;
    }
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))?;
    registry.blob(&config, "_layers")?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": entry(CONFIG, &config), "layers": entries,
    }))?;
    registry.blob(&manifest, "_manifests/revisions")?;
    registry.tag(&manifest)?;
    writeln!(
        std::io::stdout(),
        "{REPOSITORY}:{TAG}: {LAYERS} layers, {total} bytes"
    )?;
    Ok(())
}

/// A blob as manifests name it.
fn entry(kind: &str, blob: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()})
}

struct Storage(PathBuf);

impl Storage {
    fn write(&self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, content).with_context(|| format!("write {path:?}"))
    }

    fn blob(&self, content: &[u8], links: &str) -> anyhow::Result<()> {
        let digest = digest(content);
        let hex = digest.trim_start_matches("sha256:");
        self.write(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), content)?;
        let link = format!("repositories/{REPOSITORY}/{links}/sha256/{hex}/link");
        self.write(&link, digest.as_bytes())
    }

    fn tag(&self, manifest: &[u8]) -> anyhow::Result<()> {
        let digest = digest(manifest);
        let hex = digest.trim_start_matches("sha256:");
        let tag = format!("repositories/{REPOSITORY}/_manifests/tags/{TAG}");
        self.write(&format!("{tag}/current/link"), digest.as_bytes())?;
        self.write(&format!("{tag}/index/sha256/{hex}/link"), digest.as_bytes())
    }
}

/// The tar of a layer: large files if its number is even, small ones in directories if it is odd.
fn layer(number: u64) -> anyhow::Result<Vec<u8>> {
    let size = if number.is_multiple_of(2) {
        LARGE
    } else {
        SMALL
    };
    let mut random = Random(number + 1);
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, bytes) in [("noise", NOISE), ("text", TEXT)] {
        for file in 0..bytes / size {
            let content = match kind {
                "noise" => random.noise(size),
                _ => random.text(size),
            };
            let path = format!("layer-{number}/{kind}/{}/{file}", file / 100);
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(size)?);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content.as_slice())?;
        }
    }
    Ok(archive.into_inner()?)
}

/// Knuth's linear congruential generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> [u8; 4] {
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        const TERM: u64 = 1_442_695_040_888_963_407;
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(TERM);
        let bytes = self.0.to_be_bytes();
        [bytes[0], bytes[1], bytes[2], bytes[3]]
    }

    fn noise(&mut self, size: usize) -> Vec<u8> {
        let mut content = Vec::with_capacity(size + 4);
        while content.len() < size {
            content.extend(self.next());
        }
        content.truncate(size);
        content
    }

    /// Words and numbers: compresses to about a fifth.
    fn text(&mut self, size: usize) -> Vec<u8> {
        let mut content = Vec::with_capacity(size + 16);
        while content.len() < size {
            let [word, number, ..] = self.next();
            content.extend(WORDS[usize::from(word) % WORDS.len()].bytes());
            content.push(b' ');
            if number < 32 {
                content.extend(number.to_string().bytes());
            }
        }
        content.truncate(size);
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_compresses_and_noise_does_not() {
        let ratio = |content: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(content).unwrap();
            content.len() / gzip.finish().unwrap().len()
        };
        assert_eq!(ratio(&Random(1).noise(100_000)), 0);
        assert!(ratio(&Random(1).text(100_000)) >= 2);
    }
}
