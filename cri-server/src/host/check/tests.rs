use super::*;
use crate::host::cgroup::Cgroups;
use crate::host::filesystem::Overlay;

fn host() -> Host {
    Host {
        kernel: COMPLETE,
        cgroups: Ok(Cgroups {
            controllers: "cpuset cpu io memory hugetlb pids"
                .split(' ')
                .map(str::to_owned)
                .collect(),
            swap_accounting: true,
        }),
        overlay: Ok(Overlay {
            layer_by_layer: true,
        }),
        seccomp_actions: vec!["errno".into()],
        user_namespaces: Ok(()),
        recursive_read_only: Ok(()),
        bounding: [Capability::SysAdmin].into(),
        selinux: skiff_spec::SeLinux::Disabled,
        apparmor: false,
    }
}

fn worst(findings: &[Finding], name: &str) -> Severity {
    findings
        .iter()
        .filter(|finding| finding.name == name)
        .map(|f| f.severity)
        .max()
        .unwrap()
}

#[test]
fn a_complete_host_is_fine() {
    let findings = kernel(&host());
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity != Severity::Fine && finding.name != "privileges")
        .collect();
    assert_eq!(bad, Vec::<&Finding>::new());
}

#[test]
fn every_fault_has_advice_and_its_severity() {
    type Change = fn(&mut Host);
    for (name, severity, change) in [
        (
            "kernel",
            Severity::Missing,
            (|h| h.kernel.major = 4) as Change,
        ),
        ("kernel", Severity::Warning, |h| h.kernel = OLDEST),
        ("cgroup v2", Severity::Missing, |h| {
            h.cgroups = Err("v1".into())
        }),
        ("cgroup controllers", Severity::Missing, |h| {
            h.cgroups
                .as_mut()
                .unwrap()
                .controllers
                .retain(|name| name != "memory");
        }),
        ("cgroup controllers", Severity::Warning, |h| {
            h.cgroups
                .as_mut()
                .unwrap()
                .controllers
                .retain(|name| name != "hugetlb");
        }),
        ("swap accounting", Severity::Warning, |h| {
            h.cgroups.as_mut().unwrap().swap_accounting = false;
        }),
        ("overlay", Severity::Missing, |h| {
            h.overlay = Err("ENODEV".into())
        }),
        ("overlay", Severity::Warning, |h| {
            h.overlay = Ok(Overlay {
                layer_by_layer: false,
            })
        }),
        ("seccomp", Severity::Warning, |h| h.seccomp_actions.clear()),
        ("user namespaces", Severity::Warning, |h| {
            h.user_namespaces = Err("No space left on device".into())
        }),
        ("privileges", Severity::Missing, |h| h.bounding.clear()),
    ] {
        let mut host = host();
        change(&mut host);
        let findings = kernel(&host);
        assert_eq!(worst(&findings, name), severity, "{name}");
        let silent = findings
            .iter()
            .find(|f| f.severity > Severity::Fine && f.advice.is_empty());
        assert_eq!(silent, None);
    }
}

#[test]
fn a_directory_that_is_not_there_is_judged_by_the_one_above() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("not/yet/there");
    assert_eq!(nearest(&below), dir.path());
    assert_eq!(directory("d", &below).severity, Severity::Fine);
    std::fs::write(dir.path().join("not"), "").unwrap();
    assert_eq!(directory("d", &below).severity, Severity::Missing);
}

#[test]
fn a_shim_must_be_an_executable_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shim");
    assert_eq!(shim(&path).severity, Severity::Missing);
    std::fs::create_dir(&path).unwrap();
    assert_eq!(shim(&path).severity, Severity::Missing);
    assert_eq!(shim(Path::new("/proc/self/exe")).severity, Severity::Fine);
}
