//! Architectures: how profiles, libseccomp and the kernel name them.

use libseccomp::ScmpArch;

/// An architecture whose system calls a filter can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arch(&'static Names);

#[derive(Debug, PartialEq, Eq)]
struct Names {
    /// In `architectures`.
    scmp: &'static str,
    /// In `arches` of Docker's conditions.
    docker: &'static str,
    token: ScmpArch,
    /// `seccomp_data.arch`, linux/audit.h, where [`crate::newer`] may look at it: those whose
    /// system calls from 424 on are numbered alike.
    audit: Option<u32>,
}

const fn names(
    scmp: &'static str,
    docker: &'static str,
    token: ScmpArch,
    audit: Option<u32>,
) -> Names {
    Names {
        scmp,
        docker,
        token,
        audit,
    }
}

static ALL: [Names; 22] = [
    names(
        "SCMP_ARCH_X86_64",
        "amd64",
        ScmpArch::X8664,
        Some(0xc000_003e),
    ),
    names("SCMP_ARCH_X86", "x86", ScmpArch::X86, Some(0x4000_0003)),
    // The kernel gives it x86-64's number, and its calls a bit of their own.
    names("SCMP_ARCH_X32", "x32", ScmpArch::X32, None),
    names(
        "SCMP_ARCH_AARCH64",
        "arm64",
        ScmpArch::Aarch64,
        Some(0xc000_00b7),
    ),
    names("SCMP_ARCH_ARM", "arm", ScmpArch::Arm, Some(0x4000_0028)),
    names(
        "SCMP_ARCH_LOONGARCH64",
        "loong64",
        ScmpArch::Loongarch64,
        Some(0xc000_0102),
    ),
    names("SCMP_ARCH_M68K", "m68k", ScmpArch::M68k, None),
    names("SCMP_ARCH_MIPS", "mips", ScmpArch::Mips, None),
    names("SCMP_ARCH_MIPS64", "mips64", ScmpArch::Mips64, None),
    names(
        "SCMP_ARCH_MIPS64N32",
        "mips64n32",
        ScmpArch::Mips64N32,
        None,
    ),
    names("SCMP_ARCH_MIPSEL", "mipsle", ScmpArch::Mipsel, None),
    names("SCMP_ARCH_MIPSEL64", "mips64le", ScmpArch::Mipsel64, None),
    names(
        "SCMP_ARCH_MIPSEL64N32",
        "mips64p32le",
        ScmpArch::Mipsel64N32,
        None,
    ),
    names("SCMP_ARCH_PPC", "ppc", ScmpArch::Ppc, None),
    names(
        "SCMP_ARCH_PPC64",
        "ppc64",
        ScmpArch::Ppc64,
        Some(0x8000_0015),
    ),
    names(
        "SCMP_ARCH_PPC64LE",
        "ppc64le",
        ScmpArch::Ppc64Le,
        Some(0xc000_0015),
    ),
    names("SCMP_ARCH_S390", "s390", ScmpArch::S390, Some(0x16)),
    names(
        "SCMP_ARCH_S390X",
        "s390x",
        ScmpArch::S390X,
        Some(0x8000_0016),
    ),
    names("SCMP_ARCH_PARISC", "parisc", ScmpArch::Parisc, None),
    names("SCMP_ARCH_PARISC64", "parisc64", ScmpArch::Parisc64, None),
    names(
        "SCMP_ARCH_RISCV64",
        "riscv64",
        ScmpArch::Riscv64,
        Some(0xc000_00f3),
    ),
    names("SCMP_ARCH_SHEB", "sheb", ScmpArch::Sheb, None),
];

/// Names that `architectures` of a profile may have.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|names| names.scmp)
}

impl Arch {
    /// The one this program was built for.
    pub(crate) fn native() -> Self {
        let token = ScmpArch::native();
        // Rust has no target that is missing from the list.
        Self(
            ALL.iter()
                .find(|names| names.token == token)
                .unwrap_or(&ALL[0]),
        )
    }

    /// The one of a profile's `architectures`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if name == "SCMP_ARCH_NATIVE" {
            return Some(Self::native());
        }
        ALL.iter().find(|names| names.scmp == name).map(Self)
    }

    pub(crate) fn scmp_name(self) -> &'static str {
        self.0.scmp
    }

    pub(crate) fn docker_name(self) -> &'static str {
        self.0.docker
    }

    pub(crate) fn token(self) -> ScmpArch {
        self.0.token
    }

    pub(crate) fn audit(self) -> Option<u32> {
        self.0.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_is_this_machine() {
        let expected = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        assert_eq!(Arch::native().docker_name(), expected);
        assert_eq!(Arch::named("SCMP_ARCH_NATIVE"), Some(Arch::native()));
        assert_eq!(Arch::named("SCMP_ARCH_VAX"), None);
    }

    #[test]
    fn names_are_told_apart() {
        for (i, names) in ALL.iter().enumerate() {
            assert_eq!(Arch::named(names.scmp).unwrap().token(), names.token);
            assert!(ALL[..i].iter().all(|other| other.docker != names.docker));
        }
    }
}
