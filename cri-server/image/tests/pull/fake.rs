//! A registry that does as it is told: serves, lies, cuts, refuses, redirects, hangs.
//!
//! HTTP/1.1 over plain TCP on loopback, one request per connection, written out by hand so that
//! it can be wrong in ways that no HTTP server would be.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::write::GzEncoder;
use skiff_image::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What to do instead of serving.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answer with this status, these headers (lines) and this body.
    Status(u16, String, String),
    /// Send so many bytes of the body, then close.
    Cut(usize),
    /// Ignore a Range, send everything.
    NoRange,
    /// Say nothing.
    Hang,
    /// Serve these bytes instead.
    Lie(Vec<u8>),
    /// Go elsewhere.
    Redirect(String),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A fault, for which requests, and how often.
struct Rule {
    path: String,
    fault: Fault,
    times: usize,
}

type Guard = Box<dyn Fn(&Request) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    content: HashMap<String, (String, Vec<u8>)>,
    rules: Vec<Rule>,
    guard: Option<Guard>,
    log: Vec<Request>,
}

/// The registry; it serves until the runtime ends.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Self {
            address,
            state: Arc::default(),
        };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let fake = serving.clone();
                // A client that goes away is a client's right.
                tokio::spawn(async move { drop(fake.serve(socket).await) });
            }
        });
        fake
    }

    /// The next `times` requests whose path contains `path` meet `fault`.
    pub(crate) fn fault(&self, path: &str, times: usize, fault: Fault) {
        self.state.lock().unwrap().rules.push(Rule {
            path: path.into(),
            fault,
            times,
        });
    }

    /// Looks at every request first.
    pub(crate) fn guard(&self, guard: impl Fn(&Request) -> Option<Fault> + Send + 'static) {
        self.state.lock().unwrap().guard = Some(Box::new(guard));
    }

    /// Requests whose path contains `path`.
    pub(crate) fn seen(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state
            .log
            .iter()
            .filter(|request| request.path.contains(path))
            .cloned()
            .collect()
    }

    pub(crate) fn put(&self, path: &str, media_type: &str, content: Vec<u8>) {
        self.state
            .lock()
            .unwrap()
            .content
            .insert(path.into(), (media_type.into(), content));
    }

    /// Serves a manifest by digest and by tag.
    pub(crate) fn put_manifest(
        &self,
        name: &str,
        tag: &str,
        media_type: &str,
        json: &str,
    ) -> Digest {
        let digest = Digest::of(json.as_bytes());
        for target in [tag, &digest.to_string()] {
            self.put(
                &format!("/v2/{name}/manifests/{target}"),
                media_type,
                json.into(),
            );
        }
        digest
    }

    pub(crate) fn put_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let path = format!("/v2/{name}/blobs/{digest}");
        self.put(&path, "application/octet-stream", content.to_vec());
        digest
    }

    /// Serves an image of these layers (archives) and returns what it is made of.
    pub(crate) fn put_image(&self, name: &str, tag: &str, layers: &[Vec<u8>]) -> Served {
        let config = config(layers);
        let id = self.put_blob(name, config.as_bytes());
        let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let digests: Vec<Digest> = blobs.iter().map(|blob| self.put_blob(name, blob)).collect();
        let json = manifest(&config, &blobs, MANIFEST, "application/vnd.oci.image");
        let manifest = self.put_manifest(name, tag, MANIFEST, &json);
        Served {
            id,
            manifest,
            layers: digests,
            blobs,
        }
    }

    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let request = read_request(&mut socket).await?;
        let (content, fault) = {
            let mut state = self.state.lock().unwrap();
            state.log.push(request.clone());
            let path = request.path.split('?').next().unwrap_or_default();
            let rule = state
                .rules
                .iter_mut()
                .find(|r| r.times > 0 && path.contains(&r.path));
            let fault = rule.map(|rule| {
                rule.times -= 1;
                rule.fault.clone()
            });
            let guarded = state.guard.as_ref().and_then(|guard| guard(&request));
            (state.content.get(path).cloned(), fault.or(guarded))
        };
        answer(&mut socket, &request, content, fault).await
    }
}

/// What [`Fake::put_image`] serves.
pub(crate) struct Served {
    pub(crate) id: Digest,
    pub(crate) manifest: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) blobs: Vec<Vec<u8>>,
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut words = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let len = headers
        .get("content-length")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; len];
    socket.read_exact(&mut body).await?;
    Ok(Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn answer(
    socket: &mut TcpStream,
    request: &Request,
    content: Option<(String, Vec<u8>)>,
    fault: Option<Fault>,
) -> std::io::Result<()> {
    let (media_type, mut body) = match (content, &fault) {
        (_, Some(Fault::Hang)) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            return Ok(());
        }
        (_, Some(Fault::Status(status, headers, body))) => {
            return respond(socket, *status, headers, body.as_bytes(), body.len()).await;
        }
        (_, Some(Fault::Redirect(to))) => {
            return respond(socket, 307, &format!("Location: {to}\r\n"), b"", 0).await;
        }
        (None, _) => {
            let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return respond(socket, 404, "", body.as_bytes(), body.len()).await;
        }
        (Some((media_type, _)), Some(Fault::Lie(lie))) => (media_type, lie.clone()),
        (Some(content), _) => content,
    };
    let mut headers = format!("Content-Type: {media_type}\r\n");
    let mut status = 200;
    if request.path.contains("/manifests/") {
        headers += &format!("Docker-Content-Digest: {}\r\n", Digest::of(&body));
    }
    let range = request
        .header("range")
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
    if let (Some(start), false) = (range, matches!(fault, Some(Fault::NoRange))) {
        let (start, len): (usize, usize) = (start.parse().unwrap(), body.len());
        headers += &format!("Content-Range: bytes {start}-{}/{len}\r\n", len - 1);
        body.drain(..start);
        status = 206;
    }
    let announced = body.len();
    if let Some(Fault::Cut(at)) = fault {
        body.truncate(at);
    }
    if request.method == "HEAD" {
        body.clear();
    }
    respond(socket, status, &headers, &body, announced).await
}

async fn respond(
    socket: &mut TcpStream,
    status: u16,
    headers: &str,
    body: &[u8],
    len: usize,
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {len}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    socket.shutdown().await
}

/// An archive of files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The configuration of an image of these layers.
pub(crate) fn config(layers: &[Vec<u8>]) -> String {
    let ids: Vec<String> = layers
        .iter()
        .map(|l| format!("{:?}", Digest::of(l).to_string()))
        .collect();
    format!(
        r#"{{"os":"linux","architecture":{:?},"config":{{"User":"1000:1000","Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"Volumes":{{"/data":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        architecture(),
        ids.join(",")
    )
}

/// A manifest; `family` is the start of the media types.
pub(crate) fn manifest(config: &str, blobs: &[Vec<u8>], media_type: &str, family: &str) -> String {
    let docker = family.contains("docker");
    let (config_type, layer_type) = if docker {
        ("container.image.v1+json", "image.rootfs.diff.tar.gzip")
    } else {
        (".config.v1+json", ".layer.v1.tar+gzip")
    };
    let layers: Vec<String> = blobs
        .iter()
        .map(|blob| descriptor(&format!("{family}{layer_type}"), blob))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":{media_type:?},"config":{},"layers":[{}]}}"#,
        descriptor(&format!("{family}{config_type}"), config.as_bytes()),
        layers.join(",")
    )
}

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> String {
    let (digest, size) = (Digest::of(content), content.len());
    format!(r#"{{"mediaType":{media_type:?},"digest":"{digest}","size":{size}}}"#)
}

pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}
