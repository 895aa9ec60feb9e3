//! Labels of pods and containers.

use skiff_cri::v1::{NamespaceMode, SeLinuxOption};
use skiff_spec::selinux::{Contexts, Labels, pod_labels, pod_level};
use skiff_spec::{SeLinux, check_sandbox};

use crate::case::{Case, pid};

const CONTEXTS: &str = "process = \"system_u:system_r:container_t:s0\"\n\
    file = \"system_u:object_r:container_file_t:s0\"\n";
const OWN: &str = "s0:c17,c230";
const FIELD: &str = "linux.security_context.selinux_options";

fn options(user: &str, role: &str, kind: &str, level: &str) -> Option<SeLinuxOption> {
    Some(SeLinuxOption {
        user: user.into(),
        role: role.into(),
        r#type: kind.into(),
        level: level.into(),
    })
}

fn contexts() -> Contexts {
    Contexts::parse(CONTEXTS).unwrap()
}

/// The case on a host with SELinux, its pod labelled.
fn labelled(mut case: Case) -> Case {
    let labels = pod_labels(&case.pod_config, &contexts(), OWN.parse().ok()).unwrap();
    case.pod.labels = Some(labels);
    case.host.selinux = SeLinux::Ready(Box::new(contexts()));
    case
}

/// What the specification says of processes and files.
fn said(case: &Case) -> (Option<String>, Option<String>) {
    let spec = case.spec();
    let process = spec.process().as_ref().unwrap().selinux_label().clone();
    (
        process,
        spec.linux().as_ref().unwrap().mount_label().clone(),
    )
}

fn both(process: &str, files: &str) -> (Option<String>, Option<String>) {
    (Some(process.into()), Some(files.into()))
}

#[test]
fn labels_mean_nothing_where_selinux_is_not_enabled() {
    let mut case = Case::plain();
    case.security().selinux_options = options("", "", "", "s0:c1,c2");
    case.pod_security().selinux_options = options("", "", "", "not even a level");
    assert_eq!(said(&case), (None, None));
    assert!(check_sandbox(&case.pod_config, &case.host).is_ok());
}

#[test]
fn a_policy_without_containers_takes_no_labels_and_needs_none() {
    let mut case = Case::plain();
    case.host.selinux = SeLinux::Unusable("the policy is odd".into());
    assert_eq!(said(&case), (None, None));
    case.security().selinux_options = options("", "", "x_t", "");
    let error = case.build().unwrap_err();
    assert_eq!(error.field(), FIELD);
    assert!(error.to_string().contains("the policy is odd"));
    case.pod_security().selinux_options = options("", "", "x_t", "");
    let error = check_sandbox(&case.pod_config, &case.host).unwrap_err();
    assert_eq!(error.field(), FIELD);
}

#[test]
fn a_container_without_options_has_the_pods_labels() {
    let case = labelled(Case::plain());
    let expected = both(
        "system_u:system_r:container_t:s0:c17,c230",
        "system_u:object_r:container_file_t:s0:c17,c230",
    );
    assert_eq!(said(&case), expected);
    let mut case = Case::plain();
    case.pod_security().selinux_options = options("a_u", "b_r", "c_t", "s0:c5,c6");
    let expected = both(
        "a_u:b_r:c_t:s0:c5,c6",
        "a_u:object_r:container_file_t:s0:c5,c6",
    );
    assert_eq!(said(&labelled(case)), expected);
}

#[test]
fn a_container_with_options_has_the_pods_level_and_nothing_else_of_it() {
    let mut case = Case::plain();
    case.pod_security().selinux_options = options("a_u", "b_r", "c_t", "s0:c5,c6");
    case.security().selinux_options = options("", "", "d_t", "");
    let mut case = labelled(case);
    let expected = both(
        "system_u:system_r:d_t:s0:c5,c6",
        "system_u:object_r:container_file_t:s0:c5,c6",
    );
    assert_eq!(said(&case), expected);
    case.security().selinux_options = options("", "", "", "s0:c8");
    let expected = both(
        "system_u:system_r:container_t:s0:c8",
        "system_u:object_r:container_file_t:s0:c8",
    );
    assert_eq!(said(&case), expected);
}

#[test]
fn what_works_with_the_host_is_not_confined() {
    let files = "system_u:object_r:container_file_t:s0:c17,c230";
    let unconfined = both("system_u:system_r:spc_t:s0", files);
    let mut privileged = Case::plain();
    privileged.pod_security().privileged = true;
    privileged.security().privileged = true;
    privileged.security().selinux_options = options("", "", "c_t", "");
    assert_eq!(said(&labelled(privileged)), unconfined);
    let mut host_ipc = labelled(Case::plain());
    host_ipc.pod.host_ipc = true;
    assert_eq!(said(&host_ipc), unconfined);
    let mut host_pid = Case::plain();
    host_pid.pod_security().namespace_options = Some(pid(NamespaceMode::Node));
    host_pid.security().namespace_options = Some(pid(NamespaceMode::Node));
    let mut host_pid = labelled(host_pid);
    assert_eq!(said(&host_pid), unconfined);
    host_pid.security().selinux_options = options("", "", "c_t", "");
    let asked = both("system_u:system_r:c_t:s0:c17,c230", files);
    assert_eq!(said(&host_pid), asked);
}

#[test]
fn without_a_type_for_it_the_policy_decides_on_what_is_not_confined() {
    let mut case = Case::plain();
    case.pod_security().privileged = true;
    case.security().privileged = true;
    let mut case = labelled(case);
    let none = Contexts {
        unconfined: None,
        ..contexts()
    };
    case.host.selinux = SeLinux::Ready(Box::new(none));
    assert_eq!(said(&case).0, None);
}

#[test]
fn what_cannot_be_part_of_a_label_is_refused_by_its_field() {
    for (name, options) in [
        ("user", options("a:b", "", "", "")),
        ("role", options("", "a\"b", "", "")),
        ("type", options("", "", "a b", "")),
        ("level", options("", "", "", "c1,c2")),
    ] {
        let field = format!("{FIELD}.{name}");
        let mut case = labelled(Case::plain());
        case.security().selinux_options.clone_from(&options);
        assert_eq!(case.refused(), field);
        case.pod_security().selinux_options = options;
        let error = pod_labels(&case.pod_config, &contexts(), None).unwrap_err();
        assert_eq!(error.field(), field);
        assert_eq!(pod_level(&case.pod_config).is_err(), name == "level");
    }
}

#[test]
fn a_policy_without_levels_gives_labels_without_one() {
    let text = CONTEXTS.replace(":s0\"", "\"");
    let contexts = Contexts::parse(&text).unwrap();
    let mut case = Case::plain();
    let Labels { process, files } = pod_labels(&case.pod_config, &contexts, None).unwrap();
    assert_eq!(process.to_string(), "system_u:system_r:container_t");
    assert_eq!(files.to_string(), "system_u:object_r:container_file_t");
    case.pod_security().selinux_options = options("", "", "", "s0:c1,c2");
    let error = pod_labels(&case.pod_config, &contexts, None).unwrap_err();
    assert_eq!(error.field(), format!("{FIELD}.level"));
}
