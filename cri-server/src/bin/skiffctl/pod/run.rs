//! `skiffctl pod run`

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use skiff_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ImageSpec, ImageStatusRequest, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PullImageRequest,
    RunPodSandboxRequest, StartContainerRequest,
};

use skiff_cri_server::telemetry::chain;
use skiff_spec::{MASKED_PATHS, READONLY_PATHS};

use super::follow::Follow;
use super::{logs, rm};
use crate::client::{Client, refusal};

/// The log file of the container in the pod's log directory.
const LOG: &str = "main.log";
/// How often the container is asked whether it has ended.
const POLL: Duration = Duration::from_millis(50);
/// Exit code after an interrupt: 128 and SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the pod [default: a new one]
    #[arg(long)]
    name: Option<String>,
    /// Use the host's network instead of CNI
    #[arg(long)]
    host_network: bool,
    /// Print the pod's id and leave it running
    #[arg(long, conflicts_with = "keep")]
    detach: bool,
    /// Keep the pod when its command has ended
    #[arg(long)]
    keep: bool,
    /// Image reference; pulled when it is not there
    image: String,
    /// Command and arguments [default: the image's own]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs a pod of one container.
pub(crate) async fn run(mut client: Client, args: Args) -> anyhow::Result<ExitCode> {
    let image = image(&mut client, &args.image).await?;
    let pod_config = pod_config(&args)?;
    let directory = PathBuf::from(&pod_config.log_directory);
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let request = RunPodSandboxRequest {
        config: Some(pod_config.clone()),
        runtime_handler: String::new(),
    };
    let pod = client
        .runtime
        .run_pod_sandbox(request)
        .await
        .map_err(refusal);
    let pod = match pod {
        Ok(pod) => pod.into_inner().pod_sandbox_id,
        Err(e) => {
            logs::remove(&directory)?;
            return Err(e.context("run the pod"));
        }
    };
    let outcome = match launch(&mut client, &pod, pod_config, image, &args).await {
        Ok(None) => {
            println!("{pod}");
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Some(code)) => Ok(code),
        Err(e) => Err(e),
    };
    if args.keep {
        eprintln!("skiffctl: pod {pod} is kept");
        return outcome;
    }
    let removed = rm::remove(&mut client, &pod)
        .await
        .with_context(|| format!("remove pod {pod}"));
    let outcome = outcome?;
    removed?;
    logs::remove(&directory)?;
    Ok(outcome)
}

/// Runs the container in its pod, and returns its exit code; `None` when it is left running.
async fn launch(
    client: &mut Client,
    pod: &str,
    pod_config: PodSandboxConfig,
    image: String,
    args: &Args,
) -> anyhow::Result<Option<ExitCode>> {
    let log = Path::new(&pod_config.log_directory).join(LOG);
    let container = create(client, pod, pod_config, image, args).await?;
    if args.detach {
        start(client, &container).await?;
        return Ok(None);
    }
    run_to_the_end(client, &container, &log).await.map(Some)
}

/// The id of the image, pulled when it is not there.
async fn image(client: &mut Client, name: &str) -> anyhow::Result<String> {
    let spec = || {
        Some(ImageSpec {
            image: name.to_owned(),
            ..Default::default()
        })
    };
    let request = ImageStatusRequest {
        image: spec(),
        verbose: false,
    };
    let status = client
        .images
        .image_status(request)
        .await
        .map_err(refusal)?
        .into_inner();
    if let Some(image) = status.image {
        return Ok(image.id);
    }
    eprintln!("skiffctl: pull {name}");
    let request = PullImageRequest {
        image: spec(),
        ..Default::default()
    };
    let pulled = client.images.pull_image(request).await.map_err(refusal);
    Ok(pulled
        .with_context(|| format!("pull {name}"))?
        .into_inner()
        .image_ref)
}

fn namespaces(args: &Args) -> Option<NamespaceOption> {
    let network = if args.host_network {
        NamespaceMode::Node
    } else {
        NamespaceMode::Pod
    };
    let pid = NamespaceMode::Container as i32;
    Some(NamespaceOption {
        network: network as i32,
        pid,
        ..Default::default()
    })
}

fn pod_config(args: &Args) -> anyhow::Result<PodSandboxConfig> {
    let uid = format!("{:016x}", getrandom::u64().context("draw a pod uid")?);
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| format!("pod-{}", &uid[..8]));
    Ok(PodSandboxConfig {
        log_directory: logs::directory(&name, &uid)?.display().to_string(),
        hostname: if args.host_network {
            String::new()
        } else {
            name.clone()
        },
        metadata: Some(PodSandboxMetadata {
            name,
            uid,
            namespace: logs::NAMESPACE.into(),
            attempt: 0,
        }),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: namespaces(args),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

async fn create(
    client: &mut Client,
    pod: &str,
    pod_config: PodSandboxConfig,
    image: String,
    args: &Args,
) -> anyhow::Result<String> {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image,
            user_specified_image: args.image.clone(),
            ..Default::default()
        }),
        command: args.command.clone(),
        log_path: LOG.into(),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: namespaces(args),
                masked_paths: MASKED_PATHS.map(str::to_owned).into(),
                readonly_paths: READONLY_PATHS.map(str::to_owned).into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config),
        sandbox_config: Some(pod_config),
    };
    let created = client
        .runtime
        .create_container(request)
        .await
        .map_err(refusal);
    Ok(created
        .context("create the container")?
        .into_inner()
        .container_id)
}

async fn start(client: &mut Client, container: &str) -> anyhow::Result<()> {
    let request = StartContainerRequest {
        container_id: container.to_owned(),
    };
    let started = client
        .runtime
        .start_container(request)
        .await
        .map_err(refusal);
    started.context("start the container")?;
    Ok(())
}

/// Starts the container and stays with it. A command that cannot be executed has an exit code
/// too, as a shell would give it.
async fn run_to_the_end(
    client: &mut Client,
    container: &str,
    log: &Path,
) -> anyhow::Result<ExitCode> {
    let Err(e) = start(client, container).await else {
        return follow_to_the_end(client, container, log).await;
    };
    let status = status(client, container).await?;
    match exit_code(&status) {
        Some(code) if status.exit_code != 0 => {
            eprintln!("skiffctl: {}", chain(e.as_ref()));
            Ok(code)
        }
        _ => Err(e),
    }
}

fn exit_code(status: &ContainerStatus) -> Option<ExitCode> {
    let exited = status.state() == ContainerState::ContainerExited;
    exited.then(|| ExitCode::from(u8::try_from(status.exit_code).unwrap_or(u8::MAX)))
}

/// Prints the container's output until it has ended, and returns its exit code.
async fn follow_to_the_end(
    client: &mut Client,
    container: &str,
    log: &Path,
) -> anyhow::Result<ExitCode> {
    let mut follow = Follow::open(log).with_context(|| format!("open {}", log.display()))?;
    let mut print = || {
        let copied = follow.copy(&mut io::stdout().lock(), &mut io::stderr().lock());
        copied.with_context(|| format!("copy {}", log.display()))
    };
    loop {
        let status = status(client, container).await?;
        print()?;
        if let Some(code) = exit_code(&status) {
            if !status.message.is_empty() {
                eprintln!("skiffctl: {}", status.message);
            }
            return Ok(code);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            interrupt = tokio::signal::ctrl_c() => {
                interrupt.context("wait for an interrupt")?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
}

async fn status(client: &mut Client, container: &str) -> anyhow::Result<ContainerStatus> {
    let request = ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: false,
    };
    let answer = client
        .runtime
        .container_status(request)
        .await
        .map_err(refusal)?;
    Ok(answer.into_inner().status.unwrap_or_default())
}
