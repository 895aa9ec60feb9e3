//! Command, environment, working directory and capabilities.

use oci_spec::runtime::Capability as Cap;
use skiff_cri::v1::{Capability, KeyValue};
use skiff_spec::exec_process;

use crate::case::Case;

fn args(command: &[&str], args: &[&str], entrypoint: &[&str], cmd: &[&str]) -> Option<Vec<String>> {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    let mut case = Case::plain();
    case.config.command = words(command);
    case.config.args = words(args);
    case.image.entrypoint = words(entrypoint);
    case.image.cmd = words(cmd);
    case.build().ok()?.process().clone()?.args().clone()
}

#[test]
fn command_replaces_entrypoint_and_args_replace_cmd() {
    for (command, arguments, expected) in [
        (&[][..], &[][..], &["entry", "cmd"][..]),
        (&["c"], &[], &["c"]),
        (&[], &["a"], &["entry", "a"]),
        (&["c"], &["a"], &["c", "a"]),
    ] {
        let got = args(command, arguments, &["entry"], &["cmd"]).unwrap();
        assert_eq!(got, expected, "{command:?} {arguments:?}");
    }
    assert_eq!(args(&[], &[], &[""], &["cmd"]).unwrap(), ["cmd"]);
    assert_eq!(args(&[], &[], &[], &[]), None);
    assert_eq!(args(&["a\0b"], &[], &[], &[]), None);
}

fn env(case: &Case) -> Vec<String> {
    case.spec()
        .process()
        .clone()
        .unwrap()
        .env()
        .clone()
        .unwrap()
}

#[test]
fn last_value_of_a_variable_wins() {
    let mut case = Case::plain();
    case.image.env = vec!["A=image".into(), "B=image".into(), "HOSTNAME=image".into()];
    let entry = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: value.into(),
    };
    case.config.envs = vec![entry("B", "1"), entry("B", "2=3"), entry("C", "")];
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = [
        path,
        "HOSTNAME=image",
        "HOME=/root",
        "A=image",
        "B=2=3",
        "C=",
    ];
    assert_eq!(env(&case), expected);
}

#[test]
fn variables_that_cannot_be_passed_are_refused() {
    for (key, value, field) in [
        ("", &b"x"[..], "envs[0].key"),
        ("A=B", b"x", "envs[0].key"),
        ("A\0", b"x", "envs[0].key"),
        ("A", b"\xff", "envs[0].value"),
        ("A", b"a\0b", "envs[0].value"),
    ] {
        let mut case = Case::plain();
        case.config.envs = vec![KeyValue {
            key: key.into(),
            value: value.into(),
        }];
        assert_eq!(case.refused(), field);
    }
}

#[test]
fn the_value_of_a_refused_variable_is_not_told() {
    let mut case = Case::plain();
    case.config.envs = vec![KeyValue {
        key: "TOKEN".into(),
        value: b"s3cret\xff".into(),
    }];
    assert!(!case.build().unwrap_err().to_string().contains("s3cret"));
}

#[test]
fn working_directory_is_the_requests_or_the_images_or_the_root() {
    let cwd = |request: &str, image: &str| {
        let mut case = Case::plain();
        case.config.working_dir = request.into();
        case.image.working_dir = image.into();
        case.build()
            .map(|spec| spec.process().clone().unwrap().cwd().display().to_string())
    };
    assert_eq!(cwd("/a", "/b").unwrap(), "/a");
    assert_eq!(cwd("", "/b").unwrap(), "/b");
    assert_eq!(cwd("", "").unwrap(), "/");
    assert_eq!(cwd("a", "/b").unwrap_err().field(), "working_dir");
    assert_eq!(cwd("", "b").unwrap_err().field(), "image working directory");
}

#[test]
fn exec_gets_a_terminal_of_its_own_kind() {
    let mut case = Case::plain();
    case.config.tty = true;
    let process = exec_process(&case.spec(), &["ls".into()], false).unwrap();
    assert_eq!(process.terminal(), Some(false));
    case.config.tty = false;
    let process = exec_process(&case.spec(), &["ls".into()], true).unwrap();
    assert!(
        process
            .env()
            .as_ref()
            .unwrap()
            .contains(&"TERM=xterm".to_owned())
    );
}

fn bounding(add: &[&str], drop: &[&str]) -> Result<oci_spec::runtime::Capabilities, String> {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    let mut case = Case::plain();
    case.security().capabilities = Some(Capability {
        add_capabilities: words(add),
        drop_capabilities: words(drop),
        ..Default::default()
    });
    let spec = case.build().map_err(|e| e.to_string())?;
    let sets = spec
        .process()
        .clone()
        .unwrap()
        .capabilities()
        .clone()
        .unwrap();
    assert_eq!(sets.bounding(), sets.permitted());
    assert_eq!(sets.bounding(), sets.effective());
    assert!(sets.inheritable().as_ref().unwrap().is_empty());
    assert!(sets.ambient().as_ref().unwrap().is_empty());
    Ok(sets.bounding().clone().unwrap())
}

#[test]
fn all_is_applied_before_single_capabilities() {
    let plain = Case::plain();
    let every = plain.host.bounding.clone();
    assert_eq!(bounding(&[], &[]).unwrap(), plain.defaults.capabilities);
    assert_eq!(bounding(&["All"], &[]).unwrap(), every);
    assert_eq!(bounding(&[], &["ALL"]).unwrap(), [].into());
    assert_eq!(bounding(&["chown"], &["all"]).unwrap(), [Cap::Chown].into());
    let mut fewer = every;
    fewer.remove(&Cap::Chown);
    assert_eq!(bounding(&["ALL"], &["CAP_CHOWN"]).unwrap(), fewer);
    assert_eq!(bounding(&["CHOWN"], &["CHOWN", "ALL"]).unwrap(), [].into());
}

#[test]
fn unknown_and_unavailable_capabilities_are_refused() {
    let field = "linux.security_context.capabilities";
    let unknown = bounding(&["CHOWN", "SUPER"], &[]).unwrap_err();
    assert_eq!(
        unknown,
        format!("{field}.add_capabilities[1]: \"SUPER\" is not a capability")
    );
    assert!(bounding(&[], &["CAP_CAP_CHOWN"]).is_err());
    let missing = bounding(&["SYS_TIME"], &[]).unwrap_err();
    assert!(missing.contains("does not have CAP_SYS_TIME"), "{missing}");
}

#[test]
fn dropping_what_the_host_lacks_is_fine() {
    assert!(bounding(&[], &["SYS_TIME"]).is_ok());
}

#[test]
fn a_privileged_container_has_every_capability_but_those_it_drops() {
    let mut case = Case::plain();
    case.pod_security().privileged = true;
    case.security().privileged = true;
    case.security().capabilities = Some(Capability {
        drop_capabilities: vec!["SYS_ADMIN".into()],
        ..Default::default()
    });
    let spec = case.spec();
    let sets = spec
        .process()
        .clone()
        .unwrap()
        .capabilities()
        .clone()
        .unwrap();
    let mut expected = case.host.bounding.clone();
    expected.remove(&Cap::SysAdmin);
    assert_eq!(sets.bounding().clone().unwrap(), expected);
}

#[test]
fn a_privileged_container_needs_a_privileged_pod() {
    let mut case = Case::plain();
    case.security().privileged = true;
    assert_eq!(case.refused(), "linux.security_context.privileged");
}
