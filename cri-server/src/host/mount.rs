//! The host's mounts: whether they are such that a volume's propagation can be had
//! (mount_namespaces(7)), and what they are of.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use skiff_cri::v1::{ContainerConfig, MountPropagation};
use skiff_spec::{SpecError, image_of};

const MOUNTS: &str = "/proc/self/mountinfo";

/// Refuses volumes whose mounts could not propagate as asked: from a private mount of the host
/// nothing reaches a container, and nothing comes back but to a shared one. Reads nothing for
/// private volumes.
pub fn check_propagation(config: &ContainerConfig) -> Result<(), SpecError> {
    let mut mounts = None;
    for (i, mount) in config.mounts.iter().enumerate() {
        let both = match MountPropagation::try_from(mount.propagation) {
            Ok(MountPropagation::PropagationBidirectional) => true,
            Ok(MountPropagation::PropagationHostToContainer) => false,
            _ => continue,
        };
        if image_of(mount).is_some() {
            continue;
        }
        let failed = |e: io::Error| {
            let reason = format!("look for the mount of {}: {e}", mount.host_path);
            SpecError::invalid(format!("mounts[{i}].host_path"), reason)
        };
        let id = mount_id(Path::new(&mount.host_path)).map_err(failed)?;
        let text = match &mounts {
            Some(text) => text,
            None => mounts.insert(fs::read_to_string(MOUNTS).map_err(failed)?),
        };
        let Some(found) = find(text, id) else {
            continue;
        };
        let kind = match (both, found.shared, found.slave) {
            (_, true, _) | (false, _, true) => continue,
            (true, ..) => "shared",
            (false, ..) => "shared or slave",
        };
        let (path, at) = (&mount.host_path, found.mount_point);
        let reason = format!("{path} is on {at}, which is not a {kind} mount of the host");
        return Err(SpecError::invalid(
            format!("mounts[{i}].propagation"),
            reason,
        ));
    }
    Ok(())
}

/// The device of the file system that a path is on, such as `/dev/vda1`, or whatever else the mount
/// table has in its place; `None` when it is not there.
pub fn device(path: &Path) -> Option<String> {
    let id = mount_id(path).ok()?;
    source(&fs::read_to_string(MOUNTS).ok()?, id).map(str::to_owned)
}

/// What a mount is of: the second word after the dash.
fn source(mounts: &str, id: u64) -> Option<&str> {
    let mut words = line(mounts, id)?.split(' ').skip_while(|word| *word != "-");
    words.nth(2)
}

/// The line of a mount, which begins with its id.
fn line(mounts: &str, id: u64) -> Option<&str> {
    let id = id.to_string();
    mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(&*id))
}

/// The mount that a path is on; a link is followed.
fn mount_id(path: &Path) -> io::Result<u64> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    mount_point: &'a str,
    shared: bool,
    slave: bool,
}

/// A mount in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)): its id, four fields, the
/// mount point being the last of them, options, and then words of propagation up to a dash.
fn find(mounts: &str, id: u64) -> Option<Found<'_>> {
    let mut fields = line(mounts, id)?.split(' ').skip(4);
    let mount_point = fields.next()?;
    let words: Vec<_> = fields.skip(1).take_while(|word| *word != "-").collect();
    Some(Found {
        mount_point,
        shared: words.iter().any(|word| word.starts_with("shared:")),
        slave: words.iter().any(|word| word.starts_with("master:")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skiff_cri::v1::Mount;

    const TEXT: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /dev rw - devtmpfs udev rw
23 21 0:6 / /slave rw master:7 propagate_from:1 - tmpfs - rw
24 21 0:7 / /both\\040one rw shared:9 master:7 - tmpfs shared:1 rw
2 1 0:8 / /two rw - tmpfs shared:1 rw
";

    #[test]
    fn propagation_is_what_stands_before_the_dash() {
        let of = |id| find(TEXT, id).map(|found| (found.shared, found.slave));
        assert_eq!(of(21), Some((true, false)));
        assert_eq!(of(22), Some((false, false)));
        assert_eq!(of(23), Some((false, true)));
        assert_eq!(of(24), Some((true, true)));
        assert_eq!(of(2), Some((false, false)));
        assert_eq!(of(1), None);
        assert_eq!(source(TEXT, 21), Some("/dev/sda1"));
        assert_eq!((source(TEXT, 23), source(TEXT, 1)), (Some("-"), None));
        assert_eq!(find(TEXT, 24).unwrap().mount_point, "/both\\040one");
    }

    #[test]
    fn a_private_volume_is_not_looked_at() {
        let mount = Mount {
            host_path: "/no/such/path".into(),
            ..Default::default()
        };
        let mut config = ContainerConfig {
            mounts: vec![mount],
            ..Default::default()
        };
        check_propagation(&config).unwrap();
        config.mounts[0].set_propagation(MountPropagation::PropagationBidirectional);
        let error = check_propagation(&config).unwrap_err();
        assert_eq!(error.field(), "mounts[0].host_path");
    }

    proptest! {
        #[test]
        fn any_text_is_searched(text: String, id: u64) {
            let _ = (find(&text, id), source(&text, id));
        }
    }
}
