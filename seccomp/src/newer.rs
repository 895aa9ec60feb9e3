//! System calls that libseccomp does not know yet, and those that nobody knew when the profile
//! was written.
//!
//! libseccomp of Debian 12 ends with Linux 5.17. A profile that allows `fchmodat2` would not
//! allow it there, and C libraries take EPERM for an answer where ENOSYS makes them fall back. So
//! the program begins with a part of ours, for each architecture a filter is for:
//!
//! ```text
//!  arch is this one? ──no──> next architecture
//!        │ yes
//!  number is that of a newer call with a rule? ──yes──> its action
//!        │ no
//!  number above every call that the profile names, and the default is EPERM? ──yes──> ENOSYS
//!        │ no
//!  libseccomp's program
//! ```
//!
//! Since Linux 5.1 a new system call has the same number on every architecture (of those that
//! [`Arch::audit`] has a number for).

use libseccomp::ScmpSyscall;

use crate::arch::Arch;
use crate::instruction::Instruction;

/// Calls after Linux 5.17, arch/x86/entry/syscalls/syscall_64.tbl.
const NEWER: [(&str, u32); 20] = [
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
    ("listns", 470),
];

/// Bit that x32 programs set in the number of a call.
const X32_BIT: u32 = 0x4000_0000;

/// `SECCOMP_RET_ERRNO | ENOSYS`
const RETURN_ENOSYS: u32 = 0x0005_0000 | 38;

/// Number of a call that only this module knows.
pub(crate) fn number(name: &str) -> Option<u32> {
    NEWER
        .iter()
        .find(|(newer, _)| *newer == name)
        .map(|(_, number)| *number)
}

/// The beginning of a program, before libseccomp's.
#[derive(Debug, Default)]
pub(crate) struct Prelude {
    rules: Vec<(u32, u32)>,
}

impl Prelude {
    /// A call's number and the value its filter returns. The first rule of a call is its rule.
    pub(crate) fn add(&mut self, number: u32, result: u32) {
        if self.rules.iter().all(|(known, _)| *known != number) {
            self.rules.push((number, result));
        }
    }

    /// The instructions. `named` are the calls that the profile names; without them nothing is
    /// unknown.
    pub(crate) fn program<'a>(
        &self,
        arches: &[Arch],
        named: Option<impl Iterator<Item = &'a str> + Clone>,
    ) -> Vec<u8> {
        let mut blocks = Vec::new();
        for arch in arches {
            let Some(audit) = arch.audit() else { continue };
            let last = named.clone().and_then(|names| last(names, *arch));
            let body = self.block(*arch, last);
            if !body.is_empty() {
                blocks.push((audit, body));
            }
        }
        link(&blocks)
    }

    /// What is asked of one architecture's numbers.
    fn block(&self, arch: Arch, last: Option<u32>) -> Vec<Instruction> {
        let mut body = Vec::new();
        for (number, result) in &self.rules {
            body.push(Instruction::unless(Instruction::EQUAL, *number, 1));
            body.push(Instruction::result(*result));
        }
        if let Some(last) = last {
            body.push(Instruction::unless(Instruction::ABOVE, last, 1));
            body.push(Instruction::result(RETURN_ENOSYS));
        }
        if body.is_empty() {
            return body;
        }
        if arch.scmp_name() == "SCMP_ARCH_X86_64" {
            let over = body.len() as u32;
            body.splice(
                0..0,
                [
                    Instruction::unless(Instruction::AT_LEAST, X32_BIT, 1),
                    Instruction::jump(over),
                ],
            );
        }
        body.insert(0, Instruction::LOAD_NUMBER);
        body
    }
}

/// The largest number of a named call on an architecture.
fn last<'a>(names: impl Iterator<Item = &'a str>, arch: Arch) -> Option<u32> {
    let number = |name| match ScmpSyscall::from_name_by_arch(name, arch.token()) {
        // A call that this architecture lacks has a negative number.
        Ok(call) => u32::try_from(call.as_raw_syscall()).ok(),
        Err(_) => number(name),
    };
    names.filter_map(number).max()
}

/// Puts the blocks behind each other, each with its question and the way to libseccomp's part.
fn link(blocks: &[(u32, Vec<Instruction>)]) -> Vec<u8> {
    if blocks.is_empty() {
        return Vec::new();
    }
    let mut program = vec![Instruction::LOAD_ARCH];
    for (i, (audit, body)) in blocks.iter().enumerate() {
        // The block and the jump to the end behind it.
        program.push(Instruction::unless(Instruction::EQUAL, *audit, 0).taken_over(1));
        program.push(Instruction::jump(body.len() as u32 + 1));
        program.extend_from_slice(body);
        let rest: usize = blocks[i + 1..].iter().map(|(_, body)| body.len() + 3).sum();
        program.push(Instruction::jump(rest as u32));
    }
    program
        .iter()
        .flat_map(|instruction| instruction.bytes())
        .collect()
}
