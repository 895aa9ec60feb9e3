//! Seccomp and AppArmor profiles: which of the fields counts, and on which host.

use skiff_cri::v1::SecurityProfile;
use skiff_cri::v1::security_profile::ProfileType;
use skiff_spec::{AppArmor, Profile, SpecError, check_sandbox, exec_process, seccomp_profile};

use crate::case::Case;

fn profile(kind: ProfileType, name: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: name.into(),
    })
}

fn seccomp(case: &mut Case) -> Result<Profile, SpecError> {
    let context = case.security().clone();
    seccomp_profile(Some(&context), &case.host)
}

/// The profile that the container's process would have, or the field at fault.
fn apparmor(case: &Case) -> Result<Option<String>, String> {
    match case.build() {
        Ok(spec) => Ok(spec.process().as_ref().unwrap().apparmor_profile().clone()),
        Err(e) => Err(e.field().to_owned()),
    }
}

fn localhost(name: &str) -> Profile {
    Profile::Localhost(name.into())
}

#[test]
fn seccomp_is_what_is_asked_for_and_nothing_when_nothing_is() {
    let mut case = Case::plain();
    assert_eq!(seccomp_profile(None, &case.host), Ok(Profile::Unconfined));
    assert_eq!(seccomp(&mut case), Ok(Profile::Unconfined));
    for (kind, name, expected) in [
        (ProfileType::Unconfined, "", Profile::Unconfined),
        (ProfileType::RuntimeDefault, "", Profile::RuntimeDefault),
        (ProfileType::Localhost, "/p.json", localhost("/p.json")),
    ] {
        case.security().seccomp = profile(kind, name);
        assert_eq!(seccomp(&mut case), Ok(expected));
    }
    case.security().seccomp = profile(ProfileType::Localhost, "p.json");
    let error = seccomp(&mut case).unwrap_err();
    assert_eq!(
        error.field(),
        "linux.security_context.seccomp.localhost_ref"
    );
}

#[test]
#[expect(deprecated, reason = "old kubelets fill this field")]
fn deprecated_seccomp_field_counts_when_its_successor_is_missing() {
    for (text, expected) in [
        ("", Some(Profile::Unconfined)),
        ("unconfined", Some(Profile::Unconfined)),
        ("runtime/default", Some(Profile::RuntimeDefault)),
        ("docker/default", Some(Profile::RuntimeDefault)),
        ("localhost//p.json", Some(localhost("/p.json"))),
        ("localhost/p.json", None),
        ("strict", None),
    ] {
        let mut case = Case::plain();
        case.security().seccomp_profile_path = text.into();
        assert_eq!(seccomp(&mut case).ok(), expected, "{text}");
        case.security().seccomp = profile(ProfileType::Unconfined, "");
        assert_eq!(seccomp(&mut case), Ok(Profile::Unconfined), "{text}");
    }
}

#[test]
fn a_privileged_container_has_no_seccomp_profile() {
    let mut case = Case::plain();
    case.security().privileged = true;
    case.security().seccomp = profile(ProfileType::Localhost, "/p.json");
    assert_eq!(seccomp(&mut case), Ok(Profile::Unconfined));
}

#[test]
fn a_kernel_without_filters_refuses_profiles_only() {
    let mut case = Case::plain();
    case.host.seccomp = false;
    assert_eq!(seccomp(&mut case), Ok(Profile::Unconfined));
    case.security().seccomp = profile(ProfileType::RuntimeDefault, "");
    assert_eq!(
        seccomp(&mut case).unwrap_err().field(),
        "linux.security_context.seccomp"
    );
}

#[test]
fn apparmor_by_host_and_request() {
    let field = "linux.security_context.apparmor";
    let disabled = AppArmor::Disabled;
    let broken = AppArmor::NoDefault("no parser".into());
    let default = || Ok(Some("skiff-default".to_owned()));
    for (host, asked, expected) in [
        (&disabled, None, Ok(None)),
        (&disabled, profile(ProfileType::Unconfined, ""), Ok(None)),
        (
            &disabled,
            profile(ProfileType::RuntimeDefault, ""),
            Err(field),
        ),
        (&disabled, profile(ProfileType::Localhost, "p"), Err(field)),
        (&broken, None, Ok(None)),
        (
            &broken,
            profile(ProfileType::RuntimeDefault, ""),
            Err(field),
        ),
        (
            &broken,
            profile(ProfileType::Localhost, "p"),
            Ok(Some("p".into())),
        ),
        (
            &AppArmor::Ready,
            profile(ProfileType::Localhost, "localhost/p"),
            Ok(Some("p".into())),
        ),
        (&AppArmor::Ready, None, default()),
        (
            &AppArmor::Ready,
            profile(ProfileType::RuntimeDefault, ""),
            default(),
        ),
        (
            &AppArmor::Ready,
            profile(ProfileType::Unconfined, ""),
            Ok(None),
        ),
        (
            &AppArmor::Ready,
            profile(ProfileType::Localhost, "p"),
            Ok(Some("p".into())),
        ),
        (
            &AppArmor::Ready,
            profile(ProfileType::Localhost, ""),
            Err("linux.security_context.apparmor.localhost_ref"),
        ),
        (
            &AppArmor::Ready,
            profile(ProfileType::Localhost, "p q"),
            Err("linux.security_context.apparmor.localhost_ref"),
        ),
    ] {
        let mut case = Case::plain();
        case.host.apparmor = host.clone();
        case.security().apparmor = asked.clone();
        assert_eq!(
            apparmor(&case),
            expected.map_err(str::to_owned),
            "{host:?} {asked:?}"
        );
    }
}

#[test]
#[expect(deprecated, reason = "old kubelets fill this field")]
fn deprecated_apparmor_field_counts_when_its_successor_is_missing() {
    for (text, expected) in [
        ("", Some("skiff-default")),
        ("runtime/default", Some("skiff-default")),
        ("unconfined", None),
        ("localhost/p", Some("p")),
    ] {
        let mut case = Case::plain();
        case.host.apparmor = AppArmor::Ready;
        case.security().apparmor_profile = text.into();
        assert_eq!(apparmor(&case), Ok(expected.map(str::to_owned)), "{text}");
        case.security().apparmor = profile(ProfileType::Localhost, "new");
        assert_eq!(apparmor(&case), Ok(Some("new".into())), "{text}");
    }
}

#[test]
fn a_privileged_container_has_the_apparmor_profile_it_names_and_no_other() {
    for (asked, expected) in [
        (None, None),
        (profile(ProfileType::RuntimeDefault, ""), None),
        (profile(ProfileType::Localhost, "p"), Some("p".to_owned())),
    ] {
        for host in [AppArmor::Ready, AppArmor::NoDefault("no parser".into())] {
            let mut case = Case::plain();
            case.host.apparmor = host;
            case.pod_security().privileged = true;
            case.security().privileged = true;
            case.security().apparmor = asked.clone();
            assert_eq!(apparmor(&case), Ok(expected.clone()), "{asked:?}");
        }
    }
}

#[test]
fn an_exec_has_the_containers_profile() {
    let mut case = Case::plain();
    case.host.apparmor = AppArmor::Ready;
    let process = exec_process(&case.spec(), &["sh".into()], false).unwrap();
    assert_eq!(process.apparmor_profile().as_deref(), Some("skiff-default"));
}

#[test]
fn a_pods_own_profiles_are_read_and_confine_nobody() {
    for kind in [
        ProfileType::RuntimeDefault,
        ProfileType::Unconfined,
        ProfileType::Localhost,
    ] {
        let mut case = Case::plain();
        case.pod_security().seccomp = profile(kind, "/p");
        case.pod_security().apparmor = profile(kind, "p");
        check_sandbox(&case.pod_config, &case.host).unwrap();
    }
    let mut case = Case::plain();
    case.pod_security().seccomp = Some(SecurityProfile {
        profile_type: 7,
        localhost_ref: String::new(),
    });
    let error = check_sandbox(&case.pod_config, &case.host).unwrap_err();
    assert_eq!(error.field(), "linux.security_context.seccomp");
}
