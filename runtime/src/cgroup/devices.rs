//! Which devices a cgroup may use: rules of the runtime-spec as a BPF program that the kernel
//! asks at every open and mknod.
//!
//! The last rule that fits decides; where none does, the answer is no. Whatever the rules say,
//! a container may use the devices that it always has, and may make nodes of any: making is not
//! using.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::Error;
use crate::error::Doing;
use crate::oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use crate::sys::bpf::{Instruction, attach_device_program, device_programs, load_device_program};

/// `BPF_DEVCG_*` of linux/bpf.h.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Most programs kept loaded: the containers of a pod have one or two rule sets.
const KEPT: usize = 16;

/// What a rule fits, `None` being anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: u8,
}

/// The rule of a container that asks for no devices.
const NOTHING: Rule = Rule {
    allow: false,
    kind: None,
    major: None,
    minor: None,
    access: ALL,
};

/// Programs in the kernel, with what they are made of: one for each set of rules.
static LOADED: Mutex<Vec<(Vec<Instruction>, OwnedFd)>> = Mutex::new(Vec::new());

/// Attaches the program for `rules` to a cgroup. A program is loaded once per set of rules and
/// process.
pub(super) fn restrict(cgroup: BorrowedFd<'_>, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let rules = rules.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    with_program(&rules, |program| attach_device_program(cgroup, program))
}

/// Refuses what is no rule.
#[cfg(feature = "oci")]
pub(super) fn check(rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    rules.iter().try_for_each(|rule| parse(rule).map(drop))
}

/// Loads the program of a container that asks for no devices, so that the first one need not
/// wait for the kernel to check it.
pub(super) fn prepare() -> Result<(), Error> {
    with_program(&[NOTHING], |_| Ok(()))
}

fn with_program(
    rules: &[Rule],
    attach: impl FnOnce(BorrowedFd<'_>) -> std::io::Result<()>,
) -> Result<(), Error> {
    let Some(program) = program(rules) else {
        return Ok(());
    };
    let doing = || "restrict devices (this takes a kernel with CONFIG_CGROUP_BPF)";
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, fd)) = loaded.iter().find(|(known, _)| *known == program) {
        return attach(fd.as_fd()).doing(doing);
    }
    let fd = load_device_program(&program).doing(doing)?;
    attach(fd.as_fd()).doing(doing)?;
    if loaded.len() == KEPT {
        loaded.remove(0);
    }
    loaded.push((program, fd));
    Ok(())
}

/// Ids of the BPF programs that decide which devices a cgroup may use, its parents' left out:
/// equal for cgroups with equal rules that one process has restricted. Takes CAP_SYS_ADMIN or
/// CAP_BPF, and CAP_NET_ADMIN.
pub fn programs(cgroup: &Path) -> Result<Vec<u32>, Error> {
    /// As many as the kernel allows for one cgroup.
    const MOST: usize = 64;
    let mut ids = vec![0; MOST];
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let count = rustix::fs::open(cgroup, flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|fd| device_programs(fd.as_fd(), &mut ids))
        .doing(|| format!("list the device programs of cgroup {}", cgroup.display()))?;
    ids.truncate(count);
    Ok(ids)
}

fn parse(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let refused =
        |problem: &str| Error::invalid("linux.resources.devices", format!("{rule}: {problem}"));
    let number = |n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => i32::try_from(n)
            .ok()
            .filter(|n| *n >= 0)
            .map(Some)
            .ok_or_else(|| refused("no such device number")),
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(refused("access is made of r, w and m")),
        };
    }
    let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(BLOCK),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(CHARACTER),
        LinuxDeviceType::P => return Err(refused("a FIFO is no device")),
    };
    let (major, minor) = (number(rule.major())?, number(rule.minor())?);
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major,
        minor,
        access,
    })
}

/// What a container always has: its default devices, terminals, and the making of nodes.
fn always() -> impl Iterator<Item = Rule> {
    let allow = |kind, major, minor, access| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    };
    let device = move |(major, minor)| allow(Some(CHARACTER), Some(major), minor, ALL);
    [
        allow(Some(CHARACTER), None, None, MKNOD),
        allow(Some(BLOCK), None, None, MKNOD),
    ]
    .into_iter()
    .chain(
        [
            (1, Some(3)),
            (1, Some(5)),
            (1, Some(7)),
            (1, Some(8)),
            (1, Some(9)),
            (5, Some(0)),
            (5, Some(1)),
            (5, Some(2)),
            (136, None),
        ]
        .map(device),
    )
}

/// Registers of the program.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// The program; `None` when everything is allowed anyway. It ends with the first rule, from the
/// last, that fits everything: the kernel refuses programs with parts that are never reached.
fn program(rules: &[Rule]) -> Option<Vec<Instruction>> {
    let decides = |rule: &Rule| {
        let any_device = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        any_device && rule.access == ALL
    };
    let start = rules.iter().rposition(decides);
    let default = start.is_some_and(|at| rules[at].allow);
    let rest = &rules[start.map_or(0, |at| at + 1)..];
    if default && rest.iter().all(|rule| rule.allow) {
        return None;
    }
    let mut program = vec![
        load(KIND, 0),
        alu(MOVE_REGISTER, ACCESS, KIND, 0),
        alu(AND, KIND, 0, 0xffff),
        alu(SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    let rules: Vec<Rule> = rest.iter().copied().chain(always()).collect();
    for rule in rules.iter().rev() {
        append(&mut program, rule);
    }
    program.extend([alu(MOVE, RESULT, 0, default.into()), EXIT]);
    Some(program)
}

/// Appends a rule: tests that skip to what follows it when it does not fit, then its answer.
fn append(program: &mut Vec<Instruction>, rule: &Rule) {
    let wanted = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    let tests: Vec<_> = wanted
        .into_iter()
        .filter_map(|(register, wanted)| Some((register, wanted?)))
        .collect();
    let mut body = Vec::new();
    if rule.access != ALL {
        body.push(alu(MOVE_REGISTER, SCRATCH, ACCESS, 0));
        body.push(alu(AND, SCRATCH, 0, rule.access.into()));
        // An access is allowed when the rule has all of it, and denied when it has any of it.
        body.push(if rule.allow {
            jump(JUMP_UNEQUAL_REGISTER, SCRATCH, ACCESS, 2, 0)
        } else {
            jump(JUMP_EQUAL, SCRATCH, 0, 2, 0)
        });
    }
    body.extend([alu(MOVE, RESULT, 0, rule.allow.into()), EXIT]);
    for (index, (register, wanted)) in tests.iter().enumerate() {
        let skip = tests.len() - index - 1 + body.len();
        program.push(jump(JUMP_UNEQUAL, *register, 0, skip as i16, *wanted));
    }
    program.extend(body);
}

/// Operations of linux/bpf.h, in 32 bits.
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const LOAD_WORD: u8 = 0x61;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const JUMP_UNEQUAL_REGISTER: u8 = 0x5e;
const EXIT: Instruction = Instruction {
    code: 0x95,
    registers: 0,
    offset: 0,
    immediate: 0,
};

fn alu(code: u8, to: u8, from: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset: 0,
        immediate,
    }
}

fn jump(code: u8, left: u8, right: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: left | right << 4,
        offset,
        immediate,
    }
}

fn load(to: u8, offset: i16) -> Instruction {
    Instruction {
        code: LOAD_WORD,
        registers: to | CONTEXT << 4,
        offset,
        immediate: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Runs a program as the kernel would.
    fn ask(program: &[Instruction], kind: i32, access: u8, major: i32, minor: i32) -> bool {
        let context = [
            kind as u32 | u32::from(access) << 16,
            major as u32,
            minor as u32,
        ];
        let mut registers = [0u32; 11];
        let mut at = 0;
        loop {
            let i = program[at];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            let immediate = i.immediate as u32;
            let mut jump = false;
            match i.code {
                LOAD_WORD => registers[to] = context[i.offset as usize / 4],
                MOVE => registers[to] = immediate,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_EQUAL => jump = registers[to] == immediate,
                JUMP_UNEQUAL => jump = registers[to] != immediate,
                JUMP_UNEQUAL_REGISTER => jump = registers[to] != registers[from],
                0x95 => return registers[0] == 1,
                code => panic!("unknown operation {code:#x}"),
            }
            at += 1 + if jump { i.offset as usize } else { 0 };
        }
    }

    /// The same, said without a program.
    fn allowed(rules: &[Rule], kind: i32, access: u8, major: i32, minor: i32) -> bool {
        let all: Vec<Rule> = rules.iter().copied().chain(always()).collect();
        let fits = |rule: &&Rule| {
            let same = |wanted: Option<i32>, is: i32| wanted.is_none_or(|wanted| wanted == is);
            let overlap = rule.access & access;
            same(rule.kind, kind)
                && same(rule.major, major)
                && same(rule.minor, minor)
                && if rule.allow {
                    overlap == access
                } else {
                    overlap != 0
                }
        };
        all.iter().rev().find(fits).is_some_and(|rule| rule.allow)
    }

    fn of(value: Value) -> Vec<Rule> {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(value).unwrap();
        rules.iter().map(|rule| parse(rule).unwrap()).collect()
    }

    #[test]
    fn what_is_loaded_ahead_is_what_a_container_without_devices_has() {
        assert_eq!(of(json!([{"allow": false, "access": "rwm"}])), [NOTHING]);
    }

    #[test]
    fn deny_all_leaves_the_default_devices() {
        let program = program(&of(json!([{"allow": false, "access": "rwm"}]))).unwrap();
        assert!(ask(&program, CHARACTER, READ | WRITE, 1, 3), "/dev/null");
        assert!(ask(&program, CHARACTER, READ, 136, 7), "/dev/pts/7");
        assert!(ask(&program, BLOCK, MKNOD, 8, 0), "mknod of a disk");
        assert!(!ask(&program, BLOCK, READ, 8, 0), "a disk");
        assert!(!ask(&program, CHARACTER, READ, 1, 1), "/dev/mem");
    }

    #[test]
    fn privileged_needs_no_program() {
        let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}]);
        assert_eq!(program(&of(rules)), None);
        let taken_back = json!([
            {"allow": true, "access": "rwm"},
            {"allow": false, "type": "b", "access": "w"},
        ]);
        let program = program(&of(taken_back)).unwrap();
        assert!(ask(&program, BLOCK, READ, 8, 0));
        assert!(!ask(&program, BLOCK, READ | WRITE, 8, 0));
    }

    #[test]
    fn no_rules_allow_nothing_more() {
        assert!(!ask(&program(&[]).unwrap(), BLOCK, READ, 8, 0));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in [
            json!({"allow": true, "access": "rx"}),
            json!({"allow": true, "type": "p", "access": "r"}),
            json!({"allow": true, "type": "c", "major": -7, "access": "r"}),
        ] {
            let rule: LinuxDeviceCgroup = serde_json::from_value(value).unwrap();
            assert!(parse(&rule).is_err(), "{rule}");
        }
    }

    /// Every instruction can be reached, and every jump stays inside.
    fn is_well_formed(program: &[Instruction]) -> bool {
        let mut reached = vec![false; program.len()];
        let mut todo = vec![0];
        while let Some(at) = todo.pop() {
            if at >= program.len() {
                return false;
            }
            if std::mem::replace(&mut reached[at], true) || program[at] == EXIT {
                continue;
            }
            if matches!(
                program[at].code,
                JUMP_EQUAL | JUMP_UNEQUAL | JUMP_UNEQUAL_REGISTER
            ) {
                todo.push(at + 1 + program[at].offset as usize);
            }
            todo.push(at + 1);
        }
        reached.into_iter().all(|reached| reached)
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let number = || proptest::option::of(0i32..3);
        (
            any::<bool>(),
            proptest::option::of(1i32..3),
            number(),
            number(),
            1u8..8,
        )
            .prop_map(|(allow, kind, major, minor, access)| Rule {
                allow,
                kind,
                major,
                minor,
                access,
            })
    }

    proptest! {
        #[test]
        fn program_says_what_the_rules_say(
            rules in proptest::collection::vec(rule(), 0..8),
            kind in 1i32..3, access in 1u8..8, major in 0i32..4, minor in 0i32..4,
        ) {
            prop_assert!(program(&rules).is_none_or(|program| is_well_formed(&program)));
            let expected = allowed(&rules, kind, access, major, minor);
            let got = program(&rules).is_none_or(|p| ask(&p, kind, access, major, minor));
            prop_assert_eq!(got, expected);
        }
    }
}
