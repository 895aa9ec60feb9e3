//! Processes as /proc and records name them.
//!
//! A pid alone may be somebody else's tomorrow; with the start time it names one process for as
//! long as the machine runs. Daemon, shim and runtime read it from the same file, here.

/// What /proc/pid/stat says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// State letter, `Z` for a zombie.
    pub state: u8,
    /// Parent.
    pub parent: i32,
    /// Session.
    pub session: i32,
    /// Clock ticks after boot.
    pub start_time: u64,
}

impl Stat {
    /// Longest content of the file: 52 numbers of at most 20 digits, a name of 64 bytes (16, but
    /// for kernel threads), and what separates them. One read into this gets it all.
    pub const LONGEST: usize = 1280;

    /// Reads the content of the file, in the form of proc_pid_stat(5).
    ///
    /// The second field is the command in parentheses. A process names itself, with anything, so
    /// that fields are counted from the last parenthesis.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(&stat[end + 1..]).ok()?;
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let start_time = fields.nth(15)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            session,
            start_time,
        })
    }

    /// Whether it is stopped, by a signal or a tracer.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Whether it has ended and waits to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(command: &[u8]) -> Vec<u8> {
        let rest = b") Z 7 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 991 0 0\n";
        [b"42 (", command, rest].concat()
    }

    #[test]
    fn a_command_cannot_shift_the_fields() {
        let commands: [&[u8]; 6] = [b"sh", b"a b", b") R 1 2 3", b"(x) R 9", b"\xff(", b"a\nb"];
        for command in commands {
            let expected = Stat {
                state: b'Z',
                parent: 7,
                session: 40,
                start_time: 991,
            };
            assert_eq!(Stat::parse(&line(command)), Some(expected), "{command:?}");
        }
        for cut in ["", "7 (sh) S 1", "7 (sh"] {
            assert_eq!(Stat::parse(cut.as_bytes()), None, "{cut}");
        }
    }

    #[test]
    fn the_kernels_own_is_read() {
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let stat = Stat::parse(&stat).unwrap();
        assert!(stat.start_time > 0 && stat.parent >= 0 && !stat.is_dead());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Stat::parse(&bytes);
        }

        #[test]
        fn any_name_leaves_the_start_time(name in prop::collection::vec(any::<u8>(), 0..16)) {
            prop_assert_eq!(Stat::parse(&line(&name)).map(|stat| stat.start_time), Some(991));
        }
    }
}
