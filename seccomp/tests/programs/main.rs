//! Profiles compiled, and their programs asked about system calls. Numbers are those of x86-64.
#![cfg(target_arch = "x86_64")]

mod machine;
mod ours;

use machine::{
    ALLOW, Call, ENOSYS, EPERM, KILL_PROCESS, KILL_THREAD, LOG, NOTIFY, TRACE, TRAP, X86, X86_64,
    run,
};
use proptest::prelude::*;
use skiff_seccomp::{ACTIONS, FLAGS, Filter, OPERATORS, Profile, Subject, compile};

fn subject(capabilities: &[&str]) -> Subject {
    Subject {
        capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        kernel: (6, 1),
    }
}

fn filter(json: &str, capabilities: &[&str]) -> Filter {
    let profile = Profile::parse(json.as_bytes()).unwrap();
    compile(&profile, &subject(capabilities)).unwrap()
}

fn ask(filter: &Filter, number: u32, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let call = Call {
        arch: X86_64,
        number,
        args: all,
    };
    run(&filter.program, call)
}

fn refused(json: &str) -> String {
    Profile::parse(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_action_is_what_the_kernel_is_told() {
    for (action, result) in [
        ("SCMP_ACT_KILL", KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_TRAP", TRAP),
        ("SCMP_ACT_ERRNO", EPERM),
        ("SCMP_ACT_TRACE", TRACE | 1),
        ("SCMP_ACT_LOG", LOG),
        ("SCMP_ACT_NOTIFY", NOTIFY),
    ] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/agent",
                "syscalls":[{{"names":["uname","fchmodat2"],"action":"{action}"}}]}}"#
        );
        let filter = filter(&json, &[]);
        assert_eq!(ask(&filter, 63, &[]), result, "{action}");
        assert_eq!(
            ask(&filter, 452, &[]),
            result,
            "{action} of a call libseccomp may not know"
        );
        assert_eq!(ask(&filter, 39, &[]), ALLOW, "{action}");
    }
}

#[test]
fn errno_is_the_rules_or_the_defaults() {
    let filter = filter(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"syscalls":[
            {"names":["uname"],"action":"SCMP_ACT_ERRNO","errnoRet":22},
            {"names":["getpid"],"action":"SCMP_ACT_ERRNO"},
            {"names":["mkdir"],"action":"SCMP_ACT_ALLOW"}]}"#,
        &[],
    );
    assert_eq!(ask(&filter, 63, &[]), 0x0005_0000 | 22);
    assert_eq!(ask(&filter, 39, &[]), EPERM);
    assert_eq!(ask(&filter, 83, &[]), ALLOW);
    assert_eq!(ask(&filter, 2, &[]), 0x0005_0000 | 13);
}

#[test]
fn every_operator_compares_all_64_bits() {
    let big = 1 << 40 | 5;
    for (op, value, two, yes, no) in [
        ("EQ", big, 0, vec![big], vec![5, big + 1]),
        ("NE", big, 0, vec![5, big + 1], vec![big]),
        ("LT", big, 0, vec![0, big - 1], vec![big, u64::MAX]),
        ("LE", big, 0, vec![0, big], vec![big + 1]),
        ("GE", big, 0, vec![big, u64::MAX], vec![big - 1, 5]),
        ("GT", big, 0, vec![big + 1], vec![big, 5]),
        (
            "MASKED_EQ",
            0xff00,
            0x1200,
            vec![0x1200, 0x3_1234],
            vec![0x1300, 0],
        ),
    ] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["ioctl"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":1,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}]}}]}}"#
        );
        let filter = filter(&json, &[]);
        for argument in yes {
            assert_eq!(
                ask(&filter, 16, &[9, argument]),
                ALLOW,
                "{op} {argument:#x}"
            );
        }
        for argument in no {
            assert_eq!(
                ask(&filter, 16, &[9, argument]),
                EPERM,
                "{op} {argument:#x}"
            );
        }
    }
}

#[test]
fn conditions_of_different_arguments_are_all_needed_and_of_one_are_alternatives() {
    let json = |index: u32| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[
                {{"index":0,"value":1,"op":"SCMP_CMP_EQ"}},{{"index":{index},"value":2,"op":"SCMP_CMP_EQ"}}]}}]}}"#
        )
    };
    let (both, either) = (filter(&json(1), &[]), filter(&json(0), &[]));
    assert_eq!(ask(&both, 16, &[1, 2]), ALLOW);
    assert_eq!(ask(&both, 16, &[1, 3]), EPERM);
    assert_eq!(ask(&either, 16, &[1]), ALLOW);
    assert_eq!(ask(&either, 16, &[2]), ALLOW);
    assert_eq!(ask(&either, 16, &[3]), EPERM);
}

#[test]
fn other_architectures_are_killed_unless_named() {
    let rules = r#""syscalls":[{"names":["uname","fchmodat2"],"action":"SCMP_ACT_ALLOW"}]"#;
    let old = |number| Call {
        arch: X86,
        number,
        args: [0; 6],
    };
    let native = filter(
        &format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO",{rules}}}"#),
        &[],
    );
    assert_eq!(run(&native.program, old(122)), KILL_THREAD);
    for named in [
        r#""architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"]"#,
        r#""archMap":[{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
            {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}]"#,
    ] {
        let both = filter(
            &format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO",{named},{rules}}}"#),
            &[],
        );
        assert_eq!(ask(&both, 63, &[]), ALLOW);
        assert_eq!(run(&both.program, old(122)), ALLOW);
        assert_eq!(run(&both.program, old(452)), ALLOW);
        assert_eq!(run(&both.program, old(63)), EPERM, "63 is dup2 there");
        assert_eq!(run(&both.program, old(900)), ENOSYS);
        let x32 = 0x4000_0000 | 63;
        assert_ne!(ask(&both, x32, &[]), ALLOW, "x32 was not named");
    }
}

#[test]
fn a_call_that_the_author_could_not_know_is_not_there() {
    let json = |default: &str| {
        format!(
            r#"{{"defaultAction":"{default}","syscalls":[{{"names":["openat2"],"action":"SCMP_ACT_ALLOW"}}]}}"#
        )
    };
    let errno = filter(&json("SCMP_ACT_ERRNO"), &[]);
    assert_eq!(ask(&errno, 437, &[]), ALLOW);
    assert_eq!(ask(&errno, 436, &[]), EPERM);
    assert_eq!(ask(&errno, 438, &[]), ENOSYS);
    let kill = filter(&json("SCMP_ACT_KILL_PROCESS"), &[]);
    assert_eq!(ask(&kill, 438, &[]), KILL_PROCESS, "killing is meant");
}

#[test]
fn conditions_of_dockers_format_are_kept() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"name":"mkdir","action":"SCMP_ACT_ALLOW","args":null},
        {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]},"excludes":{}},
        {"names":["chroot"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_CHROOT"]}},
        {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
        {"names":["reboot"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
        {"names":["uname"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
        {"names":["arch_prctl"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","x32"]}}]}"#;
    let (without, with) = (
        filter(json, &[]),
        filter(json, &["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]),
    );
    for (number, a, b) in [
        (83, ALLOW, ALLOW),
        (165, EPERM, ALLOW),
        (161, ALLOW, EPERM),
        (101, ALLOW, ALLOW),
        (169, EPERM, EPERM),
        (63, EPERM, EPERM),
        (158, ALLOW, ALLOW),
    ] {
        assert_eq!(ask(&without, number, &[]), a, "{number}");
        assert_eq!(ask(&with, number, &[]), b, "{number}");
    }
}

#[test]
fn flags_are_the_kernels() {
    let json = |rule: &str| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/agent","listenerMetadata":"m",
            "flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"syscalls":[{{"names":["uname"],"action":"{rule}"}}]}}"#
        )
    };
    let plain = filter(&json("SCMP_ACT_LOG"), &[]);
    assert_eq!((plain.flags, plain.listener), (0b110, None));
    let asking = filter(&json("SCMP_ACT_NOTIFY"), &[]);
    assert_eq!(asking.flags, 0b10_0110);
    assert_eq!(asking.listener.unwrap().metadata, "m");
}

#[test]
fn every_name_that_is_advertised_is_read() {
    let read = |json: String| Profile::parse(json.as_bytes()).unwrap();
    for action in ACTIONS {
        read(format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/a","syscalls":[{{"names":["uname"],"action":"{action}"}}]}}"#
        ));
    }
    for op in OPERATORS {
        read(format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["uname"],"action":"SCMP_ACT_LOG","args":[{{"index":0,"value":0,"op":"{op}"}}]}}]}}"#
        ));
    }
    for flag in FLAGS {
        read(format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":["{flag}"]}}"#
        ));
    }
}

#[test]
fn unknown_names_and_fields_are_passed_over() {
    let filter = filter(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","comment":"x","syscalls":[
            {"names":["no_such_call","uname"],"action":"SCMP_ACT_ALLOW","comment":"y"}]}"#,
        &[],
    );
    assert_eq!(ask(&filter, 63, &[]), ALLOW);
}

#[test]
fn a_profile_that_cannot_be_meant_is_refused_with_the_place() {
    for (json, words) in [
        ("{\n  \"defaultAction\": \"SCMP_ACT_DENY\"\n}", "line 2"),
        ("{", "line 1 column 1"),
        ("[]", "invalid"),
        (r#"{"syscalls":[]}"#, "defaultAction"),
        (
            r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/a"}"#,
            "defaultAction",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#,
            "defaultErrnoRet: 5000",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}],"listenerPath":"/a"}"#,
            "syscalls[0].names: read",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["uname"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            "listenerPath",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"agent"}"#,
            "listenerPath",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_LOG"}]}"#,
            "syscalls[0].names",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["uname"],"action":"SCMP_ACT_LOG","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "syscalls[0].args[0].index",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["uname"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"new"}}]}"#,
            "kernel version",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "archMap",
        ),
    ] {
        let error = refused(json);
        assert!(error.contains(words), "{json}: {error}");
    }
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}"#;
    let profile = Profile::parse(json.as_bytes()).unwrap();
    let error = compile(&profile, &subject(&[])).unwrap_err().to_string();
    assert!(error.contains("SCMP_ARCH_VAX"), "{error}");
}

proptest! {
    #[test]
    fn the_same_profile_is_the_same_program(number in 0u32..600, value: u64, capable: bool) {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {{"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[{{"index":2,"value":{value},"op":"SCMP_CMP_GE"}}]}},
                {{"names":["mount"],"action":"SCMP_ACT_LOG","includes":{{"caps":["CAP_SYS_ADMIN"]}}}}]}}"#
        );
        let capabilities: &[&str] = if capable { &["CAP_SYS_ADMIN"] } else { &[] };
        let (one, other) = (filter(&json, capabilities), filter(&json, capabilities));
        prop_assert_eq!(&one, &other);
        let expected = match number {
            16 => EPERM.max(if value == 0 { ALLOW } else { 0 }),
            165 if capable => LOG,
            n if n > 165 => ENOSYS,
            _ => EPERM,
        };
        prop_assert_eq!(ask(&one, number, &[]), expected);
    }
}
