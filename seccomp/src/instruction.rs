//! Instructions of classic BPF, as far as filters of system calls use them.

/// `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) operand: u32,
}

impl Instruction {
    /// Bytes of one.
    pub(crate) const SIZE: usize = 8;

    /// A word of `seccomp_data` into the accumulator: `BPF_LD | BPF_W | BPF_ABS`.
    pub(crate) const LOAD: u16 = 0x20;
    /// `BPF_ALU | BPF_AND | BPF_K`.
    pub(crate) const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JA`.
    pub(crate) const JUMP: u16 = 0x05;
    /// `BPF_RET | BPF_K`.
    pub(crate) const RETURN: u16 = 0x06;
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    pub(crate) const EQUAL: u16 = 0x15;
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    pub(crate) const ABOVE: u16 = 0x25;
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    pub(crate) const AT_LEAST: u16 = 0x35;
    /// `BPF_JMP | BPF_JSET | BPF_K`.
    pub(crate) const ANY_BIT: u16 = 0x45;

    /// Where `seccomp_data.nr` is.
    pub(crate) const NUMBER: u32 = 0;
    /// Where `seccomp_data.arch` is.
    pub(crate) const ARCH: u32 = 4;

    pub(crate) const LOAD_NUMBER: Self = Self::plain(Self::LOAD, Self::NUMBER);
    pub(crate) const LOAD_ARCH: Self = Self::plain(Self::LOAD, Self::ARCH);

    pub(crate) const fn plain(code: u16, operand: u32) -> Self {
        Self {
            code,
            jump_true: 0,
            jump_false: 0,
            operand,
        }
    }

    /// Over so many instructions.
    pub(crate) const fn jump(over: u32) -> Self {
        Self::plain(Self::JUMP, over)
    }

    pub(crate) const fn result(value: u32) -> Self {
        Self::plain(Self::RETURN, value)
    }

    /// Over so many instructions if the comparison says no.
    pub(crate) const fn unless(code: u16, operand: u32, over: u8) -> Self {
        Self {
            jump_false: over,
            ..Self::plain(code, operand)
        }
    }

    /// As it is, and over so many if the comparison says yes.
    pub(crate) const fn taken_over(self, over: u8) -> Self {
        Self {
            jump_true: over,
            ..self
        }
    }

    /// Where a program may go on after this one at `at`: one place, after a comparison two, after a
    /// result none.
    pub(crate) fn followers(self, at: usize) -> impl Iterator<Item = usize> {
        // no program is as long as what saturates
        let over = |count| Some((at + 1).saturating_add(count));
        let followers = match self.code {
            Self::RETURN => [None, None],
            Self::JUMP => [over(self.operand as usize), None],
            Self::LOAD | Self::AND => [over(0), None],
            _ => [self.jump_true, self.jump_false].map(|count| over(count.into())),
        };
        followers.into_iter().flatten()
    }

    /// As the kernel takes it, in this machine's byte order.
    pub(crate) fn bytes(self) -> [u8; Self::SIZE] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.operand.to_ne_bytes();
        [c0, c1, self.jump_true, self.jump_false, k0, k1, k2, k3]
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [c0, c1, jump_true, jump_false, k0, k1, k2, k3] = bytes;
        Self {
            code: u16::from_ne_bytes([c0, c1]),
            jump_true,
            jump_false,
            operand: u32::from_ne_bytes([k0, k1, k2, k3]),
        }
    }
}
