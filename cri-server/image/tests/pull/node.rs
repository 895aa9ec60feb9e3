//! A node's image store, and what tests put into images.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skiff_image::{Auth, Image, PullError, PullRequest, Settings, Store};
use tempfile::TempDir;

use crate::fake::archive;

/// What a store has on disk.
pub(crate) const DIRS: [&str; 5] = ["tmp", "layers", "aside", "records", "trash"];

/// A store in a directory of its own.
pub(crate) struct Node {
    pub(crate) root: TempDir,
    pub(crate) store: Arc<Store>,
}

pub(crate) fn settings(root: &Path) -> Settings {
    Settings {
        certs_dir: root.join("certs.d"),
        progress_timeout: Duration::from_secs(20),
        retry_backoff: Duration::from_millis(1),
        max_retry_after: Duration::from_millis(10),
        ..Settings::default()
    }
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut settings = settings(root.path());
        adjust(&mut settings);
        let store = Store::open(root.path(), settings).unwrap();
        Self { root, store }
    }

    /// The same after a restart.
    pub(crate) fn reopen(self) -> Self {
        drop(self.store);
        let store = Store::open(self.root.path(), settings(self.root.path())).unwrap();
        Self {
            root: self.root,
            store,
        }
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<Arc<Image>, PullError> {
        self.pull_as(reference, None).await
    }

    pub(crate) async fn pull_as(
        &self,
        reference: &str,
        auth: Option<Auth>,
    ) -> Result<Arc<Image>, PullError> {
        self.store
            .pull(PullRequest {
                reference: reference.into(),
                auth,
                policy: None,
            })
            .await
    }

    pub(crate) fn hosts(&self, registry: &str, toml: &str) {
        let dir = self.root.path().join("certs.d").join(registry);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), toml).unwrap();
    }

    pub(crate) fn entries(&self, dir: &str) -> usize {
        std::fs::read_dir(self.root.path().join("images").join(dir))
            .unwrap()
            .count()
    }

    /// Waits for threads that work on their own.
    pub(crate) async fn eventually(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left: {:?}", DIRS.map(|dir| self.entries(dir)));
    }

    /// Waits until nothing of a failed or cancelled pull is left.
    pub(crate) async fn assert_nothing_left(&self) {
        self.eventually(|node| DIRS.iter().all(|dir| node.entries(dir) == 0))
            .await;
    }

    pub(crate) fn read(&self, image: &Image, path: &str) -> Option<String> {
        let content = self.store.read_file(image, path, 1 << 20).unwrap();
        content.map(|content| String::from_utf8(content).unwrap())
    }
}

pub(crate) fn layers() -> Vec<Vec<u8>> {
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

pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
