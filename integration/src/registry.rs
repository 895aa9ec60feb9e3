//! A registry that misbehaves: plain HTTP, one image under names that say what goes wrong.
//!
//! `<address>/<fault>:latest` serves the same small image, with the fault of that [`Fault::NAMES`]
//! entry. Real registries do all of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::footprint::digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a repository does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The layer's bytes have another digest than the manifest says.
    LyingLayer,
    /// The manifest fetched by digest is another one.
    LyingManifest,
    /// The connection ends in the middle of the layer, every time.
    ShortLayer,
    /// The layer stops in its middle the first time, and can be resumed.
    Dropped,
    /// Answers with this status and nothing else.
    Status(u16),
    /// Takes the connection and never answers.
    Hang,
    /// The layer begins and never goes on.
    Stall,
}

impl Fault {
    /// Repository names.
    pub const NAMES: [(&str, Fault); 11] = [
        ("good", Fault::None),
        ("lying-layer", Fault::LyingLayer),
        ("lying-manifest", Fault::LyingManifest),
        ("short-layer", Fault::ShortLayer),
        ("dropped", Fault::Dropped),
        ("status-401", Fault::Status(401)),
        ("status-404", Fault::Status(404)),
        ("status-429", Fault::Status(429)),
        ("status-500", Fault::Status(500)),
        ("hang", Fault::Hang),
        ("stall", Fault::Stall),
    ];

    fn of(repository: &str) -> Option<Fault> {
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == repository)
            .map(|(_, fault)| *fault)
    }
}

/// A running registry; it ends with the program.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    content: Arc<Content>,
}

/// One image of one layer.
#[derive(Debug)]
struct Content {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    /// How often a layer was asked for from the repository `dropped`.
    dropped: AtomicUsize,
}

fn seed() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Registry {
    /// Serves an image whose layer is one file of `size` bytes that do not compress. No two
    /// registries serve the same layer, so that none is there already.
    pub fn serve(size: usize) -> anyhow::Result<Self> {
        let mut random = seed();
        let byte = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            random.to_be_bytes()[0]
        };
        let file: Vec<u8> = std::iter::repeat_with(byte).take(size).collect();
        Self::serve_content(Content::new("file", &file, &[])?)
    }

    /// The same with bytes that compress to almost nothing.
    pub fn serve_inflating(size: usize) -> anyhow::Result<Self> {
        let mut file = vec![b'x'; size];
        file[..8].copy_from_slice(&seed().to_be_bytes());
        Self::serve_content(Content::new("file", &file, &[])?)
    }

    /// Serves an image that declares the volume `/data` and has the file `/data/file`, of user 1000
    /// and group 1001, with this text.
    pub fn serve_volume(text: &str) -> anyhow::Result<Self> {
        Self::serve_content(Content::new("data/file", text.as_bytes(), &["/data"])?)
    }

    fn serve_content(content: Content) -> anyhow::Result<Self> {
        let content = Arc::new(content);
        let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::clone(&content);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&shared);
                // a client that goes away is no error of the registry's
                std::thread::spawn(move || content.answer(stream).ok());
            }
        });
        Ok(Self { address, content })
    }

    /// `host:port`, as in an image reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The digest of the image's manifest.
    pub fn manifest_digest(&self) -> String {
        digest(&self.content.manifest)
    }
}

impl Content {
    /// One file, and the paths of volumes.
    fn new(path: &str, file: &[u8], volumes: &[&str]) -> anyhow::Result<Self> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(file.len())?);
        header.set_mode(0o644);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, path, file)?;
        let raw = archive.into_inner()?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&raw)?;
        let layer = gzip.finish()?;
        let volumes = volumes
            .iter()
            .map(|path| ((*path).to_owned(), serde_json::json!({})));
        let volumes: serde_json::Map<_, _> = volumes.collect();
        let config = serde_json::to_vec(&serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/file"], "Volumes": volumes},
            "rootfs": {"type": "layers", "diff_ids": [digest(&raw)]},
        }))?;
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": digest(&layer), "size": layer.len()}],
        }))?;
        Ok(Self {
            manifest,
            config,
            layer,
            dropped: AtomicUsize::new(0),
        })
    }

    /// Answers one request and closes the connection.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut from = 0;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().unwrap_or(0);
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        let body = method != "HEAD";
        match parts.as_slice() {
            [""] => reply(&mut stream, 200, "text/plain", b"", body),
            [repository, kind, what] => match Fault::of(repository) {
                Some(fault) => self.serve_part(&mut stream, fault, kind, what, from, body),
                None => reply(&mut stream, 404, "text/plain", b"", body),
            },
            _ => reply(&mut stream, 404, "text/plain", b"", body),
        }
    }

    fn serve_part(
        &self,
        stream: &mut TcpStream,
        fault: Fault,
        kind: &str,
        what: &str,
        from: usize,
        body: bool,
    ) -> std::io::Result<()> {
        match fault {
            Fault::Status(code) => return reply(stream, code, "text/plain", b"", body),
            Fault::Hang => {
                std::thread::sleep(Duration::from_secs(3600));
                return Ok(());
            }
            _ => {}
        }
        if kind == "manifests" {
            let mut manifest = self.manifest.clone();
            if fault == Fault::LyingManifest {
                manifest.push(b'\n');
            }
            return reply(stream, 200, MANIFEST, &manifest, body);
        }
        if what == digest(&self.config) {
            return reply(stream, 200, CONFIG, &self.config, body);
        }
        if what != digest(&self.layer) {
            return reply(stream, 404, "text/plain", b"", body);
        }
        self.serve_layer(stream, fault, from.min(self.layer.len()), body)
    }

    fn serve_layer(
        &self,
        stream: &mut TcpStream,
        fault: Fault,
        from: usize,
        body: bool,
    ) -> std::io::Result<()> {
        let half = self.layer.len() / 2;
        match fault {
            Fault::LyingLayer => {
                let mut layer = self.layer.clone();
                // the time stamp of the gzip header: the content still inflates
                layer[4] ^= 1;
                reply(stream, 200, LAYER, &layer, body)
            }
            Fault::ShortLayer => part(stream, self.layer.len(), &self.layer[..half]),
            Fault::Stall => {
                part(stream, self.layer.len(), &self.layer[..half])?;
                std::thread::sleep(Duration::from_secs(3600));
                Ok(())
            }
            Fault::Dropped if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 => {
                part(stream, self.layer.len(), &self.layer[..half])
            }
            _ if from > 0 => resume(stream, &self.layer, from),
            _ => reply(stream, 200, LAYER, &self.layer, body),
        }
    }
}

pub(crate) fn reply(
    stream: &mut TcpStream,
    code: u16,
    kind: &str,
    content: &[u8],
    body: bool,
) -> std::io::Result<()> {
    let challenge = if code == 401 {
        "WWW-Authenticate: Basic realm=\"lab\"\r\n"
    } else {
        ""
    };
    write!(
        stream,
        "HTTP/1.1 {code} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Docker-Content-Digest: {}\r\n{challenge}Connection: close\r\n\r\n",
        content.len(),
        digest(content),
    )?;
    if body {
        stream.write_all(content)
    } else {
        Ok(())
    }
}

/// Announces `length` bytes and sends `content`.
fn part(stream: &mut TcpStream, length: usize, content: &[u8]) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 -\r\nContent-Type: {LAYER}\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n\r\n"
    )?;
    stream.write_all(content)?;
    stream.flush()
}

fn resume(stream: &mut TcpStream, layer: &[u8], from: usize) -> std::io::Result<()> {
    let (last, length) = (layer.len() - 1, layer.len());
    write!(
        stream,
        "HTTP/1.1 206 -\r\nContent-Type: {LAYER}\r\nContent-Length: {}\r\n\
         Content-Range: bytes {from}-{last}/{length}\r\nConnection: close\r\n\r\n",
        length - from,
    )?;
    stream.write_all(&layer[from..])
}
