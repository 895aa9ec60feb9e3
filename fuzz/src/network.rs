//! CNI: configurations, results, attachment records.

use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use skiff_cni::{CacheError, Cni, Error, Settings, Success, Version, parse_result};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const POD: &str = "pod";
const VERSIONS: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

/// A network configuration: passed over with a reason, or chosen; a record that carries what was
/// chosen can be read.
pub fn cni_configuration(data: &[u8]) {
    let dir = crate::scratch();
    let file = dir.path().join("10-net.conflist");
    std::fs::write(&file, data).expect("write the configuration");
    let client = Client::open(dir);
    let status = client.cni.status();
    assert!(!status.ready, "no plugin is installed");
    assert!(
        !status.reason.is_empty() && !status.message.is_empty(),
        "{status:?}"
    );
    let Some(name) = &status.network else {
        assert!(status.message.contains("10-net.conflist"), "{status:?}");
        return;
    };
    assert!(is_file_name(name), "{name:?}");
    let network: Value = serde_json::from_slice(data).expect("a chosen configuration is JSON");
    let network = match network.get("plugins") {
        Some(_) => network,
        // How a single plugin is recorded.
        None => json!({
            "name": name,
            "cniVersion": network["cniVersion"],
            "cniVersions": network["cniVersions"],
            "plugins": [network],
        }),
    };
    let record = json!({ "version": 1, "pod": pod(), "network": network });
    client.write_record(record.to_string().as_bytes());
    match client.check() {
        Err(Error::Unattached(_)) => {}
        other => panic!("a record of this network cannot be read: {other:?}"),
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

fn pod() -> Value {
    json!({ "id": POD, "name": "web", "namespace": "shop", "uid": "5a9c", "netns": "/run/netns/x" })
}

/// What a plugin answers to ADD, for every version that can be asked for. The answer as a
/// document of the version asked for, which the next plugin is given, is an answer of that
/// version and says the same as far as that version can say it.
pub fn cni_result(data: &[u8]) {
    for asked in VERSIONS {
        let Ok((success, document)) = parse_result(data, asked) else {
            continue;
        };
        assert_eq!(document["cniVersion"], asked.to_string());
        let text = document.to_string();
        let (again, _) =
            parse_result(text.as_bytes(), asked).unwrap_or_else(|error| panic!("{error}: {text}"));
        if asked >= Version::V0_3_0 {
            assert_eq!(again, success, "{text}");
        }
        for ip in &success.ips {
            assert_eq!(ip.address.to_string().parse().as_ref(), Ok(&ip.address));
        }
        let json = serde_json::to_vec(&success).expect("a result can be written");
        let typed: Success = serde_json::from_slice(&json).expect("and read");
        assert_eq!(typed, success);
    }
}

/// An attachment record: one that cannot be read is told from one that can, and is there until
/// the pod is detached.
pub fn cni_record(data: &[u8]) {
    static CLIENT: LazyLock<Mutex<Client>> =
        LazyLock::new(|| Mutex::new(Client::open(crate::scratch())));
    let client = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    client.write_record(data);
    let read = client.check();
    let torn_down = client.runtime.block_on(client.cni.teardown(POD, None));
    let ids = client.cni.cached().expect("the cache can be listed");
    assert_eq!(torn_down.is_ok(), ids.is_empty(), "{torn_down:?}");
    match read {
        Err(Error::Cache(CacheError::Corrupt { path, reason })) => {
            assert!(path.ends_with("pod.json") && !reason.is_empty());
            assert!(
                matches!(torn_down, Err(Error::Orphan { .. })),
                "{torn_down:?}"
            );
        }
        Ok(()) | Err(Error::Unattached(_) | Error::Plugin { .. }) => {
            assert!(torn_down.is_err(), "there is no plugin that could detach");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A client without plugins.
struct Client {
    runtime: Runtime,
    cni: Cni,
    dir: TempDir,
}

impl Client {
    fn open(dir: TempDir) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("start a runtime");
        let settings = Settings {
            conf_dir: dir.path().to_owned(),
            bin_dirs: vec![dir.path().join("bin")],
            cache_dir: dir.path().join("cache"),
            timeout: Duration::from_secs(1),
        };
        let entered = runtime.enter();
        let cni = Cni::open(settings).expect("open the client");
        drop(entered);
        Self { runtime, cni, dir }
    }

    fn write_record(&self, json: &[u8]) {
        let name = Path::new("cache").join(POD).with_extension("json");
        std::fs::write(self.dir.path().join(name), json).expect("write the record");
    }

    fn check(&self) -> Result<(), Error> {
        self.runtime.block_on(self.cni.check(POD))
    }
}
