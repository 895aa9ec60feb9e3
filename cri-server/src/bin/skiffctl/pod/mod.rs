//! `skiffctl pod`: pods without a kubelet.

mod follow;
mod logs;
mod ls;
mod rm;
mod run;
mod stop;

use std::process::ExitCode;

use anyhow::bail;
use skiff_cri::v1::{ListPodSandboxRequest, PodSandbox};

use crate::Options;
use crate::client::{Client, connect, refusal};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new pod, print its output and exit with its code
    Run(run::Args),
    /// List pods and their containers
    Ls,
    /// Stop pods
    Stop(Ids),
    /// Stop and remove pods
    Rm(Ids),
}

/// Pods, by id.
#[derive(Debug, clap::Args)]
pub(crate) struct Ids {
    /// Pod ids, or beginnings of them that fit one pod each
    #[arg(required = true, value_name = "POD")]
    ids: Vec<String>,
}

/// Runs a subcommand.
pub(crate) async fn run(options: &Options, command: Command) -> anyhow::Result<ExitCode> {
    let config = options.load()?;
    let client = connect(&config.listen).await?;
    match command {
        Command::Run(args) => run::run(client, args).await,
        Command::Ls => ls::run(client).await,
        Command::Stop(ids) => stop::run(client, &ids.ids).await,
        Command::Rm(ids) => rm::run(client, &ids.ids).await,
    }
}

/// The pods that each of `beginnings` names.
async fn resolve(client: &mut Client, beginnings: &[String]) -> anyhow::Result<Vec<PodSandbox>> {
    let answer = client
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await;
    let pods = answer.map_err(refusal)?.into_inner().items()?;
    beginnings
        .iter()
        .map(|beginning| one(&pods, beginning))
        .collect()
}

fn one(pods: &[PodSandbox], beginning: &str) -> anyhow::Result<PodSandbox> {
    let mut fitting = pods.iter().filter(|pod| pod.id.starts_with(beginning));
    match (fitting.next(), fitting.next()) {
        (Some(pod), None) => Ok(pod.clone()),
        (Some(_), Some(_)) => bail!("more than one pod begins with {beginning:?}"),
        (None, _) => bail!("no pod begins with {beginning:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_must_fit_one_pod() {
        let pod = |id: &str| PodSandbox {
            id: id.into(),
            ..Default::default()
        };
        let pods = [pod("abc"), pod("abd"), pod("b")];
        assert_eq!(one(&pods, "abc").unwrap().id, "abc");
        assert_eq!(one(&pods, "b").unwrap().id, "b");
        assert!(one(&pods, "ab").is_err());
        assert!(one(&pods, "c").is_err());
    }
}
