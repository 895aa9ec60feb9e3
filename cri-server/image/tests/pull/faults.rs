//! Bad input, bad registries, bad disks.

use std::time::Duration;

use skiff_image::PullError;

use crate::fake::{Fake, Fault, MANIFEST, archive, config, gzip, manifest};
use crate::node::{Node, layers, noise};

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
