//! A program that finds a number's decision by halving ranges.
//!
//! ```text
//!  arch is this one? ──no──> next architecture, and the others at last
//!        │ yes
//!  number at least the middle of the ranges? ── no, yes ──> middle of that half ... ──> result,
//!                                                                            or arguments
//! ```
//!
//! libseccomp compares with each number by itself. The kernel checks, translates and, for its table
//! of calls that are always allowed, interprets every instruction whenever a filter is put on; so
//! a program of a quarter of the instructions is a quarter of that work at each start of a container.
//!
//! Jumps go forward only, and those of comparisons over at most 255 instructions: a program is
//! written from its end to its beginning.

use std::collections::{BTreeSet, HashMap};

use crate::decision::{Decision, Decisions};
use crate::instruction::Instruction;

/// Distance over which a comparison can jump, less what may come between while one is written.
const NEAR: usize = 250;

/// The program that decides as the given one does, if that becomes shorter so.
pub(crate) fn shorten(program: Vec<u8>) -> Vec<u8> {
    let (chunks, []) = program.as_chunks::<{ Instruction::SIZE }>() else {
        return program;
    };
    let original: Vec<_> = chunks
        .iter()
        .copied()
        .map(Instruction::from_bytes)
        .collect();
    let shorter = Decisions::of(&original).map(|decisions| Writer::new(&original).all(&decisions));
    match shorter {
        Some(shorter) if shorter.len() < original.len() => {
            shorter.into_iter().flat_map(Instruction::bytes).collect()
        }
        _ => program,
    }
}

/// The place of an instruction, counted from the end.
type Place = usize;

/// A program, its last instruction first.
struct Writer<'a> {
    original: &'a [Instruction],
    written: Vec<Instruction>,
    /// The newest place of each result.
    results: HashMap<u32, Place>,
    /// Where instructions of the original that look at arguments have come.
    arguments: HashMap<usize, Place>,
}

impl<'a> Writer<'a> {
    fn new(original: &'a [Instruction]) -> Self {
        Self {
            original,
            written: Vec::new(),
            results: HashMap::new(),
            arguments: HashMap::new(),
        }
    }

    fn all(mut self, decisions: &Decisions) -> Vec<Instruction> {
        let mut next = self.numbers(&decisions.others);
        for (arch, ranges) in decisions.arches.iter().rev() {
            let place = self.numbers(ranges);
            next = self.compare(Instruction::EQUAL, *arch, place, next);
        }
        self.follow_with(next);
        self.push(Instruction::LOAD_ARCH);
        self.written.reverse();
        self.written
    }

    /// All numbers of an architecture.
    fn numbers(&mut self, ranges: &[(u32, Decision)]) -> Place {
        let place = self.search(ranges);
        if ranges.len() == 1 {
            return place;
        }
        self.follow_with(place);
        self.push(Instruction::LOAD_NUMBER)
    }

    fn search(&mut self, ranges: &[(u32, Decision)]) -> Place {
        match *ranges {
            [(_, Decision::Result(value))] => self.result(value),
            [(_, Decision::Arguments(at))] => self.look_at_arguments(at),
            _ => {
                let (lower, upper) = ranges.split_at(ranges.len() / 2);
                let yes = self.search(upper);
                let no = self.search(lower);
                self.compare(Instruction::AT_LEAST, upper[0].0, yes, no)
            }
        }
    }

    fn result(&mut self, value: u32) -> Place {
        match self.results.get(&value) {
            Some(place) if self.over(*place) < NEAR / 2 => *place,
            _ => {
                let place = self.push(Instruction::result(value));
                self.results.insert(value, place);
                place
            }
        }
    }

    /// What the original does from there on.
    fn look_at_arguments(&mut self, start: usize) -> Place {
        for at in self.reached(start).into_iter().rev() {
            if self.arguments.contains_key(&at) {
                continue;
            }
            let instruction = self.original[at];
            let next = at + 1;
            let place = match instruction.code {
                Instruction::RETURN => self.result(instruction.operand),
                Instruction::JUMP => self.arguments[&(next + instruction.operand as usize)],
                Instruction::LOAD | Instruction::AND => {
                    self.follow_with(self.arguments[&next]);
                    self.push(instruction)
                }
                code => {
                    let yes = self.arguments[&(next + usize::from(instruction.jump_true))];
                    let no = self.arguments[&(next + usize::from(instruction.jump_false))];
                    self.compare(code, instruction.operand, yes, no)
                }
            };
            self.arguments.insert(at, place);
        }
        self.arguments[&start]
    }

    /// All instructions of the original that may come after one, itself included.
    fn reached(&self, start: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut ways = vec![start];
        while let Some(at) = ways.pop() {
            if reached.insert(at) {
                ways.extend(self.original[at].followers(at));
            }
        }
        reached
    }

    fn compare(&mut self, code: u16, operand: u32, yes: Place, no: Place) -> Place {
        let yes = self.near(yes);
        let no = self.near(no);
        let instruction = Instruction::unless(code, operand, self.over(no) as u8);
        let over = self.over(yes) as u8;
        self.push(instruction.taken_over(over))
    }

    /// A place from which the given one is reached and to which a comparison can jump.
    fn near(&mut self, place: Place) -> Place {
        if self.over(place) < NEAR {
            return place;
        }
        let over = self.over(place) as u32;
        self.push(Instruction::jump(over))
    }

    /// Sees that what is written next goes on there.
    fn follow_with(&mut self, place: Place) {
        let over = self.over(place) as u32;
        if over > 0 {
            self.push(Instruction::jump(over));
        }
    }

    /// Instructions between the one to be written next and a place.
    fn over(&self, place: Place) -> usize {
        self.written.len() - 1 - place
    }

    fn push(&mut self, instruction: Instruction) -> Place {
        self.written.push(instruction);
        self.written.len() - 1
    }
}

#[cfg(test)]
#[path = "../tests/programs/machine.rs"]
#[expect(
    dead_code,
    reason = "names of results, which tests of whole profiles use"
)]
mod machine;

#[cfg(test)]
mod tests {
    use super::machine::{Call, X86, X86_64, run};
    use super::*;
    use crate::compile::translate;
    use crate::{Profile, Subject, runtime_default};
    use proptest::prelude::*;

    /// Values near which arguments are compared, and others.
    const VALUES: [u64; 9] = [0, 1, 2, 3, 0x12, 0xff00, 1 << 32, 1 << 40 | 2, u64::MAX];

    /// x86-64, x86, none, aarch64, arm and s390x.
    const ARCHES: [u32; 6] = [X86_64, X86, 0, 0xc000_00b7, 0x4000_0028, 0x8000_0016];

    fn subject() -> Subject {
        Subject {
            capabilities: vec!["CAP_SYS_ADMIN".into()],
            kernel: (6, 1),
        }
    }

    /// Where a program's ranges of numbers begin and end.
    fn ends(program: &[u8]) -> BTreeSet<u32> {
        let (chunks, []) = program.as_chunks::<{ Instruction::SIZE }>() else {
            panic!("{} bytes", program.len());
        };
        let program: Vec<_> = chunks
            .iter()
            .copied()
            .map(Instruction::from_bytes)
            .collect();
        let decisions = Decisions::of(&program).expect("a program of libseccomp's kind");
        let all = decisions
            .arches
            .values()
            .chain([&decisions.others])
            .flatten();
        all.flat_map(|(first, _)| [*first, first.saturating_sub(1)])
            .collect()
    }

    /// Asks both about every number that is near a call's, and about the ends of all ranges of both,
    /// with arguments that may matter.
    fn agree(profile: &Profile) -> (usize, usize) {
        let long = translate(profile, &subject()).unwrap();
        let short = shorten(long.clone());
        let numbers = (0..600).chain([0x3fff_ffff, u32::MAX]);
        let with_x32 = numbers.flat_map(|number| [number, number | 0x4000_0000]);
        let mut numbers: BTreeSet<u32> = with_x32.collect();
        numbers.extend(ends(&long));
        numbers.extend(ends(&short));
        for number in numbers {
            for arch in ARCHES {
                for value in VALUES {
                    for other in VALUES {
                        let args = [value, other, value, other, value, other];
                        let call = Call { arch, number, args };
                        assert_eq!(run(&long, call), run(&short, call), "{call:x?}");
                    }
                }
            }
        }
        (
            long.len() / Instruction::SIZE,
            short.len() / Instruction::SIZE,
        )
    }

    #[test]
    fn our_profile_becomes_less_than_half_and_stays_the_same() {
        let (long, short) = agree(runtime_default());
        // What libseccomp writes differs between its versions, and so does the share.
        assert!(short * 2 < long, "{long} instructions become {short}");
    }

    #[test]
    fn jumps_reach_over_more_than_a_comparison_can() {
        // Every other number allowed, one with arguments between.
        let mut original = vec![Instruction::LOAD_NUMBER];
        for number in 0..900 {
            original.push(Instruction::unless(Instruction::EQUAL, number * 2, 1));
            original.push(Instruction::result(0x7fff_0000 + number % 3));
        }
        original.extend([
            Instruction::unless(Instruction::EQUAL, 1, 2),
            Instruction::plain(Instruction::LOAD, 16),
            Instruction::unless(Instruction::EQUAL, 3, 1),
            Instruction::result(5),
            Instruction::result(0),
        ]);
        let decisions = Decisions::of(&original).unwrap();
        let bytes = |program: &[Instruction]| -> Vec<u8> {
            program
                .iter()
                .copied()
                .flat_map(Instruction::bytes)
                .collect()
        };
        let written = bytes(&Writer::new(&original).all(&decisions));
        let original = bytes(&original);
        for number in (0..2000).chain([u32::MAX]) {
            for value in [0, 3] {
                let call = Call {
                    arch: X86_64,
                    number,
                    args: [value; 6],
                };
                assert_eq!(run(&original, call), run(&written, call), "{call:x?}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_stays_as_it_is() {
        for program in [vec![0; 7], vec![0xff; 16], Vec::new()] {
            assert_eq!(shorten(program.clone()), program);
        }
    }

    fn rule() -> impl Strategy<Value = serde_json::Value> {
        let names = proptest::sample::subsequence(
            vec![
                "read",
                "ioctl",
                "clone",
                "personality",
                "socket",
                "futex_wake",
                "mount",
                "x",
            ],
            1..4,
        );
        let action = proptest::sample::select(vec!["ALLOW", "LOG", "KILL_PROCESS", "ERRNO"]);
        let op = proptest::sample::select(crate::OPERATORS.to_vec());
        let value = || proptest::sample::select(VALUES.to_vec());
        let arg = (0..6u32, op, value(), value()).prop_map(|(index, op, value, two)| {
            serde_json::json!({"index": index, "op": op, "value": value, "valueTwo": two})
        });
        (names, action, proptest::collection::vec(arg, 0..3)).prop_map(|(names, action, args)| {
            let action = format!("SCMP_ACT_{action}");
            serde_json::json!({"names": names, "action": action, "args": args})
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_profile_stays_the_same(
            rules in proptest::collection::vec(rule(), 0..6),
            allow: bool,
            more in proptest::sample::subsequence(
                vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"], 0..3),
        ) {
            let default = if allow { "SCMP_ACT_ALLOW" } else { "SCMP_ACT_ERRNO" };
            let json = serde_json::json!({
                "defaultAction": default, "architectures": more, "syscalls": rules,
            });
            let profile = Profile::parse(json.to_string().as_bytes()).unwrap();
            // libseccomp refuses some combinations of conditions.
            if translate(&profile, &subject()).is_ok() {
                agree(&profile);
            }
        }
    }
}
