//! Directories of a client and plugins that are shell scripts: each notes how it was called and
//! what it read, does what it was told to do for that verb, and otherwise succeeds.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_cni::{Cni, NetworkStatus, Pod, Settings};

const SCRIPT: &str = r#"#!/bin/sh
LAB=@LAB@
me=${0##*/}
cat > "$LAB/requests/$me.$CNI_COMMAND"
echo "$me $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS" >> "$LAB/calls"
if [ -e "$LAB/behaviour/$me.$CNI_COMMAND" ]; then . "$LAB/behaviour/$me.$CNI_COMMAND"; fi
if [ "$CNI_COMMAND" = ADD ]; then cat "$LAB/answers/$me"; fi
exit 0
"#;

/// A client's surroundings; plugins `one`, `two` and `three` are installed.
pub(crate) struct Lab(tempfile::TempDir);

impl Lab {
    pub(crate) fn new(config: &str) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        for dir in ["net.d", "bin", "requests", "behaviour", "answers"] {
            fs::create_dir(lab.path(dir)).unwrap();
        }
        for plugin in ["one", "two", "three"] {
            lab.install(plugin);
            lab.answer(plugin, &json!({"ips": [{"address": "10.0.0.9/24"}]}));
        }
        lab.configure(Some(config));
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self) -> Cni {
        self.open_with(Duration::from_secs(60))
    }

    pub(crate) fn open_with(&self, timeout: Duration) -> Cni {
        let settings = Settings {
            conf_dir: self.path("net.d"),
            bin_dirs: vec![self.path("bin")],
            cache_dir: self.path("cache"),
            timeout,
        };
        Cni::open(settings).unwrap()
    }

    pub(crate) fn install(&self, plugin: &str) {
        let script = SCRIPT.replace("@LAB@", self.0.path().to_str().unwrap());
        let temporary = self.path("plugin.new");
        fs::write(&temporary, script).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&temporary, self.path("bin").join(plugin)).unwrap();
    }

    /// Writes or removes the network's configuration.
    pub(crate) fn configure(&self, config: Option<&str>) {
        let path = self.path("net.d/10-podnet.conflist");
        match config {
            Some(config) => fs::write(path, config).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    /// What a plugin prints when asked to ADD.
    pub(crate) fn answer(&self, plugin: &str, result: &Value) {
        fs::write(self.path("answers").join(plugin), result.to_string()).unwrap();
    }

    /// What a plugin does when asked a verb, as shell commands; then it goes on as usual.
    pub(crate) fn behave(&self, plugin: &str, verb: &str, commands: &str) {
        fs::write(
            self.path("behaviour").join(format!("{plugin}.{verb}")),
            commands,
        )
        .unwrap();
    }

    /// Plugin, verb, pod id and namespace of every call so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    pub(crate) fn forget_calls(&self) {
        let _ = fs::remove_file(self.path("calls"));
    }

    /// What a plugin last read when asked a verb.
    pub(crate) fn request(&self, plugin: &str, verb: &str) -> Value {
        let text = fs::read(self.path("requests").join(format!("{plugin}.{verb}"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Waits for a status; a test that waits for ever has failed.
    pub(crate) async fn until(&self, cni: &Cni, wanted: impl Fn(&NetworkStatus) -> bool) {
        for _ in 0..4000 {
            if wanted(&cni.status()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("still {:?}", cni.status());
    }
}

/// A list of plugins without settings.
pub(crate) fn conflist(version: &str, plugins: &[&str]) -> String {
    let plugins: Vec<Value> = plugins
        .iter()
        .map(|plugin| json!({"type": plugin}))
        .collect();
    json!({"cniVersion": version, "name": "podnet", "plugins": plugins}).to_string()
}

/// A pod in the test's own network namespace.
pub(crate) fn pod(id: &str) -> Pod {
    Pod {
        id: id.into(),
        name: "web".into(),
        namespace: "default".into(),
        uid: "u-1".into(),
        netns: "/proc/self/ns/net".into(),
        ..Pod::default()
    }
}
