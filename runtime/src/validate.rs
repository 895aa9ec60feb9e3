//! What of a configuration is not acted on, and is therefore refused; what is contradictory.

use crate::Error;
use crate::mount::MountLabel;
use crate::namespace::Namespaces;
use crate::oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Process, Spec};
use crate::seccomp::Filter;
use crate::user_namespace::IdMappings;

/// Refuses a configuration that would not be carried out to the letter.
pub(crate) fn spec(spec: &Spec) -> Result<(), Error> {
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("process", "missing: nothing to start"))?;
    self::process(process)?;
    refuse("solaris", spec.solaris().is_some())?;
    refuse("windows", spec.windows().is_some())?;
    refuse("vm", spec.vm().is_some())?;
    refuse("zos", spec.zos().is_some())?;
    refuse("uidMappings", not_empty(spec.uid_mappings()))?;
    refuse("gidMappings", not_empty(spec.gid_mappings()))?;
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| Error::invalid("linux", "missing: not a Linux container"))?;
    self::linux(linux)?;
    user_namespace(spec, linux, process)?;
    let uts = has(linux, LinuxNamespaceType::Uts);
    if !uts && (spec.hostname().is_some() || spec.domainname().is_some()) {
        return Err(Error::invalid(
            "hostname",
            "set without a UTS namespace to set it in",
        ));
    }
    Ok(())
}

/// A profile that the caller has not compiled would not be put on.
pub(crate) fn seccomp(spec: &Spec, filter: Option<&Filter>) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    match (linux.and_then(|linux| linux.seccomp().as_ref()), filter) {
        (Some(_), None) => Err(Error::invalid(
            "linux.seccomp",
            "given without the filter that is compiled from it",
        )),
        _ => Ok(()),
    }
}

/// The part of [`spec`] that concerns a single process.
pub(crate) fn process(process: &Process) -> Result<(), Error> {
    refuse("process.ioPriority", process.io_priority().is_some())?;
    refuse("process.scheduler", process.scheduler().is_some())?;
    refuse(
        "process.execCPUAffinity",
        process.exec_cpu_affinity().is_some(),
    )?;
    refuse("process.commandLine", not_blank(process.command_line()))?;
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        if limits[..index]
            .iter()
            .any(|earlier| earlier.typ() == limit.typ())
        {
            return Err(Error::invalid(
                "process.rlimits",
                format!("{} twice", limit.typ()),
            ));
        }
        if limit.soft() > limit.hard() {
            return Err(Error::invalid(
                "process.rlimits",
                format!("{}: soft limit above the hard one", limit.typ()),
            ));
        }
    }
    Ok(())
}

fn linux(linux: &Linux) -> Result<(), Error> {
    MountLabel::of(Some(linux)).check()?;
    refuse("linux.intelRdt", linux.intel_rdt().is_some())?;
    refuse("linux.memoryPolicy", linux.memory_policy().is_some())?;
    refuse("linux.personality", linux.personality().is_some())?;
    refuse(
        "linux.timeOffsets",
        linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty()),
    )?;
    refuse(
        "linux.netDevices",
        linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()),
    )?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (index, namespace) in namespaces.iter().enumerate() {
        let kind = namespace.typ();
        if namespaces[..index]
            .iter()
            .any(|earlier| earlier.typ() == kind)
        {
            return Err(Error::invalid("linux.namespaces", format!("{kind} twice")));
        }
        refuse("linux.namespaces: time", kind == LinuxNamespaceType::Time)?;
        let mount = kind == LinuxNamespaceType::Mount;
        refuse(
            "linux.namespaces: mount with a path",
            mount && namespace.path().is_some(),
        )?;
    }
    if !has(linux, LinuxNamespaceType::Mount) {
        return Err(Error::invalid(
            "linux.namespaces",
            "a mount namespace is required",
        ));
    }
    Ok(())
}

/// A user namespace and its mappings go together; whose the process is must be mapped, and so
/// must root, who builds the container.
fn user_namespace(spec: &Spec, linux: &Linux, process: &Process) -> Result<(), Error> {
    let mappings = IdMappings::of(spec);
    if !has(linux, LinuxNamespaceType::User) {
        if mappings.is_empty() {
            return Ok(());
        }
        let problem = "set without a user namespace in linux.namespaces";
        return Err(Error::invalid("linux.uidMappings", problem));
    }
    mappings.check("linux")?;
    mappings.root()?;
    mappings.check_user(process)
}

/// Is there an entry for this kind of namespace?
pub(crate) fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == kind)
}

/// The flag of a kind of namespace.
pub(crate) fn flag(namespace: &LinuxNamespace) -> Namespaces {
    match namespace.typ() {
        LinuxNamespaceType::Mount => Namespaces::NEWNS,
        LinuxNamespaceType::Cgroup => Namespaces::NEWCGROUP,
        LinuxNamespaceType::Uts => Namespaces::NEWUTS,
        LinuxNamespaceType::Ipc => Namespaces::NEWIPC,
        LinuxNamespaceType::User => Namespaces::NEWUSER,
        LinuxNamespaceType::Pid => Namespaces::NEWPID,
        LinuxNamespaceType::Network => Namespaces::NEWNET,
        LinuxNamespaceType::Time => Namespaces::NEWTIME,
    }
}

fn refuse(field: &str, present: bool) -> Result<(), Error> {
    if present {
        Err(not_supported(field.to_owned()))
    } else {
        Ok(())
    }
}

fn not_supported(field: String) -> Error {
    Error::invalid(field, "not supported by this version of skiff")
}

fn not_blank(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

fn not_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_deref().is_some_and(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The default configuration with one field replaced, named by a JSON pointer.
    fn with(pointer: &str, value: Value) -> Spec {
        let mut tree = serde_json::to_value(Spec::default()).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        tree.pointer_mut(parent).unwrap()[name] = value;
        serde_json::from_value(tree).unwrap()
    }

    #[test]
    fn default_configuration_is_accepted() {
        spec(&Spec::default()).unwrap();
    }

    #[test]
    fn what_is_not_acted_on_is_refused_by_name() {
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        for (pointer, value) in [
            ("/linux/uidMappings", map),
            ("/linux/mountLabel", json!("x\"")),
            ("/linux/personality", json!({"domain": "LINUX"})),
            ("/linux/intelRdt", json!({"closID": "x"})),
            ("/linux/timeOffsets", json!({"boottime": {"secs": 1}})),
            (
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_BE", "priority": 1}),
            ),
        ] {
            let error = spec(&with(pointer, value)).unwrap_err().to_string();
            let field = pointer[1..].replace('/', ".");
            assert!(error.contains(&field), "{pointer}: {error}");
        }
    }

    #[test]
    fn seccomp_needs_its_filter() {
        let profile = with("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        let error = seccomp(&profile, None).unwrap_err().to_string();
        assert!(error.contains("linux.seccomp"), "{error}");
        let allow = Filter::new(&[6, 0, 0, 0, 0, 0, 0xff, 0x7f], 0, None).unwrap();
        seccomp(&profile, Some(&allow)).unwrap();
        seccomp(&Spec::default(), None).unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let limit = json!({"type": "RLIMIT_NOFILE", "hard": 1, "soft": 2});
        assert!(spec(&with("/process/rlimits", json!([limit]))).is_err());
        let limit = json!({"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1});
        assert!(spec(&with("/process/rlimits", json!([limit, limit]))).is_err());
        assert!(spec(&with("/linux/namespaces", json!([{"type": "pid"}]))).is_err());
        let twice = json!([{"type": "mount"}, {"type": "mount"}]);
        assert!(spec(&with("/linux/namespaces", twice)).is_err());
        let no_uts = with("/linux/namespaces", json!([{"type": "mount"}]));
        assert_eq!(no_uts.hostname().is_some(), spec(&no_uts).is_err());
    }
}
