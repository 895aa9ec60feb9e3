//! A node without root: a daemon whose shims and images are made up, and whose kernel is a
//! directory.

#![allow(dead_code, reason = "each test binary uses its part")]

mod shim;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use skiff_config::Config;
use skiff_cri::v1 as cri;
use skiff_cri::v1::runtime_service_server::RuntimeService;
use skiff_cri_server::container::image::Images;
use skiff_cri_server::daemon::Daemon;
use skiff_cri_server::grpc::Runtime;
use skiff_cri_server::host::Host;
use skiff_cri_server::layout::Layout;
use skiff_cri_server::record::RecordError;
use skiff_cri_server::recover;
use skiff_image::{Digest, Image, ImageConfig, PullError, Reference, Snapshot, StoreError, Usage};
use tonic::{Request, Status};

pub(crate) use shim::Shims;

/// The name of the one image there is.
pub(crate) const IMAGE: &str = "registry.example/busybox:1";

/// A node: what stays when the daemon is killed.
pub(crate) struct Node {
    dir: Arc<tempfile::TempDir>,
    /// What the names of its own directories end with.
    suffix: &'static str,
    /// Where its daemons send traces.
    pub(crate) tracing: skiff_config::Tracing,
    pub(crate) shims: Shims,
    pub(crate) images: Arc<FakeImages>,
}

/// A daemon on a node, with a runtime of its own, so that dropping it is a `kill -9`.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    pub(crate) service: Runtime,
    pub(crate) daemon: Arc<Daemon>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), "")
    }

    /// Another skiff on the same host, with its own directories `root2` and `state2`.
    pub(crate) fn neighbour(&self) -> Self {
        Self::on(Arc::clone(&self.dir), "2")
    }

    fn on(dir: Arc<tempfile::TempDir>, suffix: &'static str) -> Self {
        let images = Arc::new(FakeImages {
            root: dir.path().into(),
            held: Mutex::default(),
        });
        Self {
            tracing: <_>::default(),
            shims: Shims::default(),
            images,
            dir,
            suffix,
        }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A CNI network whose only plugin is this shell script.
    pub(crate) fn network(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let (conf, bin) = (self.path("net.d"), self.path("cni-bin"));
        std::fs::create_dir_all(&conf).unwrap();
        std::fs::create_dir_all(&bin).unwrap();
        let plugin = bin.join("scripted");
        std::fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        let conflist = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"scripted"}]}"#;
        std::fs::write(conf.join("10.conflist"), conflist).unwrap();
    }

    pub(crate) fn start(&self) -> Running {
        self.start_in_boot("this boot")
    }

    pub(crate) fn start_in_boot(&self, boot: &str) -> Running {
        self.try_start(boot, || {}).unwrap()
    }

    /// Starts a daemon; `before` is done right before it looks for what an earlier one left.
    pub(crate) fn try_start(
        &self,
        boot: &str,
        before: impl FnOnce(),
    ) -> Result<Running, RecordError> {
        let (root, state) = (
            format!("root{}", self.suffix),
            format!("state{}", self.suffix),
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.unwrap();
        let daemon = runtime.block_on(async {
            let mut config = Config {
                root: self.path(&root),
                state: self.path(&state),
                cgroup_driver: skiff_config::CgroupDriver::Cgroupfs,
                tracing: self.tracing.clone(),
                ..Config::default()
            };
            config.network.conf_dir = self.path("net.d");
            config.network.bin_dirs = vec![self.path("cni-bin")];
            config.runtime.spare_shims = 1;
            let mut layout = Layout::new(config.root.clone(), config.state.clone());
            layout.netns = self.path("netns");
            layout.make().unwrap();
            std::fs::create_dir_all(self.path("cgroup")).unwrap();
            let images: Arc<dyn Images> = self.images.clone();
            let shims = Arc::new(self.shims.clone());
            let mut daemon = Daemon::new(config, layout, &Host::probe(), images, shims).unwrap();
            daemon.cgroup_root = self.path("cgroup");
            daemon.boot_id = boot.into();
            Arc::new(daemon)
        });
        let store = skiff_image::Store::open(&self.path(&root), <_>::default()).unwrap();
        before();
        runtime.block_on(recover::run(&daemon, &store))?;
        Ok(Running {
            runtime,
            service: Runtime::new(daemon.clone()),
            daemon,
        })
    }

    /// Names of everything in the state directories, spares and locks left out.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for dir in [
            "root/state/pods",
            "root/state/containers",
            "root/pods",
            "root/cni",
            "netns",
            "fake-snapshots",
        ] {
            for entry in std::fs::read_dir(self.path(dir))
                .into_iter()
                .flatten()
                .flatten()
            {
                left.push(format!("{dir}/{}", entry.file_name().to_string_lossy()));
            }
        }
        left.extend(
            self.images
                .held
                .lock()
                .unwrap()
                .iter()
                .map(|id| format!("held by {id}")),
        );
        left
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shims.end();
    }
}

impl Running {
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Ends it at once, wherever its tasks are.
    pub(crate) fn kill(self) {
        // Returns when no task of it is left to see what happens next.
        self.runtime
            .shutdown_timeout(std::time::Duration::from_secs(10));
    }

    pub(crate) fn run_pod(&self, config: &cri::PodSandboxConfig) -> Result<String, Status> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let answer = self.block_on(self.service.run_pod_sandbox(Request::new(request)))?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    pub(crate) fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        self.block_on(self.service.stop_pod_sandbox(Request::new(request)))
            .map(drop)
    }

    pub(crate) fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        self.block_on(self.service.remove_pod_sandbox(Request::new(request)))
            .map(drop)
    }

    pub(crate) fn pod_status(&self, id: &str) -> Result<cri::PodSandboxStatus, Status> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: true,
        };
        let answer = self.block_on(self.service.pod_sandbox_status(Request::new(request)))?;
        Ok(answer.into_inner().status.unwrap())
    }

    /// What the verbose status of a pod says besides its status.
    pub(crate) fn pod_info(&self, id: &str) -> serde_json::Value {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: true,
        };
        let answer = self.block_on(self.service.pod_sandbox_status(Request::new(request)));
        serde_json::from_str(&answer.unwrap().into_inner().info["info"]).unwrap()
    }

    pub(crate) fn pods(&self) -> Vec<String> {
        let request = Request::new(cri::ListPodSandboxRequest::default());
        let answer = self
            .block_on(self.service.list_pod_sandbox(request))
            .unwrap();
        answer
            .into_inner()
            .items()
            .unwrap()
            .into_iter()
            .map(|pod| pod.id)
            .collect()
    }

    pub(crate) fn create(
        &self,
        pod: &str,
        config: &cri::ContainerConfig,
    ) -> Result<String, Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config.clone()),
            sandbox_config: None,
        };
        let answer = self.block_on(self.service.create_container(Request::new(request)))?;
        Ok(answer.into_inner().container_id)
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), Status> {
        let request = cri::StartContainerRequest {
            container_id: id.into(),
        };
        self.block_on(self.service.start_container(Request::new(request)))
            .map(drop)
    }

    pub(crate) fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = cri::StopContainerRequest {
            container_id: id.into(),
            timeout,
        };
        self.block_on(self.service.stop_container(Request::new(request)))
            .map(drop)
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), Status> {
        let request = cri::RemoveContainerRequest {
            container_id: id.into(),
        };
        self.block_on(self.service.remove_container(Request::new(request)))
            .map(drop)
    }

    pub(crate) fn status(&self, id: &str) -> Result<cri::ContainerStatus, Status> {
        let request = cri::ContainerStatusRequest {
            container_id: id.into(),
            verbose: true,
        };
        let answer = self.block_on(self.service.container_status(Request::new(request)))?;
        Ok(answer.into_inner().status.unwrap())
    }

    pub(crate) fn exec(
        &self,
        id: &str,
        cmd: &[&str],
        timeout: i64,
    ) -> Result<cri::ExecSyncResponse, Status> {
        let cmd = cmd.iter().map(ToString::to_string).collect();
        let request = cri::ExecSyncRequest {
            container_id: id.into(),
            cmd,
            timeout,
        };
        Ok(self
            .block_on(self.service.exec_sync(Request::new(request)))?
            .into_inner())
    }

    /// Waits until a container's status is as wanted; a test that hangs here has failed.
    /// Waits for something that is going to be so.
    pub(crate) fn wait_until(&self, wanted: impl Fn() -> bool) {
        for _ in 0..2000 {
            if wanted() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("it did not come to that; pods: {:?}", self.pods());
    }

    pub(crate) fn wait_for(&self, id: &str, wanted: cri::ContainerState) -> cri::ContainerStatus {
        for _ in 0..2000 {
            let status = self.status(id).unwrap();
            if status.state() == wanted {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!(
            "{id} is {:?}, not {wanted:?}",
            self.status(id).unwrap().state()
        );
    }
}

/// A pod in the host's network.
pub(crate) fn host_pod(name: &str) -> cri::PodSandboxConfig {
    let mut config = pod(name);
    let options = cri::NamespaceOption {
        network: cri::NamespaceMode::Node.into(),
        pid: cri::NamespaceMode::Container.into(),
        ..<_>::default()
    };
    let context = cri::LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..<_>::default()
    };
    let linux = cri::LinuxPodSandboxConfig {
        security_context: Some(context),
        ..<_>::default()
    };
    config.linux = Some(linux);
    config
}

/// A pod with a network of its own.
pub(crate) fn pod(name: &str) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        labels: BTreeMap::from([("app".into(), name.into())]),
        ..<_>::default()
    }
}

/// A container of the one image there is.
pub(crate) fn container(name: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(cri::ImageSpec {
            image: IMAGE.into(),
            ..<_>::default()
        }),
        command: vec!["sleep".into(), "600".into()],
        ..<_>::default()
    }
}

/// One image, and snapshots that are empty directories.
pub(crate) struct FakeImages {
    root: PathBuf,
    pub(crate) held: Mutex<BTreeSet<String>>,
}

impl Images for FakeImages {
    fn hold(&self, container: &str, name: &str) -> Option<Arc<Image>> {
        let id = Digest::of(b"busybox");
        if name != IMAGE && name != id.to_string() {
            return None;
        }
        self.held.lock().unwrap().insert(container.into());
        Some(Arc::new(Image {
            id,
            repo_tags: vec![IMAGE.into()],
            repo_digests: Vec::new(),
            size: 1,
            config: ImageConfig {
                stop_signal: "SIGUSR1".into(),
                volumes: vec!["/data".into(), "/logs".into()],
                ..<_>::default()
            },
            layers: vec![self.root.join("layer")],
            pinned: false,
            signatures: Vec::new(),
        }))
    }

    fn release(&self, container: &str) {
        let volumes = format!("{container}/");
        let mut held = self.held.lock().unwrap();
        held.retain(|holder| holder != container && !holder.starts_with(&volumes));
    }

    fn find_signatures(
        self: Arc<Self>,
        _: Arc<Image>,
        _: Reference,
    ) -> BoxFuture<'static, Result<Option<Arc<Image>>, PullError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn has_path(&self, _: &Image, path: &str) -> Result<bool, StoreError> {
        Ok(path == "etc")
    }

    fn read_file(&self, _: &Image, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n";
        Ok((path == "etc/passwd").then(|| passwd.into()))
    }

    fn prepare(&self, container: &str, image: &Image) -> Result<Snapshot, StoreError> {
        let base = self.root.join("fake-snapshots").join(container);
        std::fs::create_dir_all(&base).unwrap();
        Ok(Snapshot {
            lower: image.layers.clone(),
            upper: base.join("upper"),
            work: base.join("work"),
        })
    }

    fn written(&self, container: &str) -> Result<Option<Usage>, StoreError> {
        let base = self.root.join("fake-snapshots").join(container);
        Ok(base.is_dir().then_some(Usage {
            bytes: 4096,
            inodes: 1,
        }))
    }

    fn dir(&self) -> &Path {
        &self.root
    }

    fn volume(&self, container: &str, number: usize) -> PathBuf {
        let base = self.root.join("fake-snapshots").join(container);
        base.join(format!("volumes/{number}"))
    }

    fn make_volume(
        &self,
        container: &str,
        number: usize,
        _: &Image,
        path: &Path,
    ) -> Result<(), StoreError> {
        let volume = self.volume(container, number);
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(volume.join("of"), path.to_str().unwrap()).unwrap();
        Ok(())
    }

    fn remove_snapshot(&self, container: &str) -> Result<(), StoreError> {
        let _ = std::fs::remove_dir_all(self.root.join("fake-snapshots").join(container));
        Ok(())
    }
}

/// Asserts that a call failed with a code and names something.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: tonic::Code,
    word: &str,
) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(word), "{status}");
}

/// Names of the entries of a directory.
pub(crate) fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
