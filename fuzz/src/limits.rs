//! Changes of limits, and what a cgroup's files say of them.

use oci_spec::runtime::LinuxResources;
use prost::Message;
use skiff_cri::v1::LinuxContainerResources;
use skiff_spec::{HostFeatures, report_resources, update_resources};

use crate::sections;

/// What a container was given, a change of it, and the text of every file of its cgroup. A change that
/// is taken is the same when it comes again, and nothing asked for changes nothing. What has no file
/// is reported as it was asked for.
pub fn limits_change(data: &[u8]) {
    let [given, change, files] = sections(data);
    let (Ok(given), Ok(change)) = (
        LinuxContainerResources::decode(given),
        LinuxContainerResources::decode(change),
    ) else {
        return;
    };
    let host = host();
    let nothing = LinuxContainerResources::default();
    let Ok((_, given)) = update_resources(&nothing, &given, &host) else {
        return;
    };
    let (writes, same) = update_resources(&given, &nothing, &host).expect("a change of nothing");
    assert_eq!((&writes, &same), (&LinuxResources::default(), &given));
    if let Ok((writes, merged)) = update_resources(&given, &change, &host) {
        let again = update_resources(&merged, &change, &host).expect("taken before");
        assert_eq!(again, (writes, merged), "{change:?}");
    }
    assert_eq!(report_resources(&given, |_| None), given);
    let text = String::from_utf8_lossy(files);
    let told = report_resources(&given, |_| Some(text.clone().into_owned()));
    assert_eq!(told.oom_score_adj, given.oom_score_adj);
    assert!(told.unified.keys().eq(given.unified.keys()));
}

fn host() -> HostFeatures {
    HostFeatures {
        seccomp: false,
        apparmor: skiff_spec::AppArmor::Disabled,
        bounding: Default::default(),
        recursive_read_only: false,
        swap_accounting: true,
        hugetlb: true,
        selinux: skiff_spec::selinux::SeLinux::Disabled,
        user_namespaces: Err("of no concern here".into()),
    }
}
