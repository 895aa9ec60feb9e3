//! A bundle's configuration, `config.json`, whoever wrote it.
//!
//! It is judged before anything is made, as far as that needs no host and no compiler: `linux.seccomp`,
//! the mappings of single mounts, and what only the kernel knows the words of are judged where they are
//! used. An error names the field. What is accepted reads the same once written, since that is how it
//! is kept for the container's life.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::Error;
use crate::oci_spec::runtime::{Linux, Process, Spec};
use crate::{cgroup, command, mount, namespace, rootfs, validate};

/// Reads a configuration.
pub fn configuration(json: &[u8]) -> Result<Spec, Error> {
    let spec: Spec = read(json)?;
    if !spec.version().starts_with("1.") {
        let problem = format!("{:?} is not one of 1.x", spec.version());
        return Err(Error::invalid("ociVersion", problem));
    }
    if spec.root().is_none() {
        return Err(Error::invalid("root", "missing: nothing to run in"));
    }
    validate::spec(&spec)?;
    spec.process().as_ref().map_or(Ok(()), command::check)?;
    mount::check(spec.mounts().as_deref().unwrap_or_default())?;
    spec.linux().as_ref().map_or(Ok(()), linux)?;
    Ok(spec)
}

fn linux(linux: &Linux) -> Result<(), Error> {
    let limits = linux.resources().as_ref();
    limits.map_or(Ok(()), cgroup::check)?;
    let sysctls = linux.sysctl().iter().flatten();
    namespace::check_sysctls(sysctls.map(|(name, _)| name.as_str()))?;
    rootfs::propagation(linux).map(drop)
}

/// Reads the description of a further process.
pub fn process(json: &[u8]) -> Result<Process, Error> {
    let process: Process = read(json)?;
    validate::process(&process)?;
    command::check(&process)?;
    Ok(process)
}

/// `linux.cgroupsPath` below `top`, where cgroups are mounted; without one, a cgroup of the
/// container's own. All processes of a container's cgroup are killed with it, so one that another
/// name leads to is refused, and so is `top`.
pub fn cgroup(spec: &Spec, id: &str, top: &Path) -> Result<PathBuf, Error> {
    let linux = spec.linux().as_ref();
    let given = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let Some(given) = given.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(top.join("skiff-oci").join(id));
    };
    let inner = given.strip_prefix("/").unwrap_or(given);
    let plain = |part| matches!(part, Component::Normal(_));
    if inner == Path::new("") || !inner.components().all(plain) {
        let problem = format!("{} is not the path of a cgroup", given.display());
        return Err(Error::invalid("linux.cgroupsPath", problem));
    }
    Ok(top.join(inner))
}

/// Reads JSON. serde_json knows where in the text something is wrong, but not in which field.
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    let mut text = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut text).map_err(|e| {
        let field = match e.path().to_string() {
            // A key that is no text leaves no path.
            none if none.is_empty() || none == "." => "the configuration".to_owned(),
            field => field,
        };
        Error::invalid(field, e.into_inner().to_string())
    })?;
    let end = text.end();
    end.map_err(|e| Error::invalid("the configuration", e.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The default configuration with one field replaced, named by a JSON pointer.
    fn with(pointer: &str, value: Value) -> Vec<u8> {
        let mut tree = serde_json::to_value(Spec::default()).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        tree.pointer_mut(parent).unwrap()[name] = value;
        serde_json::to_vec(&tree).unwrap()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        for (pointer, value, field) in [
            ("/ociVersion", json!("2.0.0"), "ociVersion"),
            ("/root", Value::Null, "root"),
            ("/process/user/uid", json!("root"), "process.user.uid"),
            ("/process/user/uid", json!(-1), "process.user.uid"),
            ("/process/args", json!([]), "process.args"),
            ("/process/args", json!(["a", 1]), "process.args[1]"),
            ("/process/args", json!(["a\0"]), "process.args"),
            ("/process/env", json!(["a=\0"]), "process.env"),
            ("/process/cwd", json!("tmp"), "process.cwd"),
            ("/mounts", json!([{"destination": "/"}]), "mounts"),
            ("/mounts", json!([{"type": "tmpfs"}]), "mounts[0]"),
            ("/mounts", json!([{"destination": "/a"}]), "mounts (/a)"),
            (
                "/mounts",
                json!([{"destination": "/a", "options": ["rbind"]}]),
                "mounts (/a)",
            ),
            (
                "/linux/rootfsPropagation",
                json!("sharde"),
                "linux.rootfsPropagation",
            ),
            (
                "/linux/sysctl",
                json!({"net.ipv4.ip_forward": "1", "net..x": "1"}),
                "linux.sysctl",
            ),
            (
                "/linux/namespaces",
                json!([{"type": "net"}]),
                "linux.namespaces[0].type",
            ),
            (
                "/linux/resources",
                json!({"devices": [{"allow": true, "access": "x"}]}),
                "linux.resources.devices",
            ),
            (
                "/linux/resources",
                json!({"memory": {"swap": 1}}),
                "linux.resources.memory.swap",
            ),
        ] {
            let error = configuration(&with(pointer, value.clone())).unwrap_err();
            let told = error.to_string();
            assert!(told.starts_with(field), "{pointer} {value}: {told}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_with_its_line() {
        for json in [
            &b""[..],
            b"{\"ociVersion\": \"1.0.0\",\n",
            b"{} {}",
            b"\"x\"",
            b"{true: 1}",
        ] {
            let error = configuration(json).unwrap_err().to_string();
            assert!(error.contains(" at line "), "{error}");
        }
        configuration(&with("/hostname", json!("h"))).unwrap();
    }

    #[test]
    fn a_further_process_is_judged_as_well() {
        let user = json!({"uid": 0, "gid": 0});
        let good = json!({"user": user, "cwd": "/", "args": ["x"]});
        process(good.to_string().as_bytes()).unwrap();
        let bad = json!({"user": user, "cwd": "/", "args": []});
        let error = process(bad.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("process.args"), "{error}");
    }

    /// The path of a cgroup whose processes are killed led out of where cgroups are.
    #[test]
    fn a_cgroup_is_below_the_top_and_not_the_top() {
        let top = Path::new("/sys/fs/cgroup");
        let of = |path: Value| {
            let spec = configuration(&with("/linux/cgroupsPath", path)).unwrap();
            cgroup(&spec, "id", top)
        };
        for (path, expected) in [
            (json!("/a/b"), "/sys/fs/cgroup/a/b"),
            (json!("a/b"), "/sys/fs/cgroup/a/b"),
            (json!(""), "/sys/fs/cgroup/skiff-oci/id"),
            (Value::Null, "/sys/fs/cgroup/skiff-oci/id"),
        ] {
            assert_eq!(of(path).unwrap(), Path::new(expected));
        }
        for path in ["/", "//", "..", "/a/..", "../../tmp", "/./", "."] {
            let error = of(json!(path)).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath"), "{path}: {error}");
        }
    }
}
