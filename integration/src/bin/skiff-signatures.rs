//! A registry of signed, unsigned and wrongly signed images, and the keys that policies want.
//!
//! Every image is the node's busybox with a file of its own. `<dir>` gets key.pem, fulcio.pem and
//! rekor.pem; then the registry serves until it is killed.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use serde_json::json;
use skiff_integration::content::Content;
use skiff_integration::footprint::digest;
use skiff_signer::{Authority, Key, Log, MANIFEST, Signed, Subject, attach, base64};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const ISSUER: &str = "https://accounts.lab";
/// 2024-06-15; certificates are for that year.
const IN_TIME: i64 = 1_718_409_600;

/// Serves signed images.
#[derive(Parser)]
struct Options {
    /// Name and port under which the images are pulled
    #[arg(long, default_value = "localhost:5002")]
    name: String,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:5002")]
    address: String,
    /// Where the keys go
    #[arg(long)]
    dir: PathBuf,
}

/// Who signs.
#[derive(Default)]
struct Signers {
    key: Key,
    authority: Authority,
    log: Log,
}

/// An archive of one program or file, not compressed.
struct Layer {
    archive: Arc<[u8]>,
    digest: String,
}

impl Layer {
    fn new(path: &str, content: &[u8]) -> anyhow::Result<Self> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o755);
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, path, content)?;
        let archive: Arc<[u8]> = archive.into_inner()?.into();
        let digest = digest(&archive);
        Ok(Self { archive, digest })
    }
}

/// A registry being filled.
struct Lab {
    name: String,
    busybox: Layer,
    content: Content,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let signers = Signers::default();
    let busybox = std::fs::read("/usr/bin/busybox").context("read /usr/bin/busybox")?;
    let mut lab = Lab {
        name: options.name,
        busybox: Layer::new("bin/busybox", &busybox)?,
        content: Content::default(),
    };
    lab.fill(&signers)?;
    std::fs::create_dir_all(&options.dir)?;
    for (name, pem) in [
        ("fulcio.pem", signers.authority.root()),
        ("rekor.pem", signers.log.0.pem()),
        ("other.pem", Key::new().pem()),
        // The last: who waits for it finds the others.
        ("key.pem", signers.key.pem()),
    ] {
        let path = options.dir.join(name);
        std::fs::write(&path, pem).with_context(|| format!("write {path:?}"))?;
    }
    lab.content.serve(&options.address)
}

impl Lab {
    fn fill(&mut self, signers: &Signers) -> anyhow::Result<()> {
        let Signers { key, .. } = signers;
        self.image("open/app")?;
        self.image("closed/app")?;
        self.image("signed/none")?;
        for (repository, signer, name) in [
            ("signed/app", key, "signed/app:1"),
            ("signed/later", key, "signed/later:1"),
            ("signed/stranger", &Key::new(), "signed/stranger:1"),
            ("signed/renamed", key, "signed/app:1"),
            ("private/app", key, "private/app:1"),
        ] {
            let digest = self.image(repository)?;
            let signed = signer.sign_image(&format!("{}/{name}", self.name), &digest);
            self.sign(repository, &digest, signed);
        }
        let basic = format!("Basic {}", base64("lab:secret"));
        self.content.demand("private/app", basic);

        let other = self.image("signed/none")?;
        let digest = self.image("signed/moved")?;
        let name = format!("{}/signed/moved:1", self.name);
        self.sign("signed/moved", &digest, key.sign_image(&name, &other));

        let manifest = self.image("signed/index")?;
        let index = self.index("signed/index", &manifest);
        let name = format!("{}/signed/index:1", self.name);
        self.sign("signed/index", &index, key.sign_image(&name, &index));
        self.keyless(signers)
    }

    fn keyless(&mut self, signers: &Signers) -> anyhow::Result<()> {
        let ada = Subject::new("ada@lab", ISSUER);
        let eve = Subject::new("eve@lab", ISSUER);
        let foreign = Signers::default();
        for (repository, authority, log, subject, time) in [
            ("keyless/app", signers, signers, &ada, IN_TIME),
            ("keyless/eve", signers, signers, &eve, IN_TIME),
            ("keyless/late", signers, signers, &ada, IN_TIME + 40_000_000),
            ("keyless/forged", &foreign, signers, &ada, IN_TIME),
            ("keyless/unlogged", signers, &foreign, &ada, IN_TIME),
        ] {
            let digest = self.image(repository)?;
            let name = format!("{}/{repository}:1", self.name);
            let (authority, log) = (&authority.authority, &log.log);
            let signed = authority.sign_image(log, subject, time, &name, &digest);
            self.sign(repository, &digest, signed);
        }
        Ok(())
    }

    /// Serves an image as `<repository>:1`; returns the digest of its manifest.
    fn image(&mut self, repository: &str) -> anyhow::Result<String> {
        let own = Layer::new("repository", repository.as_bytes())?;
        let layers = [&self.busybox, &own];
        let config = json!({
            "architecture": std::env::consts::ARCH, "os": "linux",
            "config": {"Cmd": ["/bin/busybox", "sleep", "100000"]},
            "rootfs": {"type": "layers", "diff_ids": layers.map(|layer| layer.digest.as_str())},
        })
        .to_string();
        let describe = |layer: &Layer| json!({"mediaType": LAYER, "digest": layer.digest, "size": layer.archive.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(config.as_bytes()), "size": config.len()},
            "layers": layers.map(describe),
        })
        .to_string();
        for layer in layers {
            self.content
                .known_blob(repository, &layer.digest, &layer.archive);
        }
        self.content.blob(repository, config.as_bytes());
        Ok(self.content.manifest(repository, "1", MANIFEST, &manifest))
    }

    /// Serves an index with one manifest as `<repository>:1`; returns its digest.
    fn index(&mut self, repository: &str, manifest: &str) -> String {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": MANIFEST, "digest": manifest, "size": 1,
                "platform": {"os": "linux", "architecture": architecture}}],
        })
        .to_string();
        self.content.manifest(repository, "1", INDEX, &index)
    }

    fn sign(&mut self, repository: &str, digest: &str, signed: Signed) {
        let attachment = attach(digest, &[signed]);
        for blob in &attachment.blobs {
            self.content.blob(repository, blob);
        }
        self.content
            .manifest(repository, &attachment.tag, MANIFEST, &attachment.manifest);
    }
}
