//! A profile in words of the runtime-spec, for a runtime that makes the program itself.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::compile::{CompileError, architectures};
use crate::profile::{Profile, Rule};
use crate::select::Subject;

impl Profile {
    /// The rules that concern `subject` on this machine, without conditions. What only
    /// [`crate::compile`] adds, for system calls that libseccomp does not know, is not in it.
    pub fn plain(&self, subject: &Subject) -> Result<LinuxSeccomp, CompileError> {
        let arches = architectures(self)?;
        let rules = self.syscalls.iter();
        let meant: Vec<Value> = rules
            .filter(|rule| subject.is_meant(rule, arches[0]))
            .map(plain)
            .collect();
        let names: Vec<_> = arches.into_iter().map(Arch::scmp_name).collect();
        let mut seccomp = json!({
            "defaultAction": self.default_action,
            "architectures": names,
            "syscalls": meant,
        });
        if let Some(errno) = self.default_errno_ret {
            seccomp["defaultErrnoRet"] = errno.into();
        }
        if !self.flags.is_empty() {
            seccomp["flags"] = json!(self.flags);
        }
        if let Some(listener) = self.listener() {
            seccomp["listenerPath"] = json!(listener.path);
            seccomp["listenerMetadata"] = listener.metadata.into();
        }
        serde_json::from_value(seccomp).map_err(CompileError::Plain)
    }
}

fn plain(rule: &Rule) -> Value {
    let mut plain = json!({
        "names": rule.names().collect::<Vec<_>>(),
        "action": rule.action,
    });
    if let Some(errno) = rule.errno_ret {
        plain["errnoRet"] = errno.into();
    }
    if !rule.args.is_empty() {
        plain["args"] = json!(rule.args);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile, runtime_default};

    fn subject(capabilities: &[&str]) -> Subject {
        Subject {
            capabilities: capabilities.iter().map(|name| (*name).into()).collect(),
            kernel: (6, 18),
        }
    }

    #[test]
    fn a_plain_profile_compiles_to_the_same_program() {
        // The newest call that the profile names needs CAP_SYS_ADMIN. Without it the plain profile
        // does not name it, and what counts as newer than the profile begins one call earlier.
        for capabilities in [&["CAP_SYS_ADMIN"][..], &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]] {
            let subject = subject(capabilities);
            let plain = runtime_default().plain(&subject).unwrap();
            let again = Profile::of(&plain).unwrap();
            assert_eq!(
                compile(&again, &subject).unwrap(),
                compile(runtime_default(), &subject).unwrap()
            );
            assert!(again.capabilities().is_empty());
        }
    }

    #[test]
    fn what_a_capability_allows_is_there_only_with_it() {
        let names = |capabilities: &[&str]| {
            let plain = runtime_default().plain(&subject(capabilities)).unwrap();
            let json = serde_json::to_string(&plain).unwrap();
            json.contains("\"fsmount\"")
        };
        assert!(!names(&[]));
        assert!(names(&["CAP_SYS_ADMIN"]));
    }
}
