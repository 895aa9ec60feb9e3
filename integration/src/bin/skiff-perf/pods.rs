//! The calls of a pod's life.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use skiff_cri::v1::{
    ContainerConfig, IdMapping, ListPodSandboxRequest, NamespaceMode, PodSandboxConfig,
    PodSandboxFilter, SecurityProfile, UserNamespace, security_profile,
};
use skiff_integration::client::{self, BUSYBOX, Cri};
use skiff_integration::figures::Column;

/// Pods of this program, and of this process, carry this label.
const LABEL: &str = "skiff-perf";

/// How pods are made.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shape {
    /// The container's image; pulled first.
    #[arg(long, default_value = BUSYBOX)]
    image: String,
    /// What the container runs.
    #[arg(long, default_value = "sleep 3600", value_delimiter = ' ')]
    command: Vec<String>,
    /// The pods' network.
    #[arg(long, value_enum, default_value = "host")]
    network: Network,
    /// Give the container CPU and memory limits.
    #[arg(long)]
    limits: bool,
    /// Confine the container with the runtime's default seccomp profile.
    #[arg(long)]
    seccomp: bool,
    /// Give every pod a user namespace of 65536 ids; not in the host's network.
    #[arg(long)]
    userns: bool,
    /// The pods' cgroup.
    #[arg(long, default_value = "")]
    cgroup_parent: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Network {
    /// The node's own network: no CNI plugin runs.
    Host,
    /// A network of the pod's own, made by the CNI plugins of the node.
    Cni,
}

/// Options of `pods`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoints: super::Endpoints,
    #[command(flatten)]
    shape: Shape,
    /// How many pods each runtime is asked for.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Beside every pod another one, confined with the default seccomp profile and, with --userns,
    /// in a user namespace: by how much that is slower, in the same run.
    #[arg(long)]
    isolated: bool,
    /// Pause before each pod, in milliseconds.
    #[arg(long, default_value_t = 200)]
    idle_ms: u64,
    /// Write every measurement here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures the runtimes in turn and prints the table. Pods are removed also after an error.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut runtimes = Vec::new();
    for (name, mut cri) in options.endpoints.connect().await? {
        let pull = options.shape.pull(&mut cri).await;
        pull.with_context(|| name.clone())?;
        if options.isolated {
            let plain = Shape {
                seccomp: false,
                userns: false,
                ..options.shape.clone()
            };
            runtimes.push((Column::new(&name), plain, cri.clone()));
            let isolated = Shape {
                seccomp: true,
                ..options.shape.clone()
            };
            let name = format!("{name} isolated");
            runtimes.push((Column::new(&name), isolated, cri));
        } else {
            runtimes.push((Column::new(&name), options.shape.clone(), cri));
        }
    }
    let outcome = rounds(options, &mut runtimes).await;
    for (column, _, cri) in &mut runtimes {
        let removed = discard(cri).await;
        removed.with_context(|| format!("{}: remove what is left", column.name))?;
    }
    outcome?;
    let columns: Vec<Column> = runtimes.into_iter().map(|(column, ..)| column).collect();
    super::report(&columns, options.json.as_ref())
}

async fn rounds(options: &Options, runtimes: &mut [(Column, Shape, Cri)]) -> anyhow::Result<()> {
    for round in 0..=options.pods {
        for (column, shape, cri) in &mut *runtimes {
            tokio::time::sleep(Duration::from_millis(options.idle_ms)).await;
            let (pod, container) = shape.requests(&format!("perf-{round}"));
            life(column, cri, &pod, &container)
                .await
                .with_context(|| format!("{}: pod {round}", column.name))?;
            if round == 0 {
                column.clear();
            }
        }
    }
    Ok(())
}

/// Adds what `call` takes to its row.
async fn timed<T>(
    column: &mut Column,
    call: &str,
    work: impl Future<Output = Result<T, tonic::Status>>,
) -> anyhow::Result<(T, Duration)> {
    let began = Instant::now();
    let value = work.await.with_context(|| call.to_owned())?;
    let took = began.elapsed();
    column.push(call, took);
    Ok((value, took))
}

/// One pod with one container, from nothing to nothing.
async fn life(
    column: &mut Column,
    cri: &mut Cri,
    pod: &PodSandboxConfig,
    container: &ContainerConfig,
) -> anyhow::Result<()> {
    let (pod_id, ran) = timed(column, "RunPodSandbox", cri.run_pod(pod)).await?;
    let create = cri.create(&pod_id, container, pod);
    let (id, created) = timed(column, "CreateContainer", create).await?;
    let ((), started) = timed(column, "StartContainer", cri.start(&id)).await?;
    column.push("= pod start, all three", ran + created + started);
    timed(column, "ContainerStatus", cri.status(&id)).await?;
    let (answer, _) = timed(column, "ExecSync true", cri.exec(&id, &["true"], 10)).await?;
    if answer.exit_code != 0 {
        bail!("ExecSync true: exit code {}", answer.exit_code);
    }
    let ((), stopped) = timed(column, "StopContainer, timeout 0", cri.stop(&id, 0)).await?;
    let ((), removed) = timed(column, "RemoveContainer", cri.remove(&id)).await?;
    column.push("= container end, both", stopped + removed);
    timed(column, "StopPodSandbox", cri.stop_pod(&pod_id)).await?;
    timed(column, "RemovePodSandbox", cri.remove_pod(&pod_id)).await?;
    Ok(())
}

/// Removes every pod of this process.
pub(crate) async fn discard(cri: &mut Cri) -> anyhow::Result<()> {
    let filter = PodSandboxFilter {
        label_selector: [(LABEL.to_owned(), std::process::id().to_string())].into(),
        ..Default::default()
    };
    let request = ListPodSandboxRequest {
        filter: Some(filter),
    };
    let pods = cri.runtime.list_pod_sandbox(request).await?.into_inner();
    for pod in pods.items()? {
        cri.discard_pod(&pod.id).await?;
    }
    Ok(())
}

/// What a kubelet asks for: ids that no other pod has, the same for users and groups.
fn user_namespace() -> UserNamespace {
    let mapping = vec![IdMapping {
        host_id: 1 << 20,
        container_id: 0,
        length: 1 << 16,
    }];
    UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: mapping.clone(),
        gids: mapping,
    }
}

impl Shape {
    /// The requests for a pod of that name and for its container.
    pub(crate) fn requests(&self, name: &str) -> (PodSandboxConfig, ContainerConfig) {
        let mut pod = client::pod(name);
        if matches!(self.network, Network::Host) {
            pod = client::on_host_network(pod);
        }
        let label = std::process::id().to_string();
        pod.labels.insert(LABEL.to_owned(), label);
        let linux = pod.linux.get_or_insert_default();
        // what a kubelet asks for by default; the zero value shares one PID namespace
        let security = linux.security_context.get_or_insert_default();
        let namespaces = security.namespace_options.get_or_insert_default();
        namespaces.pid = NamespaceMode::Container.into();
        if self.userns {
            namespaces.userns_options = Some(user_namespace());
        }
        linux.cgroup_parent.clone_from(&self.cgroup_parent);
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let mut container = client::container("main", &command, &pod);
        container.image = Some(client::image_spec(&self.image));
        let linux = container.linux.get_or_insert_default();
        if self.limits {
            linux.resources = Some(client::limits());
        }
        if self.seccomp {
            linux.security_context.get_or_insert_default().seccomp = Some(SecurityProfile {
                profile_type: security_profile::ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            });
        }
        (pod, container)
    }

    /// Makes the image present.
    pub(crate) async fn pull(&self, cri: &mut Cri) -> anyhow::Result<()> {
        let pull = cri.pull(&self.image).await;
        pull.with_context(|| format!("pull {}", self.image))?;
        Ok(())
    }
}
