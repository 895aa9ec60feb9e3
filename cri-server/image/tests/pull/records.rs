//! Records that are torn, that cannot be read, or that a newer skiff wrote, while containers run.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use skiff_image::Image;

use crate::fake::Fake;
use crate::node::{Node, layers};

/// The files of an image as a container that runs on them sees them, wherever they are moved.
struct Running(Vec<File>);

impl Running {
    fn on(image: &Image) -> Self {
        Self(
            image
                .layers
                .iter()
                .map(|dir| File::open(dir).unwrap())
                .collect(),
        )
    }

    fn can_work(&self) -> bool {
        let has = |dir: &File| {
            let dir = format!("/proc/self/fd/{}", dir.as_raw_fd());
            fs::read_dir(dir).unwrap().next().is_some()
        };
        self.0.iter().all(has)
    }
}

/// How a record is spoilt.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spoilt {
    Torn,
    /// As by a failing disk, also for root.
    Unreadable,
    Newer,
}

impl Spoilt {
    fn spoil(self, record: &Path) {
        fs::rename(record, record.with_extension("kept")).unwrap();
        match self {
            Self::Torn => fs::write(record, "{").unwrap(),
            Self::Unreadable => fs::create_dir(record).unwrap(),
            Self::Newer => fs::write(record, r#"{"version":99,"shape":"unknown"}"#).unwrap(),
        }
    }

    fn mend(self, record: &Path) {
        if self == Self::Unreadable {
            fs::remove_dir(record).unwrap();
        }
        fs::rename(record.with_extension("kept"), record).unwrap();
    }
}

struct Scene {
    _fake: Fake,
    node: Node,
    reference: String,
    image: std::sync::Arc<Image>,
    running: Running,
}

impl Scene {
    async fn new() -> Self {
        let (fake, node) = (Fake::start().await, Node::new());
        fake.put_image("a", "v1", &layers());
        let reference = format!("{}/a:v1", fake.address);
        let image = node.pull(&reference).await.unwrap();
        Self {
            running: Running::on(&image),
            _fake: fake,
            node,
            reference,
            image,
        }
    }

    /// A restart after which the record of this name cannot be used, with one container on the
    /// image.
    fn restart(mut self, spoilt: Spoilt, record: &Path) -> Self {
        spoilt.spoil(record);
        self.node = self.node.reopen();
        self.restore();
        self
    }

    fn restore(&self) {
        self.node
            .store
            .restore_holds([("c1".to_owned(), self.image.id)]);
    }

    fn image_record(&self) -> PathBuf {
        let records = self.node.root.path().join("images/records");
        records.join(self.image.id.hex()).join("image.json")
    }

    fn layer_record(&self) -> PathBuf {
        self.image.layers[0].parent().unwrap().join("layer.json")
    }

    /// Everything asked of the store so far is done.
    async fn settle(&self) {
        self.node.store.remove("no such image").await.unwrap();
        let other = self.node.store.image("sha256:0");
        assert!(other.is_none());
        self.node.pull(&self.reference).await.unwrap();
    }
}

#[tokio::test]
async fn a_container_runs_on_when_a_record_is_spoilt() {
    for spoilt in [Spoilt::Torn, Spoilt::Unreadable, Spoilt::Newer] {
        for of_layer in [false, true] {
            let scene = Scene::new().await;
            let record = if of_layer {
                scene.layer_record()
            } else {
                scene.image_record()
            };
            let scene = scene.restart(spoilt, &record);
            assert!(
                scene.node.store.images().is_empty(),
                "{spoilt:?}: it is not listed"
            );
            assert!(scene.running.can_work(), "{spoilt:?} layer: {of_layer}");
            // It can be pulled again, beside what the container runs on.
            scene.settle().await;
            assert!(scene.node.store.image(&scene.reference).is_some());
            assert!(scene.running.can_work(), "{spoilt:?} layer: {of_layer}");
            // And is forgotten once the container is.
            scene.node.store.release("c1");
            scene.node.store.remove(&scene.reference).await.unwrap();
            let node = scene.node.reopen();
            node.store.restore_holds([]);
            node.assert_nothing_left().await;
        }
    }
}

#[tokio::test]
async fn a_record_that_can_be_read_again_brings_its_image_back() {
    for spoilt in [Spoilt::Unreadable, Spoilt::Newer] {
        for of_layer in [false, true] {
            let scene = Scene::new().await;
            let record = if of_layer {
                scene.layer_record()
            } else {
                scene.image_record()
            };
            let mut scene = scene.restart(spoilt, &record);
            // Even when nobody says to need it.
            scene.node.store.release("c1");
            scene.node.store.remove("no such image").await.unwrap();
            spoilt.mend(&record);
            scene.node = scene.node.reopen();
            let again = scene.node.store.image(&scene.reference).unwrap();
            assert_eq!(again.layers, scene.image.layers, "{spoilt:?}");
            assert_eq!(scene.node.read(&again, "bin/sh").unwrap(), "#");
        }
    }
}

#[tokio::test]
async fn what_was_put_aside_waits_over_restarts_for_its_container() {
    let scene = Scene::new().await;
    let record = scene.layer_record();
    let mut scene = scene.restart(Spoilt::Torn, &record);
    // The image is pulled again and whole at the next start, but the container is an older one.
    scene.settle().await;
    scene.node = scene.node.reopen();
    scene.restore();
    scene.node.store.remove("no such image").await.unwrap();
    // The torn layer, and the other one, which no image named any more.
    assert_eq!(scene.node.entries("aside"), 2);
    assert!(scene.running.can_work());
    scene.node.store.release("c1");
    scene
        .node
        .eventually(|node| node.entries("aside") == 0)
        .await;
    assert!(scene.node.store.image(&scene.reference).is_some());
}

#[tokio::test]
async fn nothing_is_deleted_before_the_containers_are_known() {
    let scene = Scene::new().await;
    Spoilt::Torn.spoil(&scene.image_record());
    let node = scene.node.reopen();
    node.store.remove("no such image").await.unwrap();
    assert_eq!(node.entries("aside"), 2);
    assert!(scene.running.can_work());
    node.store.restore_holds([]);
    node.assert_nothing_left().await;
}
