//! From rules to a program.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::arch::Arch;
use crate::instruction::Instruction;
use crate::newer::{self, Prelude};
use crate::profile::{Action, Argument, Flag, Listener, Operator, Profile, Rule};
use crate::search;
use crate::select::Subject;

/// Most instructions that the kernel takes, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Has libseccomp believe that the kernel can do all there is up to Linux 5.9 instead of trying
/// it out: a program then depends on its profile alone, and a kernel that lacks something refuses
/// the program.
const API_LEVEL: u32 = 6;

/// libseccomp's state is not made for threads.
static LIBRARY: Mutex<()> = Mutex::new(());

/// What `seccomp(2)` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter`s in this machine's byte order.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`, without the one for a listener.
    pub flags: u32,
    /// Who is asked about calls with `SCMP_ACT_NOTIFY`.
    pub listener: Option<Listener>,
}

/// A profile cannot become a program.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An architecture that there is not.
    #[error("architectures: {0:?} is unknown")]
    Arch(String),
    /// libseccomp refused.
    #[error("{what}")]
    Library {
        /// What was attempted.
        what: String,
        /// Its answer.
        #[source]
        source: SeccompError,
    },
    /// It says what the runtime-spec has no words for.
    #[error("say it in words of the runtime-spec")]
    Plain(#[source] serde_json::Error),
    /// The program could not be read back.
    #[error("export the program")]
    Export(#[source] std::io::Error),
    /// The kernel takes no more than 4096.
    #[error("the program has {0} instructions, more than {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

/// Compiles a profile for a process. Takes some milliseconds of computing.
pub fn compile(profile: &Profile, subject: &Subject) -> Result<Filter, CompileError> {
    let program = search::shorten(translate(profile, subject)?);
    let instructions = program.len() / Instruction::SIZE;
    if instructions > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong(instructions));
    }
    let listener = profile.listener();
    let flags = profile
        .flags
        .iter()
        .map(|flag| bit(*flag, listener.is_some()));
    Ok(Filter {
        program,
        flags: flags.fold(0, |all, flag| all | flag),
        listener,
    })
}

/// The program as libseccomp writes it, behind what it does not know.
pub(crate) fn translate(profile: &Profile, subject: &Subject) -> Result<Vec<u8>, CompileError> {
    let arches = architectures(profile)?;
    let _one_at_a_time = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    libseccomp::set_api(API_LEVEL).during(|| "choose libseccomp's interface".into())?;
    let default = action(profile.default_action, profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default).during(|| "make a filter".into())?;
    // A tree of comparisons in the place of a chain: 10 instead of 400 for each system call.
    context
        .set_ctl_optimize(2)
        .during(|| "choose a tree of rules".into())?;
    for arch in &arches[1..] {
        let what = || format!("add architecture {}", arch.scmp_name());
        context.add_arch(arch.token()).during(what)?;
    }
    let mut prelude = Prelude::default();
    for rule in &profile.syscalls {
        let result = action(rule.action, rule.errno_ret);
        // What happens anyway needs no rule, and libseccomp takes none.
        if result != default && subject.is_meant(rule, arches[0]) {
            add(&mut context, &mut prelude, rule, result)?;
        }
    }
    let named = profile.syscalls.iter().flat_map(Rule::names);
    let unknown_to_author = default == ScmpAction::Errno(rustix::io::Errno::PERM.raw_os_error());
    let mut program = prelude.program(&arches, unknown_to_author.then_some(named));
    program.extend(export(&context)?);
    Ok(program)
}

/// The native architecture and then the others that the profile names.
pub(crate) fn architectures(profile: &Profile) -> Result<Vec<Arch>, CompileError> {
    let native = Arch::native();
    let mut arches = vec![native];
    let mapped = profile
        .arch_map
        .iter()
        .find(|entry| entry.architecture == native.scmp_name());
    let sub = mapped
        .into_iter()
        .flat_map(|entry| &entry.sub_architectures);
    for name in profile.architectures.iter().chain(sub) {
        let arch = Arch::named(name).ok_or_else(|| CompileError::Arch(name.clone()))?;
        if !arches.contains(&arch) {
            arches.push(arch);
        }
    }
    Ok(arches)
}

fn add(
    context: &mut ScmpFilterContext,
    prelude: &mut Prelude,
    rule: &Rule,
    result: ScmpAction,
) -> Result<(), CompileError> {
    let conditions: Vec<ScmpArgCompare> = rule.args.iter().map(compare).collect();
    for name in rule.names() {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            // Unknown to libseccomp, and perhaps to everybody: other architectures have other
            // calls. An argument of one that is only known to us is not looked at.
            if let (Some(number), true) = (newer::number(name), conditions.is_empty()) {
                prelude.add(number, value(result));
            }
            continue;
        };
        let what = || format!("add the rule {:?} of system call {name}", rule.action);
        if conditions.is_empty() {
            context.add_rule(result, call).during(what)?;
        } else if distinct(&rule.args) {
            context
                .add_rule_conditional(result, call, &conditions)
                .during(what)?;
        } else {
            // Several conditions of one argument are alternatives to runc, whose users' profiles
            // count on it.
            for condition in &conditions {
                context
                    .add_rule_conditional(result, call, std::slice::from_ref(condition))
                    .during(what)?;
            }
        }
    }
    Ok(())
}

fn distinct(args: &[Argument]) -> bool {
    let mut seen = HashSet::new();
    args.iter().all(|argument| seen.insert(argument.index))
}

fn compare(argument: &Argument) -> ScmpArgCompare {
    let (op, value) = match argument.op {
        Operator::NotEqual => (ScmpCompareOp::NotEqual, argument.value),
        Operator::Less => (ScmpCompareOp::Less, argument.value),
        Operator::LessOrEqual => (ScmpCompareOp::LessOrEqual, argument.value),
        Operator::Equal => (ScmpCompareOp::Equal, argument.value),
        Operator::GreaterOrEqual => (ScmpCompareOp::GreaterEqual, argument.value),
        Operator::Greater => (ScmpCompareOp::Greater, argument.value),
        Operator::MaskedEqual => (
            ScmpCompareOp::MaskedEqual(argument.value),
            argument.value_two,
        ),
    };
    ScmpArgCompare::new(argument.index, op, value)
}

/// libseccomp's word for an action. An errno of none is EPERM.
fn action(action: Action, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(rustix::io::Errno::PERM.raw_os_error() as u32);
    match action {
        Action::Kill | Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno => ScmpAction::Errno(errno as i32),
        Action::Trace => ScmpAction::Trace(errno as u16),
        Action::Notify => ScmpAction::Notify,
        Action::Log => ScmpAction::Log,
        Action::Allow => ScmpAction::Allow,
    }
}

/// The kernel's number of an action, linux/seccomp.h.
fn value(action: ScmpAction) -> u32 {
    match action {
        ScmpAction::KillProcess => 0x8000_0000,
        ScmpAction::Trap => 0x0003_0000,
        ScmpAction::Errno(errno) => 0x0005_0000 | errno as u32 & 0xffff,
        ScmpAction::Notify => 0x7fc0_0000,
        ScmpAction::Trace(data) => 0x7ff0_0000 | u32::from(data),
        ScmpAction::Log => 0x7ffc_0000,
        ScmpAction::Allow => 0x7fff_0000,
        // KillThread; and `action` makes no other.
        _ => 0,
    }
}

/// The kernel's number of a flag, linux/seccomp.h. There is one thread, so none to synchronise;
/// waiting killably is about listeners.
fn bit(flag: Flag, listener: bool) -> u32 {
    match flag {
        Flag::Tsync => 0,
        Flag::Log => 1 << 1,
        Flag::SpecAllow => 1 << 2,
        Flag::WaitKillableRecv if listener => 1 << 5,
        Flag::WaitKillableRecv => 0,
    }
}

/// libseccomp writes to descriptors only, before version 2.6.
fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, CompileError> {
    let memfd = memfd_create("seccomp", MemfdFlags::CLOEXEC);
    let mut file = File::from(memfd.map_err(|e| CompileError::Export(e.into()))?);
    context
        .export_bpf(&file)
        .during(|| "export the program".into())?;
    let mut program = Vec::new();
    file.seek(SeekFrom::Start(0))
        .map_err(CompileError::Export)?;
    file.read_to_end(&mut program)
        .map_err(CompileError::Export)?;
    Ok(program)
}

trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, CompileError>;
}

impl<T> During<T> for Result<T, SeccompError> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, CompileError> {
        self.map_err(|source| CompileError::Library {
            what: what(),
            source,
        })
    }
}
