//! A CRI client over a unix socket, and the requests the drivers send.

use std::time::Duration;

use skiff_cri::v1::image_service_client::ImageServiceClient;
use skiff_cri::v1::runtime_service_client::RuntimeServiceClient;
use skiff_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ImageSpec, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PullImageRequest, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The image that every test uses unless it needs another.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

/// Requests and answers as large as a kubelet allows: 16 MiB.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Both services of one runtime. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Cri {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub image: ImageServiceClient<Channel>,
    /// Handler of the pods that are run; empty for the default.
    pub handler: String,
}

impl Cri {
    /// Connects to `endpoint`, for example `unix:///run/skiff/skiff.sock`.
    pub async fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(Duration::from_secs(5))
            .connect()
            .await?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_LIMIT),
            image: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT),
            handler: String::new(),
        })
    }

    /// PullImage without credentials. Returns the image's id.
    pub async fn pull(&mut self, image: &str) -> Result<String, Status> {
        let request = PullImageRequest {
            image: Some(image_spec(image)),
            ..Default::default()
        };
        Ok(self.image.pull_image(request).await?.into_inner().image_ref)
    }

    /// RunPodSandbox, in a log directory made first, as a kubelet does.
    pub async fn run_pod(&mut self, config: &PodSandboxConfig) -> Result<String, Status> {
        if !config.log_directory.is_empty() {
            std::fs::create_dir_all(&config.log_directory)?;
        }
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.clone(),
        };
        Ok(self
            .runtime
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// CreateContainer.
    pub async fn create(
        &mut self,
        pod: &str,
        config: &ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        Ok(self
            .runtime
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    /// StartContainer.
    pub async fn start(&mut self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime.start_container(request).await.map(drop)
    }

    /// ExecSync; `timeout` in seconds, 0 for none.
    pub async fn exec(
        &mut self,
        id: &str,
        command: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(ToString::to_string).collect();
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd,
            timeout,
        };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    /// ContainerStatus.
    pub async fn status(&mut self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let response = self.runtime.container_status(request).await?.into_inner();
        response
            .status
            .ok_or_else(|| Status::internal(format!("container {id}: an answer without a status")))
    }

    /// StopContainer; `grace` in seconds.
    pub async fn stop(&mut self, id: &str, grace: i64) -> Result<(), Status> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace,
        };
        self.runtime.stop_container(request).await.map(drop)
    }

    /// RemoveContainer.
    pub async fn remove(&mut self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime.remove_container(request).await.map(drop)
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime.stop_pod_sandbox(request).await.map(drop)
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime.remove_pod_sandbox(request).await.map(drop)
    }

    /// StopPodSandbox and RemovePodSandbox.
    pub async fn discard_pod(&mut self, id: &str) -> Result<(), Status> {
        self.stop_pod(id).await?;
        self.remove_pod(id).await
    }
}

/// An image by reference or id.
pub fn image_spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

/// A pod of the given name with its own network, logging to `/var/log/pods/<name>`.
pub fn pod(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: format!("/var/log/pods/{name}"),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

/// The same pod in the host's network.
pub fn on_host_network(mut config: PodSandboxConfig) -> PodSandboxConfig {
    let options = NamespaceOption {
        network: NamespaceMode::Node.into(),
        ..Default::default()
    };
    config.hostname.clear();
    config.linux.get_or_insert_default().security_context = Some(LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..Default::default()
    });
    config
}

/// A busybox container that runs `command` and logs to `<name>.log`, in the namespaces of `pod`.
pub fn container(name: &str, command: &[&str], pod: &PodSandboxConfig) -> ContainerConfig {
    let namespace_options = pod
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|context| context.namespace_options.clone())
        .unwrap_or_default();
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(image_spec(BUSYBOX)),
        command: command.iter().map(ToString::to_string).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                // a container's own PID namespace, as the kubelet asks for by default
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..namespace_options
                }),
                no_new_privs: true,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Half a CPU and 128 MiB.
pub fn limits() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 128 << 20,
        ..Default::default()
    }
}
