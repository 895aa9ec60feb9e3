//! Restarts, removal, cancellation and sudden death.

use std::path::Path;
use std::time::Duration;

use skiff_image::{Digest, PullRequest, Store};

use crate::fake::{Fake, Fault, archive};
use crate::node::{Node, layers, noise, settings};

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
    // Records torn, and without their layers.
    for (name, json) in [
        ("1", "".to_owned()),
        (
            "2",
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
    assert!(!orphan.exists());
    assert_eq!(node.entries("aside"), 1);
    node.store.restore_holds([]);
    node.eventually(|node| node.entries("aside") == 0).await;
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
            policy: None,
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
            .args(["--exact", "life::child_that_pulls"])
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
        fresh.restore_holds([]);
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
