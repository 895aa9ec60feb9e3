//! What the kernel does with a program: classic BPF, as far as filters use it, linux/filter.h.

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const X86: u32 = 0x4000_0003;
pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const LOG: u32 = 0x7ffc_0000;
pub(crate) const NOTIFY: u32 = 0x7fc0_0000;
pub(crate) const TRACE: u32 = 0x7ff0_0000;
pub(crate) const TRAP: u32 = 0x0003_0000;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const KILL_THREAD: u32 = 0;
pub(crate) const EPERM: u32 = 0x0005_0001;
pub(crate) const ENOSYS: u32 = 0x0005_0026;

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let argument = self.args[(offset as usize - 16) / 8];
                let low = offset.is_multiple_of(8) == cfg!(target_endian = "little");
                if low {
                    argument as u32
                } else {
                    (argument >> 32) as u32
                }
            }
        }
    }
}

/// Runs a program to its result; panics where the kernel would refuse to load it.
pub(crate) fn run(program: &[u8], call: Call) -> u32 {
    let (instructions, []) = program.as_chunks::<8>() else {
        panic!("{} bytes are no program", program.len());
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = instructions[at];
        let operand = u32::from_ne_bytes([k0, k1, k2, k3]);
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        at += 1;
        match u16::from_ne_bytes([c0, c1]) {
            0x20 => accumulator = call.word(operand),
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x06 => return operand,
            0x15 => at += jump(accumulator == operand),
            0x25 => at += jump(accumulator > operand),
            0x35 => at += jump(accumulator >= operand),
            0x45 => at += jump(accumulator & operand != 0),
            other => panic!("instruction {other:#x}"),
        }
    }
}
