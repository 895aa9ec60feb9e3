//! What a host's policy says of containers: `contexts/lxc_contexts` in the policy's directory, whose
//! name is in /etc/selinux/config (selinux_config(5), lxc_contexts(5)).

use super::label::{Label, LabelError};

/// The type of what is not confined.
const UNCONFINED: &str = "spc_t";

/// Labels from which those of containers are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    /// Processes.
    pub process: Label,
    /// Files that a container may write.
    pub file: Label,
    /// Processes that are not to be confined; `None` where the policy has no type for them.
    pub unconfined: Option<Label>,
}

/// A file that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextsError {
    /// A key is missing.
    #[error("it has no key {0:?}")]
    Missing(&'static str),
    /// The value of a key is no label.
    #[error("{0}: {1}")]
    Label(&'static str, LabelError),
}

impl Contexts {
    /// Reads lxc_contexts: `key = "label"`, one a line, and comments after `#`. Keys for other kinds of
    /// containers are passed over, and of two lines with one key the last counts.
    pub fn parse(text: &str) -> Result<Self, ContextsError> {
        let label = |key: &'static str| {
            let value = value(text, key).ok_or(ContextsError::Missing(key))?;
            value
                .parse::<Label>()
                .map_err(|error| ContextsError::Label(key, error))
        };
        let process = label("process")?;
        Ok(Self {
            unconfined: Some(Label {
                kind: UNCONFINED.into(),
                ..process.clone()
            }),
            process,
            file: label("file")?,
        })
    }
}

/// The policy that /etc/selinux/config names, which is the name of its directory.
pub fn policy_name(text: &str) -> Option<&str> {
    let name = value(text, "SELINUXTYPE")?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let fits = !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_name);
    fits.then_some(name)
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    });
    lines.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEDORA: &str = "process = \"system_u:system_r:container_t:s0\"\n\
        content = \"system_u:object_r:virt_var_lib_t:s0\"\n\
        file = \"system_u:object_r:container_file_t:s0\"\n\
        ro_file=\"system_u:object_r:container_ro_file_t:s0\"\n\
        sandbox_kvm_process = \"system_u:system_r:svirt_qemu_net_t:s0\"\n";

    #[test]
    fn contexts_of_a_policy_are_read() {
        let contexts = Contexts::parse(FEDORA).unwrap();
        assert_eq!(
            contexts.process.to_string(),
            "system_u:system_r:container_t:s0"
        );
        assert_eq!(
            contexts.file.to_string(),
            "system_u:object_r:container_file_t:s0"
        );
        let unconfined = contexts.unconfined.unwrap();
        assert_eq!(unconfined.to_string(), "system_u:system_r:spc_t:s0");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = |text: &str| Contexts::parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "it has no key \"process\"");
        assert_eq!(error("process = \"u:r:t\""), "it has no key \"file\"");
        let wrong = error("process = \"u:r:t\"\nfile = \"nothing\"\n");
        assert!(wrong.starts_with("file: \"nothing\""), "{wrong}");
    }

    #[test]
    fn the_policy_is_named_by_the_last_line() {
        let text = "# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=minimum\n SELINUXTYPE = targeted # x\n";
        assert_eq!(policy_name(text), Some("targeted"));
        for bad in [
            "",
            "SELINUXTYPE=",
            "SELINUXTYPE=../x",
            "SELINUXTYPE=.",
            "SELINUXTYPE=a/b",
        ] {
            assert_eq!(policy_name(bad), None, "{bad}");
        }
    }
}
