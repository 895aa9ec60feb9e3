//! What our own profile decides.

use skiff_seccomp::{Filter, compile, runtime_default};

use super::machine::{ALLOW, ENOSYS, EPERM};
use super::{ask, subject};

fn ours(capabilities: &[&str]) -> Filter {
    compile(runtime_default(), &subject(capabilities)).unwrap()
}

const CLONE_NEWUSER: u64 = 0x1000_0000;

#[test]
fn it_fits_the_kernel_and_is_a_tree() {
    let filter = ours(&[]);
    assert!(
        filter.program.len() / 8 < 4096,
        "{}",
        filter.program.len() / 8
    );
    assert_eq!((filter.flags, filter.listener), (0, None));
}

#[test]
fn what_containers_need_is_allowed() {
    let filter = ours(&[]);
    for (name, number) in [
        ("read", 0),
        ("execve", 59),
        ("ptrace", 101),
        ("arch_prctl", 158),
        ("openat2", 437),
        ("futex_waitv", 449),
        ("fchmodat2", 452),
        ("mseal", 462),
    ] {
        assert_eq!(ask(&filter, number, &[]), ALLOW, "{name}");
    }
}

#[test]
fn what_kernels_are_attacked_by_is_not() {
    let filter = ours(&[]);
    for (name, number) in [
        ("mount", 165),
        ("pivot_root", 155),
        ("swapon", 167),
        ("reboot", 169),
        ("init_module", 175),
        ("kexec_load", 246),
        ("add_key", 248),
        ("request_key", 249),
        ("keyctl", 250),
        ("unshare", 272),
        ("perf_event_open", 298),
        ("open_by_handle_at", 304),
        ("setns", 308),
        ("finit_module", 313),
        ("bpf", 321),
        ("userfaultfd", 323),
        ("io_uring_setup", 425),
        ("io_uring_enter", 426),
        ("fsopen", 430),
        ("listmount", 458),
    ] {
        assert_eq!(ask(&filter, number, &[]), EPERM, "{name}");
    }
    assert_eq!(
        ask(&filter, 471, &[]),
        ENOSYS,
        "a call after the profile's time"
    );
}

#[test]
fn namespaces_need_a_capability() {
    let (filter, admin) = (ours(&[]), ours(&["CAP_SYS_ADMIN"]));
    assert_eq!(
        ask(&filter, 56, &[17]),
        ALLOW,
        "clone without flags is fork"
    );
    assert_eq!(ask(&filter, 56, &[CLONE_NEWUSER | 17]), EPERM);
    assert_eq!(ask(&filter, 435, &[]), ENOSYS, "clone3");
    assert_eq!(ask(&admin, 56, &[CLONE_NEWUSER | 17]), ALLOW);
    assert_eq!(ask(&admin, 435, &[]), ALLOW, "clone3");
}

#[test]
fn capabilities_bring_their_calls() {
    for (capability, number) in [
        ("CAP_SYS_ADMIN", 165),
        ("CAP_SYS_ADMIN", 272),
        ("CAP_BPF", 321),
        ("CAP_PERFMON", 298),
        ("CAP_SYSLOG", 103),
        ("CAP_SYS_TIME", 164),
        ("CAP_SYS_CHROOT", 161),
        ("CAP_SYS_BOOT", 169),
        ("CAP_SYS_MODULE", 175),
        ("CAP_SYS_NICE", 237),
        ("CAP_SYS_PACCT", 163),
        ("CAP_SYS_PTRACE", 438),
        ("CAP_SYS_RAWIO", 172),
        ("CAP_SYS_TTY_CONFIG", 153),
        ("CAP_DAC_READ_SEARCH", 304),
    ] {
        assert_eq!(
            ask(&ours(&[]), number, &[]),
            EPERM,
            "{number} without {capability}"
        );
        assert_eq!(
            ask(&ours(&[capability]), number, &[]),
            ALLOW,
            "{number} with {capability}"
        );
    }
}

#[test]
fn sockets_that_leave_the_namespace_are_denied() {
    let filter = ours(&[]);
    for (family, result) in [
        (1, ALLOW),
        (2, ALLOW),
        (38, EPERM),
        (39, ALLOW),
        (40, EPERM),
        (44, ALLOW),
    ] {
        assert_eq!(ask(&filter, 41, &[family, 1, 0]), result, "family {family}");
    }
}

#[test]
fn personality_only_to_what_changes_nothing() {
    let filter = ours(&[]);
    for (persona, result) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x2_0008, ALLOW),
        (0xffff_ffff, ALLOW),
        (0x4_0000, EPERM),
    ] {
        assert_eq!(ask(&filter, 135, &[persona]), result, "{persona:#x}");
    }
}

#[test]
fn it_depends_on_these_capabilities_alone() {
    let names = runtime_default().capabilities();
    assert!(names.is_sorted() && names.len() == 14, "{names:?}");
}
