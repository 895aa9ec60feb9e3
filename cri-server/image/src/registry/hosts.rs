//! `<certs_dir>/<host>/hosts.toml`: where images of a registry come from, in containerd's format.
//!
//! The file is looked for under `<host>_<port>_`, `<host>:<port>` (one of them for a host without
//! a port) and `_default`, and read at each pull. Its hosts are tried in the file's order, then
//! the server. Without a file the registry itself is the only host. Keys we do not know are
//! refused: a mirror that is silently not what it was meant to be is worse than an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

/// Time to connect to a host that has no `dial_timeout`.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A hosts.toml that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It exists and cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is not TOML of this format.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be meant.
    #[error("{path}: host {host:?}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The host it stands under.
        host: String,
        /// What is wrong.
        reason: String,
    },
}

/// A host to ask.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Everything up to the repository, without a slash at the end: `https://host/v2`.
    pub base: String,
    /// Host and port, for messages.
    pub name: String,
    /// May be asked what a tag stands for.
    pub resolve: bool,
    /// May be asked for content by digest.
    pub pull: bool,
    /// The registry that the image's name means, not a mirror of it.
    pub origin: bool,
    /// Files of certificates to trust besides the system's.
    pub ca: Vec<PathBuf>,
    /// Files of a certificate and its key to present.
    pub client: Vec<PathBuf>,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// To be sent with each request.
    pub headers: Vec<(String, String)>,
    /// Longest time to connect.
    pub dial_timeout: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Table>,
    // The server's own settings stand at the top level.
    capabilities: Option<Vec<Capability>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    capabilities: Option<Vec<Capability>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Capability {
    Pull,
    Resolve,
    Push,
    Referrers,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A file with certificate and key, or the two files.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// The hosts for images of `registry`, in the order to ask them.
pub fn load(certs_dir: &Path, registry: &str) -> Result<Vec<HostConfig>, HostsError> {
    for dir in candidates(registry) {
        let path = certs_dir.join(dir).join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse(&path, &text, registry),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostsError::Read { path, source }),
        }
    }
    parse(&certs_dir.join("hosts.toml"), "", registry)
}

fn candidates(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':')
        && !port.contains(']')
    {
        names.push(format!("{host}_{port}_"));
    }
    names.push(registry.to_owned());
    names.push("_default".to_owned());
    names
}

fn parse(path: &Path, text: &str, registry: &str) -> Result<Vec<HostConfig>, HostsError> {
    let file: File = toml::from_str(text).map_err(|source| HostsError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut tables: Vec<(Spanned<String>, Table)> = file.host.into_iter().collect();
    tables.sort_by_key(|(name, _)| name.span().start);
    let mut hosts = Vec::new();
    for (name, table) in tables {
        let name = name.into_inner();
        hosts.push(
            host(&name, table, registry).map_err(|reason| HostsError::Value {
                path: path.to_owned(),
                host: name.clone(),
                reason,
            })?,
        );
    }
    let server = file.server.unwrap_or_else(|| default_server(registry));
    let table = Table {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        header: file.header,
        override_path: file.override_path,
        dial_timeout: file.dial_timeout,
    };
    let server = host(&server, table, registry).map_err(|reason| HostsError::Value {
        path: path.to_owned(),
        host: server.clone(),
        reason,
    })?;
    if !hosts.iter().any(|host| host.base == server.base) {
        hosts.push(server);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    for file in hosts
        .iter_mut()
        .flat_map(|host| host.ca.iter_mut().chain(&mut host.client))
    {
        *file = dir.join(&*file);
    }
    Ok(hosts)
}

fn host(name: &str, table: Table, registry: &str) -> Result<HostConfig, String> {
    let url = match name.contains("://") {
        true => name.to_owned(),
        false => with_scheme(name),
    };
    let url = Url::parse(&url).map_err(|e| format!("not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("scheme {:?}, expected http or https", url.scheme()));
    }
    let Some(domain) = url.host_str() else {
        return Err("URL without a host".into());
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("a URL of scheme, host, port and path is expected".into());
    }
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let name = format!("{domain}{port}");
    let mut path = url.path().trim_end_matches('/').to_owned();
    if !table.override_path.unwrap_or(false) && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    let capable = |wanted| {
        table
            .capabilities
            .as_ref()
            .is_none_or(|all| all.contains(&wanted))
    };
    let dial_timeout = table.dial_timeout.as_deref().map(duration).transpose()?;
    let mut headers = Vec::new();
    for (header, values) in table.header {
        headers.extend(
            values
                .into_vec()
                .into_iter()
                .map(|value| (header.clone(), value)),
        );
    }
    Ok(HostConfig {
        base: format!("{}://{name}{path}", url.scheme()),
        origin: is_origin(&name, registry),
        resolve: capable(Capability::Resolve),
        pull: capable(Capability::Pull),
        ca: table
            .ca
            .map(OneOrMany::into_vec)
            .unwrap_or_default()
            .into_iter()
            .map(Into::into)
            .collect(),
        client: client_files(table.client)?,
        skip_verify: table.skip_verify.unwrap_or(false),
        headers,
        dial_timeout: dial_timeout.unwrap_or(DIAL_TIMEOUT),
        name,
    })
}

fn client_files(client: Option<Client>) -> Result<Vec<PathBuf>, String> {
    let mut pairs = match client {
        None => return Ok(Vec::new()),
        Some(Client::One(file)) => vec![vec![file]],
        Some(Client::Files(files)) => files.into_iter().map(|file| vec![file]).collect(),
        Some(Client::Pairs(pairs)) => pairs,
    };
    match (pairs.pop(), pairs.is_empty()) {
        (Some(files), true) if (1..=2).contains(&files.len()) => {
            Ok(files.into_iter().map(Into::into).collect())
        }
        _ => {
            Err("client: one certificate is supported, as a file or as [[certificate, key]]".into())
        }
    }
}

/// Go's duration, as far as anyone writes one here: a number and a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("dial_timeout {text:?}: expected a number and ms, s, m or h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let unit = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = unit
        .and_then(|unit| number.checked_mul(unit))
        .ok_or_else(bad)?;
    Ok(Duration::from_millis(millis))
}

/// Docker Hub's registry answers under another name than its images carry.
fn default_server(registry: &str) -> String {
    if registry == "docker.io" {
        return "https://registry-1.docker.io".into();
    }
    with_scheme(registry)
}

/// Registries on this machine's loopback speak plain HTTP, unless on HTTPS's port.
fn with_scheme(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let loopback = host.starts_with("[::1]")
        || name == "localhost"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback());
    if loopback && !host.ends_with(":443") {
        format!("http://{host}")
    } else {
        format!("https://{host}")
    }
}

fn is_origin(host: &str, registry: &str) -> bool {
    host.eq_ignore_ascii_case(registry)
        || registry == "docker.io" && host == "registry-1.docker.io"
        || registry
            .strip_suffix(":443")
            .is_some_and(|name| name.eq_ignore_ascii_case(host))
        || registry
            .strip_suffix(":80")
            .is_some_and(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests;
