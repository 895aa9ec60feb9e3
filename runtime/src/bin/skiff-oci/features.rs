//! `features`.

use anyhow::Result;
use serde_json::json;

use crate::sys;

/// Prints what this runtime can do, in the form of the runtime-spec's features document. Only
/// what is carried out is listed.
pub(crate) fn run() -> Result<()> {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop",
        ],
        "mountOptions": skiff_runtime::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": skiff_runtime::capabilities(),
            "cgroup": {"v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": skiff_seccomp::ACTIONS,
                "operators": skiff_seccomp::OPERATORS,
                "archs": skiff_seccomp::architectures().collect::<Vec<_>>(),
                "supportedFlags": skiff_seccomp::FLAGS,
                "knownFlags": skiff_seccomp::FLAGS,
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": false},
        },
    });
    sys::print(&format!("{features:#}\n"))
}
