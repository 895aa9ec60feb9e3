//! Kernel parameters that belong to a pod's namespaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a kernel parameter that each network or IPC namespace has for itself.
///
/// It is written with dots; a dot within a component is written `/`, as sysctl(8) does
/// (`net.ipv4.conf.eth0/100.rp_filter`). Names written with slashes, where the dot stands for
/// itself, are read too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlName {
    dotted: String,
    namespace: SysctlNamespace,
}

/// The namespace a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SysctlNamespace {
    /// `net.*`.
    Network,
    /// `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`.
    Ipc,
}

impl SysctlName {
    /// The namespace it belongs to.
    pub fn namespace(&self) -> SysctlNamespace {
        self.namespace
    }
}

impl FromStr for SysctlName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // The first separator tells which of the two separates.
        let dotted = match name.find(['.', '/']).map(|at| &name[at..=at]) {
            Some("/") => swap_separators(name),
            _ => name.to_owned(),
        };
        let namespace = match dotted.split_once('.') {
            Some(("net", _)) => SysctlNamespace::Network,
            Some(("kernel", "sem")) => SysctlNamespace::Ipc,
            Some(("kernel", rest)) if rest.starts_with("shm") || rest.starts_with("msg") => {
                SysctlNamespace::Ipc
            }
            Some(("fs", rest)) if rest.starts_with("mqueue.") => SysctlNamespace::Ipc,
            _ => {
                return Err(format!(
                    "{name:?} is no parameter of a network or IPC namespace (net.*, kernel.shm*, \
                     kernel.msg*, kernel.sem, fs.mqueue.*)"
                ));
            }
        };
        if !dotted.split('.').all(is_component) {
            return Err(format!("{name:?} is not the name of a kernel parameter"));
        }
        Ok(Self { dotted, namespace })
    }
}

/// A component becomes a file name, so it is neither empty nor made of dots alone.
fn is_component(component: &str) -> bool {
    component
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-/:@".contains(c))
        && component.chars().any(|c| c != '/')
}

fn swap_separators(name: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

impl TryFrom<String> for SysctlName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<SysctlName> for String {
    fn from(name: SysctlName) -> Self {
        name.dotted
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dotted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_parameters_of_namespaces_are_taken() {
        for (name, dotted) in [
            (
                "net.ipv4.ip_local_port_range",
                "net.ipv4.ip_local_port_range",
            ),
            (
                "net/ipv4/conf/eth0.100/rp_filter",
                "net.ipv4.conf.eth0/100.rp_filter",
            ),
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel.msgmax", "kernel.msgmax"),
            ("kernel.sem", "kernel.sem"),
            ("fs.mqueue.msg_max", "fs.mqueue.msg_max"),
        ] {
            assert_eq!(name.parse::<SysctlName>().unwrap().to_string(), dotted);
        }
        for bad in [
            "",
            "net",
            "net.",
            "net..ipv4",
            "kernel.core_pattern",
            "kernel.semaphore",
            "vm.swappiness",
            "fs.mqueue",
            "net.//.x",
            "net/../kernel/core_pattern",
            "net/ipv4/../../kernel/core_pattern",
            "net.ipv4.a b",
        ] {
            assert!(bad.parse::<SysctlName>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// The file that a name stands for is always below /proc/sys/{net,kernel,fs}.
        #[test]
        fn no_name_leads_elsewhere(name in "(net|kernel|fs)?[./a-z:]{0,24}") {
            if let Ok(name) = name.parse::<SysctlName>() {
                let path = swap_separators(&name.to_string());
                prop_assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)));
            }
        }
    }
}
