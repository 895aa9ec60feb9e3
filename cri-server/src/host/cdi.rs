//! CDI devices that a request names, with what this host has of them.

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::{HookBuilder, Hooks, LinuxDeviceType, Mount, MountBuilder};
use skiff_cdi::edits::{self, ContainerEdits, DeviceNode, HookName};
use skiff_cdi::{Cdi, DeviceName, requested};
use skiff_cri::v1::ContainerConfig;
use skiff_spec::{HostDevice, Injection, RequestedDevice, SpecError, User, check_destination};

use super::device::node;

/// The CRI field, named in every refusal. Devices that annotations ask for count as its own.
const FIELD: &str = "CDI_devices";
/// Permissions of a device whose document names none, and what it says for none at all.
const DEFAULT_PERMISSIONS: &str = "rwm";
const NO_PERMISSIONS: &str = "none";
/// Mode of a node that is described in full and not looked at.
const DEFAULT_MODE: u32 = 0o666;

/// What the request's CDI devices change; nothing, without a look at any file, when it names
/// none. Nodes without an owner become the user's.
pub fn injection(cdi: &Cdi, config: &ContainerConfig, user: &User) -> Result<Injection, SpecError> {
    let refused = |e: skiff_cdi::CdiError| SpecError::invalid(FIELD, e.to_string());
    let list = config.cdi_devices.iter().map(|device| &*device.name);
    let annotations = config
        .annotations
        .iter()
        .map(|(key, value)| (&**key, &**value));
    let names = requested(list, annotations).map_err(refused)?;
    let mut all = Injection::default();
    for edits in cdi.edits(&names).map_err(refused)? {
        add(&mut all, &edits, user).map_err(|reason| {
            let names: Vec<_> = names.iter().map(DeviceName::to_string).collect();
            SpecError::invalid(FIELD, format!("{}: {reason}", names.join(", ")))
        })?;
    }
    Ok(all)
}

fn add(all: &mut Injection, edits: &ContainerEdits, user: &User) -> Result<(), String> {
    if edits.intel_rdt.is_some() {
        return Err("intelRdt is not supported".into());
    }
    if !edits.net_devices.is_empty() {
        return Err("netDevices are not supported".into());
    }
    all.env.extend_from_slice(&edits.env);
    all.additional_gids
        .extend_from_slice(&edits.additional_gids);
    for described in &edits.device_nodes {
        all.devices.push(device(described, user)?);
    }
    for described in &edits.mounts {
        all.mounts.push(mount(described)?);
    }
    for described in &edits.hooks {
        add_hook(&mut all.hooks, described)?;
    }
    Ok(())
}

fn device(described: &DeviceNode, user: &User) -> Result<RequestedDevice, String> {
    let path = &described.path;
    check_destination(path, "deviceNodes.path").map_err(|e| e.to_string())?;
    let mut found = found(described)
        .map_err(|e| format!("device node {}: {e}", described.host_path().display()))?;
    found.mode = described.file_mode.unwrap_or(found.mode) & 0o7777;
    found.uid = described.uid.unwrap_or(user.uid);
    found.gid = described.gid.unwrap_or(user.gid);
    let permissions = match described.permissions.as_deref() {
        _ if found.kind == LinuxDeviceType::P => "",
        None | Some("") => DEFAULT_PERMISSIONS,
        Some(NO_PERMISSIONS) => "",
        Some(permissions) => permissions,
    };
    Ok(RequestedDevice {
        container_path: path.clone(),
        permissions: permissions.to_owned(),
        node: found,
    })
}

/// The node as it is described, or as the host has it where the description is not complete.
fn found(described: &DeviceNode) -> io::Result<HostDevice> {
    let kind = match described.r#type.as_deref() {
        None | Some("") => None,
        Some("b") => Some(LinuxDeviceType::B),
        Some("p") => Some(LinuxDeviceType::P),
        Some(_) => Some(LinuxDeviceType::C),
    };
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let complete = match (kind, number(described.major)) {
        (Some(LinuxDeviceType::P), _) => Some((LinuxDeviceType::P, 0)),
        (Some(kind), Some(major)) => Some((kind, major)),
        _ => None,
    };
    if let Some((kind, major)) = complete {
        return Ok(HostDevice {
            path: described.path.clone(),
            kind,
            major,
            minor: number(described.minor).unwrap_or(0),
            mode: DEFAULT_MODE,
            uid: 0,
            gid: 0,
        });
    }
    let path = described.host_path();
    let found = node(path, &fs::metadata(path)?)
        .ok_or_else(|| io::Error::other("on the host that is not a device"))?;
    match kind {
        Some(kind) if kind != found.kind => Err(io::Error::other(
            "on the host that is a device of another type",
        )),
        _ => Ok(found),
    }
}

fn mount(described: &edits::Mount) -> Result<Mount, String> {
    let destination = &described.container_path;
    check_destination(destination, "mounts.containerPath").map_err(|e| e.to_string())?;
    if destination == Path::new("/proc") {
        return Err("a mount over /proc".into());
    }
    let kind = described.r#type.as_deref().unwrap_or_default();
    let kind = if kind.is_empty() { "bind" } else { kind };
    let mut options = described.options.clone();
    if kind == "bind" && !options.iter().any(|o| o == "bind" || o == "rbind") {
        options.push("rbind".into());
    }
    let mount = MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(&described.host_path)
        .options(options);
    mount.build().map_err(|e| e.to_string())
}

/// The shim runs hooks of one kind, which is the one that devices need: see its `bundle`.
fn add_hook(hooks: &mut Hooks, described: &edits::Hook) -> Result<(), String> {
    if described.hook_name != HookName::CreateContainer {
        let name = described.hook_name;
        return Err(format!("hooks of kind {name:?} are not supported"));
    }
    let mut hook = HookBuilder::default()
        .path(&described.path)
        .args(described.args.clone())
        .env(described.env.clone());
    if let Some(timeout) = described.timeout.filter(|seconds| *seconds > 0) {
        hook = hook.timeout(timeout);
    }
    let hook = hook.build().map_err(|e| e.to_string())?;
    let mut list = hooks.create_container().clone().unwrap_or_default();
    list.push(hook);
    hooks.set_create_container(Some(list));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_cri::v1::CdiDevice;

    fn user() -> User {
        User {
            uid: 1000,
            gid: 1001,
            groups: Vec::new(),
            home: None,
        }
    }

    /// What the one device of a document changes, whose edits are the given ones.
    fn inject(edits: &str) -> Result<Injection, SpecError> {
        let dir = tempfile::tempdir().unwrap();
        let json = format!(
            r#"{{"cdiVersion":"1.1.0","kind":"v.com/c","devices":[
                {{"name":"0","containerEdits":{edits}}}]}}"#
        );
        fs::write(dir.path().join("v.json"), json).unwrap();
        let config = ContainerConfig {
            cdi_devices: vec![CdiDevice {
                name: "v.com/c=0".into(),
            }],
            ..Default::default()
        };
        injection(&Cdi::new(vec![dir.path().into()]), &config, &user())
    }

    #[test]
    fn what_is_not_asked_for_changes_nothing() {
        let cdi = Cdi::new(vec!["/no/such/directory".into()]);
        let none = injection(&cdi, &ContainerConfig::default(), &user()).unwrap();
        assert_eq!(none, Injection::default());
    }

    #[test]
    fn a_node_is_completed_by_the_hosts_and_given_to_the_user() {
        let edits = r#"{"deviceNodes":[{"path":"/dev/mine","hostPath":"/dev/zero"},
            {"path":"/dev/full","type":"c","major":1,"minor":77,"fileMode":416,"permissions":"r"},
            {"path":"/dev/null","permissions":"none"}]}"#;
        let devices = inject(edits).unwrap().devices;
        let of = |i: usize| &devices[i].node;
        assert_eq!((of(0).major, of(0).minor), (1, 5));
        assert_eq!((of(0).uid, of(0).gid), (1000, 1001));
        assert_eq!((of(1).minor, of(1).mode), (77, 0o640));
        let permissions: Vec<_> = devices.iter().map(|d| &*d.permissions).collect();
        assert_eq!(permissions, ["rwm", "r", ""]);
    }

    #[test]
    fn a_mount_without_a_type_is_a_bind_mount() {
        let edits =
            r#"{"mounts":[{"hostPath":"/lib/v","containerPath":"/lib/v","options":["ro"]}]}"#;
        let mounts = inject(edits).unwrap().mounts;
        assert_eq!(mounts[0].typ().as_deref(), Some("bind"));
        assert_eq!(mounts[0].options().as_deref().unwrap(), ["ro", "rbind"]);
    }

    #[test]
    fn hooks_keep_their_order() {
        let edits = r#"{"hooks":[{"hookName":"createContainer","path":"/a"},
            {"hookName":"createContainer","path":"/c","timeout":5}]}"#;
        let hooks = inject(edits).unwrap().hooks;
        let paths: Vec<_> = hooks.create_container().iter().flatten().collect();
        assert_eq!(paths.len(), 2);
        assert_eq!(paths[1].path(), Path::new("/c"));
        assert_eq!(paths[1].timeout(), Some(5));
    }

    #[test]
    fn refusals_name_the_device_and_the_part() {
        for (edits, word) in [
            (r#"{"intelRdt":{"closID":"x"}}"#, "intelRdt"),
            (
                r#"{"netDevices":[{"hostInterfaceName":"a","name":"b"}]}"#,
                "netDevices",
            ),
            (
                r#"{"hooks":[{"hookName":"startContainer","path":"/a"}]}"#,
                "StartContainer",
            ),
            (
                r#"{"deviceNodes":[{"path":"/dev/no-such"}]}"#,
                "/dev/no-such",
            ),
            (
                r#"{"deviceNodes":[{"path":"/dev/x","hostPath":"/etc/passwd"}]}"#,
                "not a device",
            ),
            (
                r#"{"deviceNodes":[{"path":"/dev/null","type":"b"}]}"#,
                "another type",
            ),
            (
                r#"{"mounts":[{"hostPath":"/x","containerPath":"/proc"}]}"#,
                "/proc",
            ),
            (
                r#"{"mounts":[{"hostPath":"/x","containerPath":"/a/../b"}]}"#,
                "..",
            ),
        ] {
            let error = inject(edits).unwrap_err().to_string();
            assert!(error.starts_with("CDI_devices: v.com/c=0"), "{error}");
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
