//! Images that arrive as they should, once.

use skiff_image::{Digest, Settings};

use crate::fake::{Fake, INDEX, MANIFEST, architecture, archive, config, gzip, manifest};
use crate::node::{Node, layers, noise};

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
async fn pinned_images_say_so() {
    let fake = Fake::start().await;
    fake.put_image("pause", "3.10", &layers());
    let node = Node::with(|settings| settings.pinned = vec!["*/pause:3.10".into()]);
    let name = format!("{}/pause:3.10", fake.address);
    assert!(node.pull(&name).await.unwrap().pinned);
    let pinned = |node: &Node| node.store.image(&name).unwrap().pinned;
    let pins = |patterns: &[&str]| Settings {
        pinned: patterns.iter().map(ToString::to_string).collect(),
        ..Settings::default()
    };
    node.store.reload(pins(&[])).unwrap();
    node.eventually(|node| !pinned(node)).await;
    node.store.reload(pins(&["*/pause:*"])).unwrap();
    node.eventually(pinned).await;
    node.store.reload(pins(&["a*b"])).unwrap_err();
    assert!(pinned(&node));
}
