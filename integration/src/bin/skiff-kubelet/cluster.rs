//! A cluster of this one node: etcd, API server, scheduler and controllers, as processes beside
//! the kubelet, and kubectl to ask them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::http;
use crate::lab::LIMIT;
use crate::node::LOOK;

/// Where `kubectl proxy` answers without asking who asks.
pub(crate) const PROXY_PORT: u16 = 8001;
/// How everything that is no server finds and is known to the API server.
pub(crate) const KUBECONFIG: &str = "/etc/kubernetes/admin.json";
const DIRECTORY: &str = "/etc/kubernetes";
pub(crate) const ADDRESS: &str = "192.168.77.1";
const START_LIMIT: Duration = Duration::from_secs(180);

/// The processes, which are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    children: Vec<(String, Child)>,
}

impl Cluster {
    /// Starts everything but the kubelet, each logging to its own file in `logs`. Returns once the
    /// API server is ready.
    pub(crate) async fn start(logs: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(DIRECTORY).context("make the cluster's directory")?;
        identities()?;
        let mut cluster = Self {
            children: Vec::new(),
        };
        cluster.spawn(
            logs,
            "etcd",
            &[
                "--data-dir=/var/lib/etcd",
                "--unsafe-no-fsync",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
            ],
        )?;
        cluster
            .answers("etcd", || http::get(2379, "/health"))
            .await?;
        let advertise = format!("--advertise-address={ADDRESS}");
        cluster.spawn(
            logs,
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--cert-dir=/run/kube-apiserver",
                "--token-auth-file=/etc/kubernetes/tokens.csv",
                "--authorization-mode=AlwaysAllow",
                "--service-account-key-file=/etc/kubernetes/accounts.key",
                "--service-account-signing-key-file=/etc/kubernetes/accounts.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--allow-privileged",
                "--enable-priority-and-fairness=false",
                // nothing on the node answers for a service's address
                "--enable-aggregator-routing",
                &advertise,
            ],
        )?;
        cluster.spawn(
            logs,
            "kubectl",
            &["proxy", "--kubeconfig", KUBECONFIG, "--disable-filter"],
        )?;
        cluster
            .answers("the API server", || http::get(PROXY_PORT, "/readyz"))
            .await?;
        cluster.spawn(
            logs,
            "kube-controller-manager",
            &[
                "--kubeconfig",
                KUBECONFIG,
                "--leader-elect=false",
                "--use-service-account-credentials=false",
                "--service-account-private-key-file=/etc/kubernetes/accounts.key",
                "--root-ca-file=/run/kube-apiserver/apiserver.crt",
            ],
        )?;
        cluster.spawn(
            logs,
            "kube-scheduler",
            &["--kubeconfig", KUBECONFIG, "--leader-elect=false"],
        )?;
        cluster.spawn(logs, "metrics-server", &["--kubeconfig", KUBECONFIG])?;
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        cluster
            .answers("the default account", || http::get(PROXY_PORT, account))
            .await?;
        Ok(cluster)
    }

    fn spawn(&mut self, logs: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let path = logs.join(format!("{program}.log"));
        let log = File::create(&path).with_context(|| format!("create {path:?}"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        self.children.push((program.to_owned(), child));
        Ok(())
    }

    /// Waits until something answers, and all that was started still runs.
    async fn answers<F>(&mut self, what: &str, ask: impl Fn() -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<String>>,
    {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let Err(refusal) = ask().await else {
                return Ok(());
            };
            for (program, child) in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("{program} ended with {status}, see {program}.log");
                }
            }
            if Instant::now() > deadline {
                return Err(refusal.context(format!("{what} does not answer")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            // already ended: nothing to do, and nobody to tell
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One administrator with a token, and the key that service accounts are signed with.
fn identities() -> anyhow::Result<()> {
    let token = "administrator";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
        "current-context": "lab",
    });
    fs::write(KUBECONFIG, config.to_string()).context("write the kubeconfig")?;
    let line = format!("{token},admin,admin,system:masters\n");
    fs::write(format!("{DIRECTORY}/tokens.csv"), line).context("write the tokens")?;
    let key = Command::new("openssl")
        .args(["genrsa", "-out", "/etc/kubernetes/accounts.key", "2048"])
        .output()
        .context("start openssl")?;
    ensure!(
        key.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&key.stderr)
    );
    Ok(())
}

/// What `kubectl ARGUMENT...` prints; a failure is an error with what it complains about.
pub(crate) async fn kubectl<S: AsRef<OsStr>>(arguments: &[S]) -> anyhow::Result<String> {
    kubectl_with(arguments, "").await
}

/// The same with something to read.
pub(crate) async fn kubectl_with<S: AsRef<OsStr>>(
    arguments: &[S],
    input: &str,
) -> anyhow::Result<String> {
    use tokio::io::AsyncWriteExt;
    let shown = arguments
        .iter()
        .map(|one| one.as_ref().to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = tokio::process::Command::new("kubectl")
        .args(["--kubeconfig", KUBECONFIG])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start kubectl")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = ended.with_context(|| format!("kubectl {shown}: not over within {LIMIT:?}"))??;
    ensure!(
        output.status.success(),
        "kubectl {shown}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks kubectl until what it prints passes; a busy API server may refuse some of the times.
pub(crate) async fn kubectl_until(
    arguments: &[&str],
    test: impl Fn(&str) -> bool,
) -> anyhow::Result<String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = kubectl(arguments).await;
        match said {
            Ok(said) if test(&said) => return Ok(said),
            said if Instant::now() > deadline => {
                bail!("kubectl {arguments:?}: after {LIMIT:?} still {said:?}")
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The API's path of a pod in the namespace `default`.
pub(crate) fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

/// Makes an object of the API.
pub(crate) async fn create(collection: &str, object: &Value) -> anyhow::Result<Value> {
    let answer = http::ask(PROXY_PORT, "POST", collection, &object.to_string()).await?;
    Ok(serde_json::from_str(&answer)?)
}
