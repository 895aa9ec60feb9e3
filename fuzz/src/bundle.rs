//! Configurations of bundles, which `skiff-oci` is given.

use std::path::{Component, Path};

use oci_spec::runtime::Spec;
use skiff_runtime::{Error, bundle};
use skiff_seccomp::{Profile, Subject, compile};

/// A `config.json`: refused with the name of a field, or the same once written and read again, as
/// it is kept for the container's life. Its cgroup is below where cgroups are, its profile compiles
/// or is refused.
pub fn bundle_config(data: &[u8]) {
    // The description of a further process has the same text as its source.
    refused_by_field(bundle::process(data).err());
    let spec = match bundle::configuration(data) {
        Ok(spec) => spec,
        Err(error) => return refused_by_field(Some(error)),
    };
    let json = serde_json::to_vec(&spec).expect("a configuration is JSON");
    assert_eq!(bundle::configuration(&json).expect("taken before"), spec);
    is_a_cgroup_below(&spec);
    let linux = spec.linux().as_ref();
    let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return;
    };
    if let Ok(profile) = Profile::of(seccomp) {
        let subject = Subject {
            capabilities: profile.capabilities(),
            kernel: (6, 1),
        };
        // Its answer is one of the two; that there is one is what is tried.
        let _ = compile(&profile, &subject);
    }
}

fn refused_by_field(error: Option<Error>) {
    match error {
        None => {}
        Some(Error::Invalid { field, problem }) => {
            assert!(
                !field.is_empty() && !problem.is_empty(),
                "{field}: {problem}"
            );
        }
        Some(other) => panic!("{other}"),
    }
}

fn is_a_cgroup_below(spec: &Spec) {
    let top = Path::new("/sys/fs/cgroup");
    match bundle::cgroup(spec, "id", top) {
        Ok(cgroup) => {
            let inner = cgroup.strip_prefix(top).expect("below the top");
            let plain = |part| matches!(part, Component::Normal(_));
            assert!(
                inner != Path::new("") && inner.components().all(plain),
                "{inner:?}"
            );
        }
        error => refused_by_field(error.err()),
    }
}
