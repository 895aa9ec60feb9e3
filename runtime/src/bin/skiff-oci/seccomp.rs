//! `linux.seccomp` of a configuration, compiled.

use std::path::Path;

use anyhow::{Context, Result};
use skiff_runtime::oci_spec::runtime::Spec;
use skiff_runtime::seccomp::{Filter, Listener};
use skiff_seccomp::{Profile, Subject, compile};

/// The filter of a container's processes; `None` when the configuration has no profile.
pub(crate) fn filter(spec: &Spec, id: &str, bundle: &Path) -> Result<Option<Filter>> {
    let linux = spec.linux().as_ref();
    let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    let profile = Profile::of(seccomp).context("linux.seccomp")?;
    let process = spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    let bounding = sets.and_then(|sets| sets.bounding().as_ref());
    let subject = Subject {
        capabilities: bounding
            .into_iter()
            .flatten()
            .map(|c| format!("CAP_{c}"))
            .collect(),
        kernel: kernel(&rustix::system::uname().release().to_string_lossy()),
    };
    let filter = compile(&profile, &subject).context("compile linux.seccomp")?;
    let listener = filter.listener.map(|listener| Listener {
        agent: listener.path,
        metadata: listener.metadata,
        container: id.to_owned(),
        bundle: bundle.to_owned(),
    });
    Ok(Some(Filter::new(&filter.program, filter.flags, listener)?))
}

/// Major and minor of a release such as `6.12.4-arm64`; what cannot be read is 0.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_the_version() {
        assert_eq!(kernel("6.12.4-arm64"), (6, 12));
        assert_eq!(kernel("7.2"), (7, 2));
        assert_eq!(kernel(""), (0, 0));
    }

    #[test]
    fn a_configuration_without_a_profile_has_no_filter() {
        let mut spec = Spec::default();
        assert!(filter(&spec, "c", Path::new("/b")).unwrap().is_none());
        let seccomp = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
        });
        let mut linux = spec.linux().clone().unwrap();
        linux.set_seccomp(Some(serde_json::from_value(seccomp).unwrap()));
        spec.set_linux(Some(linux));
        assert!(filter(&spec, "c", Path::new("/b")).unwrap().is_some());
    }
}
