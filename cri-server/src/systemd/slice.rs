//! Names of slices and where their cgroups are (systemd.slice(5)). Pure.

use std::path::PathBuf;

/// The suffix of a slice's name.
const SUFFIX: &str = ".slice";
/// The slice above all others: the root of the hierarchy.
const ROOT: &str = "-.slice";

/// The name of the slice that a `cgroup_parent` names, alone
/// (`kubepods-burstable-podx.slice`) or as the path of its cgroup
/// (`/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice`).
pub(super) fn name(parent: &str) -> Result<&str, String> {
    let above = parent.trim_matches('/');
    let (above, name) = above.rsplit_once('/').unwrap_or(("", above));
    let path = path(name)?;
    let expected = path.parent().map(|parent| parent.as_os_str());
    if above.is_empty() || expected.is_some_and(|expected| expected == above) {
        return Ok(name);
    }
    Err(format!(
        "{parent:?} is not where systemd has {name}: that is {:?}",
        path.display().to_string()
    ))
}

/// The cgroup of a slice, relative to the root of the hierarchy: each `-` in its name begins
/// another level.
pub(super) fn path(name: &str) -> Result<PathBuf, String> {
    if name == ROOT {
        return Ok(PathBuf::new());
    }
    let refused = || {
        format!(
            "{name:?} is not the name of a slice, such as kubepods-burstable.slice; with the \
             cgroup driver \"systemd\" the kubelet must use that driver, too"
        )
    };
    let stem = name.strip_suffix(SUFFIX).ok_or_else(refused)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let mut path = PathBuf::new();
    let mut prefix = String::new();
    for part in stem.split('-') {
        if part.is_empty() || !part.chars().all(plain) {
            return Err(refused());
        }
        if !prefix.is_empty() {
            prefix.push('-');
        }
        prefix.push_str(part);
        path.push(format!("{prefix}{SUFFIX}"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_spellings_name_the_same_slice() {
        let name_alone = "kubepods-burstable-pod1_2.slice";
        let path_of_it = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        for parent in [name_alone, path_of_it, path_of_it.trim_start_matches('/')] {
            assert_eq!(name(parent), Ok(name_alone));
        }
        let path = path(name_alone).unwrap();
        assert_eq!(path.to_str(), path_of_it.strip_prefix('/'));
        assert_eq!(super::path("-.slice"), Ok(PathBuf::new()));
    }

    #[test]
    fn what_is_no_slice_or_somewhere_else_is_refused() {
        for parent in [
            "/kubepods/burstable/podx",
            "kubepods",
            ".slice",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "..slice/../x",
            "/other.slice/kubepods-burstable.slice",
            "/a.slice/../../etc",
            "a b.slice",
        ] {
            assert!(name(parent).is_err(), "{parent}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_as_deep_as_its_name_has_parts_and_leads_back(
            parts in proptest::collection::vec("[a-z0-9_]{1,6}", 1..6),
        ) {
            let slice = format!("{}.slice", parts.join("-"));
            let path = path(&slice).unwrap();
            prop_assert_eq!(path.components().count(), parts.len());
            prop_assert_eq!(name(path.to_str().unwrap()), Ok(&*slice));
        }

        #[test]
        fn no_parent_leads_out_of_the_hierarchy(parent in "[a-z./-]{0,24}(\\.slice)?") {
            if let Ok(name) = name(&parent) {
                let inside = path(name).unwrap();
                prop_assert!(inside.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }
}
