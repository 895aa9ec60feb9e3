//! The bundle of a container with hooks: a directory with its configuration, where hooks look for
//! `config.json` and, in the container's mount namespace alone, find the root file system mounted
//! at `rootfs`. A container without hooks has none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use skiff_runtime::oci_spec::runtime::{Hooks, Spec};
use skiff_shim_proto::message::Failure;

use crate::failure;

/// A bundle, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Bundle(PathBuf);

impl Bundle {
    /// Makes the bundle of container `id` below the shim's run directory; `None` without hooks.
    ///
    /// Of all hooks only those of kind createContainer can be had: the child that builds the
    /// container runs them. The others would run in this process's one thread, which has a pod to
    /// look after, or (startContainer) would give a program of the image the runtime's privileges.
    pub(crate) fn make(run_dir: &Path, id: &str, spec: &Spec) -> Result<Option<Self>, Failure> {
        let Some(hooks) = spec.hooks() else {
            return Ok(None);
        };
        if let Some(kind) = unsupported(hooks) {
            let why = format!("container {id}: hooks of kind {kind} are not supported");
            return Err(failure::invalid(why));
        }
        let bundle = Self(run_dir.join(id));
        bundle
            .fill(spec)
            .map_err(|e| failure::system(format!("make bundle {}", bundle.0.display()), &e))?;
        Ok(Some(bundle))
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn fill(&self, spec: &Spec) -> io::Result<()> {
        let root = spec.root().as_ref().map(|root| root.path());
        fs::create_dir_all(
            self.0
                .join(root.map_or(Path::new("rootfs"), PathBuf::as_path)),
        )?;
        let json = serde_json::to_vec(spec)?;
        fs::write(self.0.join("config.json"), json)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // What stays goes with the run directory, which the daemon clears when a shim is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unsupported(hooks: &Hooks) -> Option<&'static str> {
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    let asked = kinds
        .into_iter()
        .find(|(_, list)| list.as_ref().is_some_and(|list| !list.is_empty()));
    asked.map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(hooks: serde_json::Value) -> Spec {
        let spec = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "hooks": hooks});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_bundle_is_there_for_hooks_alone_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let mut none = Spec::default();
        none.set_hooks(None);
        assert!(Bundle::make(dir.path(), "a", &none).unwrap().is_none());
        let hooks = json!({"createContainer": [{"path": "/bin/true"}]});
        let bundle = Bundle::make(dir.path(), "b", &spec(hooks))
            .unwrap()
            .unwrap();
        assert!(dir.path().join("b/rootfs").is_dir());
        let written = fs::read(bundle.path().join("config.json")).unwrap();
        serde_json::from_slice::<Spec>(&written).unwrap();
        drop(bundle);
        assert!(!dir.path().join("b").exists());
    }

    #[test]
    fn hooks_that_would_not_be_run_are_refused_by_kind() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [
            "prestart",
            "createRuntime",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            let hooks = json!({kind: [{"path": "/bin/true"}]});
            let failure = Bundle::make(dir.path(), "c", &spec(hooks)).unwrap_err();
            assert!(failure.message.contains(kind), "{failure}");
        }
        assert!(!dir.path().join("c").exists());
    }
}
