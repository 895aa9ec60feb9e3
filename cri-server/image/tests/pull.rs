//! Pulls from a registry that misbehaves, through the crate's public interface.

mod fake;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fake::{Fake, Fault, INDEX, MANIFEST, architecture, archive, config, gzip, manifest};
use skiff_image::{Auth, Digest, Image, PullError, PullRequest, Settings, Store};
use tempfile::TempDir;

/// What a store has on disk.
const DIRS: [&str; 4] = ["tmp", "layers", "records", "trash"];

/// A store in a directory of its own.
struct Node {
    root: TempDir,
    store: Arc<Store>,
}

fn settings(root: &Path) -> Settings {
    Settings {
        certs_dir: root.join("certs.d"),
        progress_timeout: Duration::from_secs(20),
        retry_backoff: Duration::from_millis(1),
        max_retry_after: Duration::from_millis(10),
        ..Settings::default()
    }
}

impl Node {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut settings = settings(root.path());
        adjust(&mut settings);
        let store = Store::open(root.path(), settings).unwrap();
        Self { root, store }
    }

    /// The same after a restart.
    fn reopen(self) -> Self {
        drop(self.store);
        let store = Store::open(self.root.path(), settings(self.root.path())).unwrap();
        Self {
            root: self.root,
            store,
        }
    }

    async fn pull(&self, reference: &str) -> Result<Arc<Image>, PullError> {
        self.pull_as(reference, None).await
    }

    async fn pull_as(&self, reference: &str, auth: Option<Auth>) -> Result<Arc<Image>, PullError> {
        self.store
            .pull(PullRequest {
                reference: reference.into(),
                auth,
            })
            .await
    }

    fn hosts(&self, registry: &str, toml: &str) {
        let dir = self.root.path().join("certs.d").join(registry);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), toml).unwrap();
    }

    fn entries(&self, dir: &str) -> usize {
        std::fs::read_dir(self.root.path().join("images").join(dir))
            .unwrap()
            .count()
    }

    /// Waits for threads that work on their own.
    async fn eventually(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left: {:?}", DIRS.map(|dir| self.entries(dir)));
    }

    /// Waits until nothing of a failed or cancelled pull is left.
    async fn assert_nothing_left(&self) {
        self.eventually(|node| DIRS.iter().all(|dir| node.entries(dir) == 0))
            .await;
    }

    fn read(&self, image: &Image, path: &str) -> Option<String> {
        let content = self.store.read_file(image, path, 1 << 20).unwrap();
        content.map(|content| String::from_utf8(content).unwrap())
    }
}

fn layers() -> Vec<Vec<u8>> {
    vec![
        archive(&[
            ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
            ("etc/gone", b"x"),
            ("bin/sh", b"#"),
        ]),
        archive(&[
            ("etc/.wh.gone", b""),
            ("etc/issue", b"second"),
            ("big", &vec![7; 300_000]),
        ]),
    ]
}

#[tokio::test]
async fn an_image_is_pulled_and_found_and_read() {
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a/b", "v1", &layers());
    let reference = format!("{}/a/b:v1", fake.address);
    let image = node.pull(&reference).await.unwrap();
    assert_eq!(image.id, served.id);
    assert_eq!(image.repo_tags, [reference.as_str()]);
    let by_digest = format!("{}/a/b@{}", fake.address, served.manifest);
    assert_eq!(image.repo_digests, [by_digest.as_str()]);
    assert_eq!(image.layers.len(), 2);
    assert!(image.size > 300_000 && !image.pinned);
    assert_eq!(image.config.user, "1000:1000");
    assert_eq!(image.config.env, ["A=b"]);
    assert_eq!(
        (image.config.cmd.as_slice(), image.config.volumes.as_slice()),
        (
            ["sh".to_owned()].as_slice(),
            ["/data".to_owned()].as_slice()
        )
    );
    assert!(image.config.entrypoint.is_empty());
    for name in [
        &reference,
        &by_digest,
        &image.id.to_string(),
        &image.id.hex(),
    ] {
        assert_eq!(node.store.image(name).unwrap().id, image.id, "{name}");
    }
    assert_eq!(
        node.read(&image, "/etc/passwd").unwrap(),
        "root:x:0:0::/:/bin/sh\n"
    );
    assert_eq!(node.read(&image, "etc/issue").unwrap(), "second");
    assert_eq!(node.read(&image, "etc/gone"), None);
    assert_eq!(node.read(&image, "etc"), None);
    assert_eq!(node.store.images().len(), 1);
    let usage = node.store.usage();
    assert!(usage.bytes > 300_000 && usage.inodes >= 9, "{usage:?}");
}

#[tokio::test]
async fn what_is_here_is_not_downloaded_again() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    fake.put_image("a", "v2", &layers());
    let first = node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    let blobs = fake.seen("/blobs/").len();
    let second = node.pull(&format!("{}/a:v2", fake.address)).await.unwrap();
    assert_eq!(second.id, first.id);
    assert_eq!(second.repo_tags.len(), 2);
    assert_eq!(fake.seen("/blobs/").len(), blobs);
    assert!(
        fake.seen("/manifests/v2")
            .iter()
            .all(|request| request.method == "HEAD")
    );
    fake.put_image("b", "v1", &layers()[..1]);
    node.pull(&format!("{}/b:v1", fake.address)).await.unwrap();
    assert_eq!(
        fake.seen("/v2/b/blobs/").len(),
        1,
        "only the configuration: the layer is shared"
    );
}

#[tokio::test]
async fn docker_lists_choose_our_platform() {
    let (fake, node) = (Fake::start().await, Node::new());
    let layers = layers();
    let blobs: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
    let config = config(&layers);
    fake.put_blob("a", config.as_bytes());
    for blob in &blobs {
        fake.put_blob("a", blob);
    }
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let ours = manifest(&config, &blobs, docker, "application/vnd.docker.");
    let digest = fake.put_manifest("a", "unused", docker, &ours);
    let entry = |digest: Digest, architecture: &str| {
        format!(
            r#"{{"mediaType":{docker:?},"digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":{architecture:?}}}}}"#
        )
    };
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{},{}]}}"#,
        entry(Digest::of(b"other"), "s390x"),
        entry(digest, architecture()),
    );
    let top = fake.put_manifest("a", "latest", INDEX, &list);
    let image = node.pull(&format!("{}/a", fake.address)).await.unwrap();
    assert_eq!(image.id, Digest::of(config.as_bytes()));
    assert_eq!(image.repo_digests, [format!("{}/a@{top}", fake.address)]);
    let only = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        entry(digest, "s390x")
    );
    fake.put_manifest("a", "foreign", INDEX, &only);
    let error = node
        .pull(&format!("{}/a:foreign", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no image for linux/") && error.contains("linux/s390x"),
        "{error}"
    );
}

#[tokio::test]
async fn layers_compressed_in_every_way() {
    let (fake, node) = (Fake::start().await, Node::new());
    let layers = vec![
        archive(&[("plain", b"1")]),
        archive(&[("gzip", b"2")]),
        archive(&[("zstd", &vec![3; 1_000_000])]),
    ];
    let blobs = vec![
        layers[0].clone(),
        // Two members, as parallel compressors write.
        [gzip(&layers[1][..700]), gzip(&layers[1][700..])].concat(),
        zstd::encode_all(layers[2].as_slice(), 3).unwrap(),
    ];
    let config = config(&layers);
    fake.put_blob("a", config.as_bytes());
    for blob in &blobs {
        fake.put_blob("a", blob);
    }
    let json = manifest(&config, &blobs, MANIFEST, "application/vnd.oci.image");
    fake.put_manifest("a", "latest", MANIFEST, &json);
    let image = node.pull(&format!("{}/a", fake.address)).await.unwrap();
    assert_eq!(node.read(&image, "plain").unwrap(), "1");
    assert_eq!(node.read(&image, "gzip").unwrap(), "2");
    assert_eq!(node.read(&image, "zstd").unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn bad_references_are_refused_before_anything_is_sent() {
    let node = Node::new();
    for reference in ["", "UPPER", "a b", "x@sha256:1", ":tag", "http://a.b/c"] {
        let error = node.pull(reference).await.unwrap_err();
        assert!(
            matches!(error, PullError::Reference(_)),
            "{reference}: {error}"
        );
    }
}

#[tokio::test]
async fn an_absent_image_is_not_found() {
    let (fake, node) = (Fake::start().await, Node::new());
    let error = node
        .pull(&format!("{}/a:nope", fake.address))
        .await
        .unwrap_err();
    assert!(
        error.is_not_found() && !error.is_registry_unavailable(),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("/a:nope") && text.contains("manifest unknown"),
        "{text}"
    );
}

#[tokio::test]
async fn lying_digests_are_found_out() {
    for (path, lie, expected) in [
        ("manifests/", b"{}".to_vec(), "manifest has digest"),
        (
            "blobs/CONFIG",
            b"{}".to_vec(),
            "image configuration has digest",
        ),
        ("blobs/LAYER", gzip(&layers()[1]), "content has"),
    ] {
        let (fake, node) = (Fake::start().await, Node::new());
        let served = fake.put_image("a", "v1", &layers()[..1]);
        let path = path
            .replace("CONFIG", &served.id.to_string())
            .replace("LAYER", &served.layers[0].to_string());
        fake.fault(&path, 9, Fault::Lie(lie));
        let reference = format!("{}/a@{}", fake.address, served.manifest);
        let error = node.pull(&reference).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
        assert!(node.store.images().is_empty());
        node.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn a_layer_of_the_right_size_and_wrong_content() {
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers()[..1]);
    let mut lie = served.blobs[0].clone();
    // The file name flag and time of the gzip header: what it inflates to stays the same.
    lie[4] ^= 1;
    fake.fault(&served.layers[0].to_string(), 9, Fault::Lie(lie));
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("content has digest sha256:"), "{error}");
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn an_archive_that_is_not_the_configurations() {
    let (fake, node) = (Fake::start().await, Node::new());
    let config = config(&layers()[..1]);
    fake.put_blob("a", config.as_bytes());
    let other = gzip(&layers()[1]);
    fake.put_blob("a", &other);
    let json = manifest(&config, &[other], MANIFEST, "application/vnd.oci.image");
    fake.put_manifest("a", "v1", MANIFEST, &json);
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the image configuration says sha256:"),
        "{error}"
    );
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_broken_download_is_taken_up_where_it_broke() {
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &[archive(&[("big", &noise(400_000))])]);
    let layer = served.layers[0].to_string();
    fake.fault(&layer, 1, Fault::Cut(100_000));
    fake.fault(&layer, 1, Fault::Cut(50_000));
    fake.fault(&layer, 1, Fault::NoRange);
    let image = node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    assert_eq!(
        node.store
            .read_file(&image, "big", 1 << 20)
            .unwrap()
            .unwrap(),
        noise(400_000)
    );
    let ranges: Vec<_> = fake
        .seen(&layer)
        .iter()
        .map(|r| r.header("range").map(str::to_owned))
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some("bytes=100000-".into()),
            Some("bytes=150000-".into())
        ]
    );
}

#[tokio::test]
async fn a_layer_that_stays_short_is_an_error() {
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers()[..1]);
    fake.fault(&served.layers[0].to_string(), 99, Fault::Cut(0));
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err();
    assert!(error.is_registry_unavailable(), "{error}");
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers()[..1]);
    let short = served.blobs[0][..50].to_vec();
    fake.fault(&served.layers[0].to_string(), 99, Fault::Lie(short));
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("after 50 of"), "{error}");
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn faults_that_pass_and_faults_that_stay() {
    let status = |status: u16| Fault::Status(status, "Retry-After: 1\r\n".into(), "why".into());
    for passing in [429, 500, 503] {
        let (fake, node) = (Fake::start().await, Node::new());
        fake.put_image("a", "v1", &layers());
        // The first is for the HEAD, which is not repeated in vain.
        fake.fault("/manifests/v1", 4, status(passing));
        fake.fault("/blobs/", 2, status(passing));
        node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    }
    for (staying, unavailable) in [(429, false), (500, true), (503, true), (403, false)] {
        let (fake, node) = (Fake::start().await, Node::new());
        fake.put_image("a", "v1", &layers());
        fake.fault("/manifests/", 99, status(staying));
        let error = node
            .pull(&format!("{}/a:v1", fake.address))
            .await
            .unwrap_err();
        assert_eq!(
            error.is_registry_unavailable(),
            unavailable,
            "{staying}: {error}"
        );
        assert!(error.to_string().contains("why"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_and_nothing_said() {
    let node = Node::with(|settings| settings.progress_timeout = Duration::from_millis(300));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let error = node.pull(&format!("{address}/a")).await.unwrap_err();
    assert!(error.is_registry_unavailable(), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let fake = Fake::start().await;
    let served = fake.put_image("a", "v1", &layers());
    fake.fault(&served.layers[0].to_string(), 9, Fault::Hang);
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err();
    assert!(error.is_registry_unavailable(), "{error}");
    assert!(
        error.to_string().contains("nothing received for 0.3s"),
        "{error}"
    );
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Demands a bearer token, which the registry's own token server gives for some credentials.
fn demand_token(fake: &Fake, give: impl Fn(&fake::Request) -> bool + Send + 'static) {
    let challenge = format!(
        "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:a:pull\"\r\n",
        fake.address
    );
    fake.guard(move |request| {
        if request.path.starts_with("/token") {
            let answer = if give(request) {
                (200, r#"{"token":"opensesame"}"#)
            } else {
                (401, "no")
            };
            return Some(Fault::Status(answer.0, String::new(), answer.1.into()));
        }
        let ok = request.header("authorization") == Some("Bearer opensesame");
        (!ok).then(|| Fault::Status(401, challenge.clone(), String::new()))
    });
}

fn user(name: &str) -> Option<Auth> {
    Some(Auth {
        username: name.into(),
        password: "secret".into(),
        ..Auth::default()
    })
}

#[tokio::test]
async fn bearer_tokens_anonymous_and_with_credentials() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    demand_token(&fake, |_| true);
    node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    let tokens = fake.seen("/token");
    assert_eq!(tokens.len(), 1, "one token for the whole pull");
    assert!(
        tokens[0].path.contains("service=s")
            && tokens[0].path.contains("scope=repository%3Aa%3Apull")
    );
    assert_eq!(tokens[0].header("authorization"), None);

    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    // user:secret
    demand_token(&fake, |r| {
        r.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=")
    });
    let reference = format!("{}/a:v1", fake.address);
    let error = node.pull_as(&reference, user("other")).await.unwrap_err();
    assert!(
        error.is_denied() && !error.to_string().contains("secret"),
        "{error}"
    );
    let error = node.pull(&reference).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    node.pull_as(&reference, user("user")).await.unwrap();
}

#[tokio::test]
async fn identity_and_registry_tokens() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    demand_token(&fake, |r| {
        r.method == "POST"
            && r.body
                .contains("grant_type=refresh_token&refresh_token=id%2F1")
    });
    let identity = Auth {
        identity_token: "id/1".into(),
        ..Auth::default()
    };
    node.pull_as(&format!("{}/a:v1", fake.address), Some(identity))
        .await
        .unwrap();

    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    demand_token(&fake, |_| false);
    let token = Auth {
        registry_token: "opensesame".into(),
        ..Auth::default()
    };
    node.pull_as(&format!("{}/a:v1", fake.address), Some(token))
        .await
        .unwrap();
    assert!(fake.seen("/token").is_empty());
}

#[tokio::test]
async fn basic_authentication() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    fake.guard(|request| {
        let ok = request.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=");
        let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned();
        (!ok).then(|| Fault::Status(401, challenge, String::new()))
    });
    let reference = format!("{}/a:v1", fake.address);
    let error = node.pull(&reference).await.unwrap_err();
    assert!(
        error.is_denied() && error.to_string().contains("none were given"),
        "{error}"
    );
    assert!(
        node.pull_as(&reference, user("other"))
            .await
            .unwrap_err()
            .is_denied()
    );
    node.pull_as(&reference, user("user")).await.unwrap();
    let elsewhere = Auth {
        server_address: "other.example".into(),
        ..user("user").unwrap()
    };
    let fresh = Node::new();
    assert!(
        fresh
            .pull_as(&reference, Some(elsewhere))
            .await
            .unwrap_err()
            .is_denied()
    );
}

#[tokio::test]
async fn redirects_do_not_carry_what_is_ours() {
    let (fake, cdn, node) = (Fake::start().await, Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers());
    for (digest, blob) in served.layers.iter().zip(&served.blobs) {
        cdn.put(
            &format!("/storage/{digest}"),
            "application/octet-stream",
            blob.clone(),
        );
        let to = format!("http://{}/storage/{digest}?signature=x", cdn.address);
        fake.fault(&digest.to_string(), 1, Fault::Redirect(to));
    }
    demand_token(&fake, |_| true);
    node.hosts(
        &format!("{}_", fake.address.replace(':', "_")),
        &format!(
            "server = \"http://{}\"\n[header]\nx-ours = \"1\"\n",
            fake.address
        ),
    );
    node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    let there = cdn.seen("/storage/");
    assert_eq!(there.len(), 2);
    for request in there {
        assert_eq!(
            (request.header("authorization"), request.header("x-ours")),
            (None, None)
        );
    }
    assert!(
        fake.seen("/v2/")
            .iter()
            .all(|request| request.header("x-ours") == Some("1"))
    );
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    fake.fault(
        "/manifests/",
        99,
        Fault::Redirect("/v2/a/manifests/v1".into()),
    );
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 10 redirects"), "{error}");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_fallen_back_from() {
    let (mirror, origin, node) = (Fake::start().await, Fake::start().await, Node::new());
    mirror.put_image("a", "v1", &layers());
    origin.put_image("a", "v1", &layers());
    let served = origin.put_image("a", "v2", &[archive(&[("only", b"origin")])]);
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        origin.address, mirror.address
    );
    node.hosts("registry.example", &toml);
    let image = node
        .pull_as("registry.example/a:v1", user("user"))
        .await
        .unwrap();
    assert_eq!(image.repo_tags, ["registry.example/a:v1"]);
    assert!(origin.seen("").is_empty());
    let asked = mirror.seen("/v2/");
    assert!(
        asked
            .iter()
            .all(|request| request.path.ends_with("?ns=registry.example"))
    );
    let image = node.pull("registry.example/a:v2").await.unwrap();
    assert_eq!(image.id, served.id);
    // A mirror that breaks in the middle of a layer: the origin gives the rest.
    let big = origin.put_image("a", "v3", &[archive(&[("big", &noise(100_000))])]);
    mirror.put_image("a", "v3", &[archive(&[("big", &noise(100_000))])]);
    let layer = big.layers[0].to_string();
    mirror.fault(&layer, 1, Fault::Cut(1000));
    mirror.fault(&layer, 99, Fault::Status(500, String::new(), String::new()));
    node.pull("registry.example/a:v3").await.unwrap();
    assert_eq!(origin.seen(&layer)[0].header("range"), Some("bytes=1000-"));
}

#[tokio::test]
async fn a_mirror_gets_no_credentials_of_the_registry() {
    let (mirror, node) = (Fake::start().await, Node::new());
    mirror.put_image("a", "v1", &layers());
    mirror.guard(|request| {
        let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned();
        request
            .header("authorization")
            .is_none()
            .then(|| Fault::Status(401, challenge, String::new()))
    });
    let toml = format!("server = \"http://{}\"\n", mirror.address);
    node.hosts("registry.example", &toml);
    let error = node
        .pull_as("registry.example/a:v1", user("user"))
        .await
        .unwrap_err();
    assert!(error.is_denied(), "{error}");
    let named = Auth {
        server_address: mirror.address.clone(),
        ..user("user").unwrap()
    };
    node.pull_as("registry.example/a:v1", Some(named))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bad_hosts_file_fails_the_pull() {
    let node = Node::new();
    node.hosts("registry.example", "server = 7");
    let error = node
        .pull("registry.example/a")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("registry.example/hosts.toml") && error.contains("line 1"),
        "{error}"
    );
}

#[tokio::test]
async fn concurrent_pulls_of_an_image_are_one() {
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers());
    let reference = format!("{}/a:v1", fake.address);
    let pulls = (0..8).map(|_| node.pull(&reference));
    for image in futures_util::future::join_all(pulls).await {
        assert_eq!(image.unwrap().id, served.id);
    }
    for layer in &served.layers {
        assert_eq!(fake.seen(&layer.to_string()).len(), 1);
    }
}

#[tokio::test]
async fn images_that_share_a_layer_fetch_it_once() {
    let (fake, node) = (Fake::start().await, Node::new());
    let mut common = vec![archive(&[("common", &noise(200_000))])];
    let a = fake.put_image("a", "v1", &common);
    common.push(archive(&[("more", b"x")]));
    fake.put_image("b", "v1", &common);
    let (pull_a, pull_b) = (
        format!("{}/a:v1", fake.address),
        format!("{}/b:v1", fake.address),
    );
    let (one, two) = tokio::join!(node.pull(&pull_a), node.pull(&pull_b));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.layers[0], two.layers[1]);
    assert_eq!(fake.seen(&a.layers[0].to_string()).len(), 1);
    assert_eq!(node.entries("layers"), 2);
}

#[tokio::test]
async fn a_pull_that_is_dropped_leaves_nothing_and_harms_nobody() {
    let (fake, node) = (Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers()[..1]);
    fake.fault(&served.layers[0].to_string(), 1, Fault::Hang);
    let reference = format!("{}/a:v1", fake.address);
    let mut pull = Box::pin(node.pull(&reference));
    while fake.seen("/blobs/").len() < 2 {
        let tick = tokio::time::sleep(Duration::from_millis(5));
        tokio::select! { _ = &mut pull => panic!("it hangs"), () = tick => {} }
    }
    drop(pull);
    node.assert_nothing_left().await;
    // Two wait for one flight; one of them gives up.
    fake.fault(
        &served.layers[0].to_string(),
        1,
        Fault::Status(503, "Retry-After: 1\r\n".into(), String::new()),
    );
    let (mut first, second) = (Box::pin(node.pull(&reference)), node.pull(&reference));
    tokio::select! { biased; _ = &mut first => {}, () = std::future::ready(()) => {} }
    let (_, second) = tokio::join!(async { drop(first) }, second);
    assert_eq!(second.unwrap().id, served.id);
}

#[tokio::test]
async fn limits_and_a_full_disk_leave_nothing() {
    let fake = Fake::start().await;
    fake.put_image("bomb", "v1", &[archive(&[("zeros", &vec![0; 30 << 20])])]);
    let node = Node::with(|settings| settings.max_layer_bytes = 20 << 20);
    let error = node
        .pull(&format!("{}/bomb:v1", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("unpacks to more than 20971520 bytes"),
        "{error}"
    );
    node.assert_nothing_left().await;
    let node = Node::with(|settings| settings.reserve_bytes = u64::MAX / 2);
    let error = node
        .pull(&format!("{}/bomb:v1", fake.address))
        .await
        .unwrap_err();
    assert!(error.is_no_space(), "{error}");
    node.assert_nothing_left().await;
}

#[tokio::test]
#[allow(clippy::print_stderr)]
async fn a_disk_that_fills_up_while_unpacking() {
    let node = Node::with(|settings| settings.reserve_bytes = 0);
    let mount = |arguments: &[&str]| {
        std::process::Command::new("mount")
            .args(arguments)
            .arg(node.root.path().join("images/tmp"))
            .status()
    };
    if !mount(&["-t", "tmpfs", "-o", "size=4m", "none"]).is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs root");
        return;
    }
    let fake = Fake::start().await;
    fake.put_image("a", "v1", &[archive(&[("zeros", &vec![0; 6 << 20])])]);
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err();
    let unmounted = std::process::Command::new("umount")
        .arg("-l")
        .arg(node.root.path().join("images/tmp"))
        .status();
    assert!(unmounted.unwrap().success());
    assert!(
        error.is_no_space() && error.to_string().contains("no space left"),
        "{error}"
    );
    assert!(node.store.images().is_empty());
    assert_eq!((node.entries("layers"), node.entries("records")), (0, 0));
}

#[tokio::test]
async fn a_restart_keeps_images_and_discards_the_rest() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    let reference = format!("{}/a:v1", fake.address);
    let image = node.pull(&reference).await.unwrap();
    let images = node.root.path().join("images");
    std::fs::create_dir_all(images.join("tmp/7/fs/half")).unwrap();
    // A layer that was added by a pull which never came to its commit.
    let orphan = images.join("layers").join("0".repeat(32));
    std::fs::create_dir_all(orphan.join("fs")).unwrap();
    let id = format!("sha256:{}", "0".repeat(64));
    std::fs::write(
        orphan.join("layer.json"),
        format!(r#"{{"version":1,"chain_id":"{id}","diff_id":"{id}","bytes":1,"inodes":1}}"#),
    )
    .unwrap();
    // Records torn, from the future, and without their layers.
    for (name, json) in [
        ("1", "".to_owned()),
        (
            "2",
            format!(r#"{{"version":99,"id":"{id}","tags":[],"digests":[],"layers":[]}}"#),
        ),
        (
            "3",
            format!(
                r#"{{"version":1,"id":"{id}","tags":[],"digests":[],"layers":["{}"]}}"#,
                Digest::of(b"x")
            ),
        ),
    ] {
        let dir = images.join("records").join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("image.json"), json).unwrap();
        std::fs::write(dir.join("config.json"), r#"{"rootfs":{"diff_ids":[]}}"#).unwrap();
    }
    let node = node.reopen();
    assert_eq!(node.store.images().len(), 1);
    let again = node.store.image(&reference).unwrap();
    assert_eq!(
        (again.id, &again.layers, again.size),
        (image.id, &image.layers, image.size)
    );
    node.eventually(|_| !orphan.exists()).await;
    assert_eq!(
        (
            node.entries("tmp"),
            node.entries("records"),
            node.entries("layers")
        ),
        (0, 1, 2)
    );
}

#[tokio::test]
async fn removal_takes_every_name_and_no_layer_that_is_needed() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    fake.put_image("a", "v2", &layers());
    fake.put_image("b", "v1", &layers()[..1]);
    for reference in ["a:v1", "a:v2", "b:v1"] {
        node.pull(&format!("{}/{reference}", fake.address))
            .await
            .unwrap();
    }
    let base = node.store.image(&format!("{}/b:v1", fake.address)).unwrap();
    node.store
        .remove(&format!("{}/a:v1", fake.address))
        .await
        .unwrap();
    assert!(
        node.store
            .image(&format!("{}/a:v2", fake.address))
            .is_none()
    );
    assert_eq!(
        node.entries("layers"),
        2,
        "nobody has said yet what containers use"
    );
    node.store.restore_holds([]);
    node.store
        .remove(&format!("{}/a:v1", fake.address))
        .await
        .unwrap();
    node.store.remove("no such image").await.unwrap();
    node.eventually(|node| node.entries("layers") == 1).await;
    assert_eq!(node.read(&base, "bin/sh").unwrap(), "#");
    node.store.remove(&base.id.to_string()).await.unwrap();
    node.assert_nothing_left().await;
    assert_eq!(node.store.usage(), skiff_image::Usage::default());
}

#[tokio::test]
async fn a_container_keeps_the_layers_of_a_removed_image() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    let reference = format!("{}/a:v1", fake.address);
    node.pull(&reference).await.unwrap();
    node.store.restore_holds([]);
    let image = node.store.hold("c1", &reference).unwrap();
    node.store.hold("c2", &reference).unwrap();
    assert!(node.store.hold("c3", "absent").is_none());
    node.store.remove(&reference).await.unwrap();
    assert!(node.store.image(&reference).is_none() && node.store.images().is_empty());
    assert!(node.store.hold("c3", &image.id.to_string()).is_none());
    assert_eq!(node.read(&image, "bin/sh").unwrap(), "#");
    node.store.release("c1");
    node.store.release("c1");
    // Everything above is known to be done once a further change is.
    node.store.remove(&reference).await.unwrap();
    let node = node.reopen();
    assert!(node.store.image(&reference).is_none());
    node.store.restore_holds([("c2".to_owned(), image.id)]);
    assert_eq!(node.read(&image, "bin/sh").unwrap(), "#");
    // Pulled again, it is visible again, without a download, and without its old names.
    fake.put_image("a", "v9", &layers());
    let blobs = fake.seen("/blobs/").len();
    let again = node.pull(&format!("{}/a:v9", fake.address)).await.unwrap();
    assert_eq!(again.repo_tags, [format!("{}/a:v9", fake.address)]);
    assert_eq!(fake.seen("/blobs/").len(), blobs + 1, "the configuration");
    node.store.remove(&again.id.hex()).await.unwrap();
    node.store.release("c2");
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_tag_moves_to_the_new_image() {
    let (fake, node) = (Fake::start().await, Node::new());
    let old = fake.put_image("a", "latest", &layers()[..1]);
    let reference = format!("{}/a", fake.address);
    node.pull(&reference).await.unwrap();
    let new = fake.put_image("a", "latest", &layers());
    node.pull(&reference).await.unwrap();
    assert_eq!(node.store.image(&reference).unwrap().id, new.id);
    let old = node.store.image(&old.id.to_string()).unwrap();
    assert!(old.repo_tags.is_empty() && old.repo_digests.len() == 1);
    let node = node.reopen();
    assert_eq!(node.store.image(&reference).unwrap().id, new.id);
}

#[tokio::test]
async fn finished_layers_of_a_failed_pull_wait_for_another() {
    let (fake, node) = (
        Fake::start().await,
        Node::with(|settings| settings.parallel_layers = 1),
    );
    let served = fake.put_image("a", "v1", &layers());
    let (lower, upper) = (served.layers[0].to_string(), served.layers[1].to_string());
    fake.fault(&upper, 1, Fault::Hang);
    let reference = format!("{}/a:v1", fake.address);
    let mut pull = Box::pin(node.pull(&reference));
    while node.entries("layers") == 0 {
        let tick = tokio::time::sleep(Duration::from_millis(5));
        tokio::select! { _ = &mut pull => panic!("it hangs"), () = tick => {} }
    }
    drop(pull);
    node.pull(&reference).await.unwrap();
    assert_eq!((fake.seen(&lower).len(), fake.seen(&upper).len()), (1, 2));
}

#[tokio::test]
async fn pinned_images_say_so() {
    let fake = Fake::start().await;
    fake.put_image("pause", "3.10", &layers());
    let node = Node::with(|settings| settings.pinned = vec!["*/pause:3.10".into()]);
    assert!(
        node.pull(&format!("{}/pause:3.10", fake.address))
            .await
            .unwrap()
            .pinned
    );
}

/// Not a test: what the next one runs as a process of its own, and kills.
#[tokio::test]
async fn child_that_pulls() {
    let (Ok(root), Ok(reference)) = (
        std::env::var("SKIFF_TEST_ROOT"),
        std::env::var("SKIFF_TEST_IMAGE"),
    ) else {
        return;
    };
    let root = Path::new(&root);
    let store = Store::open(root, settings(root)).unwrap();
    store
        .pull(PullRequest {
            reference,
            auth: None,
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_killed_at_any_request_leaves_no_half_layer() {
    let (fake, node) = (Fake::start().await, Node::new());
    let layers = [
        archive(&[("a", &noise(300_000))]),
        archive(&[("b", &noise(200_000))]),
    ];
    let served = fake.put_image("a", "v1", &layers);
    let reference = format!("{}/a:v1", fake.address);
    let (blob, whole) = (served.layers[0].to_string(), served.blobs[0].len());
    for cut in [0, 1, 600, whole / 2, whole - 1] {
        // The rest never comes, so that is where the child is killed.
        fake.fault(&blob, 1, Fault::Cut(cut));
        fake.fault(&blob, 1, Fault::Hang);
        let before = fake.seen(&blob).len();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_pulls"])
            .env("SKIFF_TEST_ROOT", node.root.path())
            .env("SKIFF_TEST_IMAGE", &reference)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while fake.seen(&blob).len() < before + 2 {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the child ended on its own"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let fresh = Store::open(node.root.path(), settings(node.root.path())).unwrap();
        assert!(fresh.images().is_empty(), "cut at {cut}");
        assert_eq!(fresh.usage().bytes, 0);
        drop(fresh);
        node.assert_nothing_left().await;
    }
    let node = node.reopen();
    let image = node.pull(&reference).await.unwrap();
    assert_eq!(
        node.store.read_file(&image, "a", 1 << 20).unwrap().unwrap(),
        noise(300_000)
    );
}
