//! AppArmor profiles: our own, made and loaded when the daemon starts, and whether others are
//! loaded.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use skiff_spec::{APPARMOR_DEFAULT, AppArmor};

use super::ProfileError;

/// The kernel's list of loaded profiles, each line a name and its mode in parentheses.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Files of the AppArmor package that our profile includes where they are.
const ABI: &str = "/etc/apparmor.d/abi/3.0";
const ABSTRACTIONS: &str = "/etc/apparmor.d/abstractions/base";

/// Finds out what AppArmor can do here; loads our own profile where it is enabled.
pub fn probe(enabled: bool) -> AppArmor {
    if !enabled {
        return AppArmor::Disabled;
    }
    let there = |path| Path::new(path).exists();
    let text = default_profile(&own_profile(), there(ABI), there(ABSTRACTIONS));
    match load(&text) {
        Ok(()) => AppArmor::Ready,
        Err(e) => AppArmor::NoDefault(e.to_string()),
    }
}

/// A profile that a container names must be loaded: its process would find out too late.
pub fn check_loaded(name: &str) -> Result<(), ProfileError> {
    let list = fs::read_to_string(PROFILES).map_err(|source| ProfileError::File {
        action: "read the loaded AppArmor profiles from",
        path: PROFILES.into(),
        source,
    })?;
    if lists(&list, name) {
        Ok(())
    } else {
        Err(ProfileError::NotLoaded(name.to_owned()))
    }
}

/// A name may itself hold blanks and parentheses: the mode is the last word. One of a stack is
/// named after its namespace and a colon, as the list has it.
fn lists(list: &str, name: &str) -> bool {
    list.lines().any(|line| {
        line.rsplit_once(" (")
            .is_some_and(|(listed, _)| listed == name)
    })
}

/// What confines this process: who may signal a container's.
fn own_profile() -> String {
    let current = fs::read_to_string("/proc/self/attr/apparmor/current")
        .or_else(|_| fs::read_to_string("/proc/self/attr/current"))
        .unwrap_or_default();
    let current = current.trim_end_matches(['\n', '\0']);
    let name = current.rsplit_once(" (").map_or(current, |(name, _)| name);
    if name.is_empty() {
        "unconfined".into()
    } else {
        name.into()
    }
}

/// Our own profile. It says once more what the masked and read-only paths say, for a container
/// that gets behind them; no mounts; no signals and no tracing across containers.
///
/// The ABI says what it was written for: what a newer kernel can mediate besides, user namespaces
/// for one, it would deny without naming it.
fn default_profile(daemon: &str, abi: bool, abstractions: bool) -> String {
    let abi = if abi { "abi <abi/3.0>," } else { "" };
    let (tunables, base) = match abstractions {
        true => ("#include <tunables/global>", "#include <abstractions/base>"),
        false => ("@{PROC}=/proc/", ""),
    };
    format!(
        r#"{abi}
{tunables}
profile {APPARMOR_DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  {base}
  capability,
  file,
  network,
  umount,
  deny mount,

  # Containers are stopped from outside; their processes signal and trace each other.
  signal (receive) peer=unconfined,
  signal (receive) peer="{daemon}",
  signal peer={APPARMOR_DEFAULT},
  ptrace peer={APPARMOR_DEFAULT},

  # Of /proc, what belongs to a process or a namespace can be written.
  deny @{{PROC}}/[^1-9]* w,
  deny @{{PROC}}/[^1-9s]*/** w,
  deny @{{PROC}}/scsi/** w,
  deny @{{PROC}}/sys/{{abi,debug,dev,vm}}/** w,
  deny @{{PROC}}/sys/fs/[^m]** w,
  deny @{{PROC}}/sys/kernel/[^ms]** w,
  deny @{{PROC}}/sys/kernel/m[^s]** w,
  deny @{{PROC}}/sys/kernel/s[^eh]** w,
  deny @{{PROC}}/kcore rwklx,
  deny @{{PROC}}/sysrq-trigger rwklx,

  # Of /sys, a container's own cgroup.
  deny /sys/{{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}}/** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"#
    )
}

/// Hands a profile to the kernel, in the place of one of the same name.
fn load(text: &str) -> io::Result<()> {
    let mut child = Command::new("apparmor_parser")
        .args(["--replace", "--skip-cache"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("execute apparmor_parser: {e}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads no profile says why.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "apparmor_parser: {}",
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_whole() {
        let list = "skiff-default (enforce)\n/usr/bin/man (enforce)\na b (x) (complain)\n";
        for (name, loaded) in [
            ("skiff-default", true),
            ("skiff", false),
            ("/usr/bin/man", true),
            ("a b (x)", true),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(lists(list, name), loaded, "{name}");
        }
    }

    #[test]
    fn the_profile_names_who_may_signal() {
        for installed in [true, false] {
            let text = default_profile("cri//&unconfined", installed, installed);
            assert!(text.contains(r#"peer="cri//&unconfined""#), "{text}");
            assert_eq!(text.contains("abstractions/base"), installed);
            assert_eq!(text.starts_with("abi <abi/3.0>,"), installed);
            assert_eq!(text.matches('{').count(), text.matches('}').count());
        }
    }

    #[test]
    fn a_host_without_it_is_left_alone() {
        assert_eq!(probe(false), AppArmor::Disabled);
    }
}
