//! What a program decides for each architecture and each number of a system call.
//!
//! libseccomp's programs look at the architecture, then at the number, then at arguments. For one
//! architecture the numbers fall into ranges, whose ends are among the constants that a number is
//! compared with; within a range the program takes the same way and comes to a result or to the
//! place where it looks at arguments. A program that does anything else has no [`Decisions`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::instruction::Instruction;

/// A program's decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decisions {
    /// Of each architecture that the program knows, by the kernel's number of it.
    pub(crate) arches: BTreeMap<u32, Ranges>,
    /// Of all the others.
    pub(crate) others: Ranges,
}

/// The first number of each range, from 0 on, and what is decided in it. Neighbours differ.
pub(crate) type Ranges = Vec<(u32, Decision)>;

/// What is decided about a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// A result, whatever the arguments are.
    Result(u32),
    /// The instruction with which looking at arguments begins.
    Arguments(usize),
}

/// What the accumulator may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holds {
    Nothing,
    Arch,
    Number,
    Argument,
}

/// All constants that the way through a program depends on before arguments.
#[derive(Debug, Default)]
struct Constants {
    arches: BTreeSet<u32>,
    /// Where ranges of numbers may begin.
    starts: BTreeSet<u32>,
}

impl Decisions {
    /// Those of a program; `None` if it does what libseccomp's do not.
    pub(crate) fn of(program: &[Instruction]) -> Option<Self> {
        let constants = Constants::of(program)?;
        let ranges = |arch| {
            let mut ranges = Ranges::new();
            for start in &constants.starts {
                let decision = decide(program, arch, *start)?;
                if ranges.last().is_none_or(|(_, last)| *last != decision) {
                    ranges.push((*start, decision));
                }
            }
            Some(ranges)
        };
        // Any that the program does not compare with goes the way of all of them.
        let other = (0..).find(|arch| !constants.arches.contains(arch))?;
        let arches = constants.arches.iter();
        Some(Self {
            arches: arches
                .map(|&arch| Some((arch, ranges(arch)?)))
                .collect::<Option<_>>()?,
            others: ranges(other)?,
        })
    }
}

impl Constants {
    /// Goes every way through a program.
    fn of(program: &[Instruction]) -> Option<Self> {
        let mut constants = Self::default();
        constants.starts.insert(0);
        let mut seen = HashSet::new();
        let mut ways = vec![(0, Holds::Nothing)];
        while let Some((at, holds)) = ways.pop() {
            if !seen.insert((at, holds)) {
                continue;
            }
            let instruction = program.get(at)?;
            let holds = match instruction.code {
                Instruction::LOAD => holds.after(instruction.operand)?,
                Instruction::AND if holds == Holds::Argument => holds,
                Instruction::JUMP | Instruction::RETURN => holds,
                Instruction::EQUAL
                | Instruction::ABOVE
                | Instruction::AT_LEAST
                | Instruction::ANY_BIT => {
                    constants.compared(holds, instruction)?;
                    holds
                }
                _ => return None,
            };
            ways.extend(instruction.followers(at).map(|next| (next, holds)));
        }
        Some(constants)
    }

    fn compared(&mut self, holds: Holds, instruction: &Instruction) -> Option<()> {
        let constant = instruction.operand;
        match (holds, instruction.code) {
            (Holds::Argument, _) => {}
            (Holds::Arch, Instruction::EQUAL) => {
                self.arches.insert(constant);
            }
            (Holds::Number, Instruction::EQUAL) => {
                self.starts.insert(constant);
                self.starts.extend(constant.checked_add(1));
            }
            (Holds::Number, Instruction::ABOVE) => self.starts.extend(constant.checked_add(1)),
            (Holds::Number, Instruction::AT_LEAST) => {
                self.starts.insert(constant);
            }
            _ => return None,
        }
        Some(())
    }
}

impl Holds {
    /// After a load from there; a program that has begun with arguments stays with them.
    fn after(self, offset: u32) -> Option<Self> {
        match offset {
            Instruction::NUMBER | Instruction::ARCH if self == Self::Argument => None,
            Instruction::NUMBER => Some(Self::Number),
            Instruction::ARCH => Some(Self::Arch),
            _ => Some(Self::Argument),
        }
    }
}

/// Goes the way of one number.
fn decide(program: &[Instruction], arch: u32, number: u32) -> Option<Decision> {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = program.get(at)?;
        let operand = instruction.operand;
        let jump = |yes| {
            usize::from(if yes {
                instruction.jump_true
            } else {
                instruction.jump_false
            })
        };
        let over = match instruction.code {
            Instruction::LOAD => {
                accumulator = match operand {
                    Instruction::NUMBER => number,
                    Instruction::ARCH => arch,
                    _ => return Some(Decision::Arguments(at)),
                };
                0
            }
            Instruction::RETURN => return Some(Decision::Result(operand)),
            Instruction::JUMP => operand as usize,
            Instruction::EQUAL => jump(accumulator == operand),
            Instruction::ABOVE => jump(accumulator > operand),
            Instruction::AT_LEAST => jump(accumulator >= operand),
            _ => return None,
        };
        at = at.checked_add(over)?.checked_add(1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const ARGUMENT: Instruction = Instruction::plain(Instruction::LOAD, 16);

    #[test]
    fn numbers_fall_into_ranges() {
        let program = [
            Instruction::LOAD_ARCH,
            Instruction::unless(Instruction::EQUAL, 7, 6),
            Instruction::LOAD_NUMBER,
            Instruction::unless(Instruction::EQUAL, 5, 2),
            ARGUMENT,
            Instruction::unless(Instruction::ANY_BIT, 1, 1),
            Instruction::unless(Instruction::ABOVE, 9, 1),
            Instruction::result(ALLOW),
            Instruction::result(0),
        ];
        let decisions = Decisions::of(&program).unwrap();
        let (allowed, refused) = (Decision::Result(ALLOW), Decision::Result(0));
        let expected = vec![
            (0, refused),
            (5, Decision::Arguments(4)),
            (6, refused),
            (10, allowed),
        ];
        assert_eq!(decisions.arches, BTreeMap::from([(7, expected)]));
        assert_eq!(decisions.others, [(0, refused)]);
    }

    #[test]
    fn other_programs_have_none() {
        let end = Instruction::result(ALLOW);
        let compare = |code| Instruction::unless(code, 1, 0);
        for program in [
            // a bit of the number, an order of architectures, the number after arguments
            vec![Instruction::LOAD_NUMBER, compare(Instruction::ANY_BIT), end],
            vec![
                Instruction::LOAD_NUMBER,
                Instruction::plain(Instruction::AND, 1),
                end,
            ],
            vec![Instruction::LOAD_ARCH, compare(Instruction::ABOVE), end],
            vec![ARGUMENT, Instruction::LOAD_NUMBER, end],
            // an unknown instruction, comparing nothing, no end
            vec![Instruction::plain(0x16, 0)],
            vec![compare(Instruction::EQUAL), end],
            vec![Instruction::LOAD_NUMBER],
            vec![Instruction::jump(u32::MAX), end],
        ] {
            assert_eq!(Decisions::of(&program), None, "{program:?}");
        }
    }
}
