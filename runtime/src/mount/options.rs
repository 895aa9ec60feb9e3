//! Mount options of the runtime-spec, parsed.

use rustix::mount::MountFlags;

use crate::Error;
use crate::sys::mount::MountAttr;

/// `MOUNT_ATTR_*` of linux/mount.h.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const RELATIME: u64 = 0x0;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x10_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `bind` or `rbind`.
    pub(crate) bind: bool,
    /// `rbind`.
    pub(crate) recursive: bool,
    /// Attributes of the mount itself.
    pub(crate) attr: MountAttr,
    /// Attributes of the mount and everything below (`rro`, `rnosuid`, ...).
    pub(crate) attr_recursive: MountAttr,
    /// Set by `idmap` (`false`) and `ridmap` (`true`, with everything below).
    pub(crate) idmap: Option<bool>,
    /// Flags of the file system.
    pub(crate) flags: Flags,
    /// Propagation, when one is asked for.
    pub(crate) propagation: Option<Propagation>,
    /// What is left: options of the file system, joined by commas. A bind mount makes none, and
    /// mount(2) has no use for them there either.
    pub(crate) data: String,
}

/// `MS_*` flags that belong to the file system.
pub(crate) type Flags = u32;

/// How a mount takes part in the propagation of mount events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub(crate) kind: u64,
    /// Everything below, too.
    pub(crate) recursive: bool,
}

impl Propagation {
    /// Parses one of `shared`, `rshared`, `slave`, ...
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (base, recursive) = match word.strip_prefix('r') {
            Some(base) => (base, true),
            None => (word, false),
        };
        let kind = match base {
            "shared" => libc::MS_SHARED,
            "slave" => libc::MS_SLAVE,
            "private" => libc::MS_PRIVATE,
            "unbindable" => libc::MS_UNBINDABLE,
            _ => return None,
        };
        Some(Self { kind, recursive })
    }
}

/// Words that set or clear an attribute of a mount; with an `r` in front, of everything below.
const ATTRIBUTES: &[(&str, &str, u64)] = &[
    ("ro", "rw", attr::RDONLY),
    ("nosuid", "suid", attr::NOSUID),
    ("nodev", "dev", attr::NODEV),
    ("noexec", "exec", attr::NOEXEC),
    ("nodiratime", "diratime", attr::NODIRATIME),
    ("nosymfollow", "symfollow", attr::NOSYMFOLLOW),
];

/// Words that set or clear a flag of a file system.
const FLAGS: &[(&str, &str, Flags)] = &[
    ("sync", "async", libc::MS_SYNCHRONOUS as Flags),
    ("dirsync", "", libc::MS_DIRSYNC as Flags),
    ("mand", "nomand", libc::MS_MANDLOCK as Flags),
    ("silent", "loud", libc::MS_SILENT as Flags),
    ("lazytime", "nolazytime", libc::MS_LAZYTIME as Flags),
    ("iversion", "noiversion", libc::MS_I_VERSION as Flags),
];

/// Every option that has a meaning here; what is not among them is passed to the file system.
pub fn names() -> Vec<String> {
    let propagation = ["shared", "slave", "private", "unbindable"];
    let times = [
        "atime",
        "noatime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
    ];
    let attributes = ATTRIBUTES.iter().flat_map(|(set, clear, _)| [*set, *clear]);
    let both: Vec<&str> = propagation
        .into_iter()
        .chain(times)
        .chain(attributes)
        .collect();
    let recursive = both.iter().map(|name| format!("r{name}"));
    let flags = FLAGS.iter().flat_map(|(set, clear, _)| [*set, *clear]);
    let plain = ["bind", "rbind", "idmap", "ridmap", "defaults"]
        .into_iter()
        .chain(both.iter().copied())
        .chain(flags);
    let mut names: Vec<String> = plain
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .chain(recursive)
        .collect();
    names.sort();
    names
}

impl Options {
    /// Parses the options of the mount at `destination`, which is named in errors.
    pub(crate) fn parse(words: &[String], destination: &str) -> Result<Self, Error> {
        let mut options = Self::default();
        for word in words {
            options.add(word, destination)?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str, destination: &str) -> Result<(), Error> {
        match word {
            "defaults" | "" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "remount" | "tmpcopyup" => {
                return Err(refused(destination, word, "not supported"));
            }
            _ => {
                if let Some(propagation) = Propagation::parse(word) {
                    self.propagation = Some(propagation);
                } else if !self.add_attribute(word) && !self.add_flag(word) {
                    if !self.data.is_empty() {
                        self.data.push(',');
                    }
                    self.data.push_str(word);
                }
            }
        }
        Ok(())
    }

    fn add_attribute(&mut self, word: &str) -> bool {
        if apply(&mut self.attr, word) {
            return true;
        }
        word.strip_prefix('r')
            .is_some_and(|base| apply(&mut self.attr_recursive, base))
    }

    fn add_flag(&mut self, word: &str) -> bool {
        for (set, clear, flag) in FLAGS {
            if word == *set {
                self.flags |= flag;
                return true;
            }
            if word == *clear {
                self.flags &= !flag;
                return true;
            }
        }
        false
    }

    /// Flags for mount(2) of a new file system.
    pub(crate) fn mount_flags(&self) -> MountFlags {
        let mut flags = MountFlags::from_bits_retain(self.flags);
        let set = self.attr.set;
        for (bit, flag) in [
            (attr::RDONLY, MountFlags::RDONLY),
            (attr::NOSUID, MountFlags::NOSUID),
            (attr::NODEV, MountFlags::NODEV),
            (attr::NOEXEC, MountFlags::NOEXEC),
            (attr::NODIRATIME, MountFlags::NODIRATIME),
            (
                attr::NOSYMFOLLOW,
                MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as u32),
            ),
        ] {
            if set & bit != 0 {
                flags |= flag;
            }
        }
        match set & attr::ATIME {
            attr::NOATIME => flags |= MountFlags::NOATIME,
            attr::STRICTATIME => flags |= MountFlags::STRICTATIME,
            _ => flags |= MountFlags::RELATIME,
        }
        flags
    }

    /// Is the mount to be read-only?
    pub(crate) fn read_only(&self) -> bool {
        self.attr.set & attr::RDONLY != 0
    }
}

/// The three ways of keeping access times are one field of the attributes, which has to be
/// cleared as a whole before it is set.
fn apply(attr: &mut MountAttr, word: &str) -> bool {
    let atime = match word {
        "relatime" | "atime" | "norelatime" | "nostrictatime" => Some(attr::RELATIME),
        "noatime" => Some(attr::NOATIME),
        "strictatime" => Some(attr::STRICTATIME),
        _ => None,
    };
    if let Some(atime) = atime {
        attr.set = (attr.set & !attr::ATIME) | atime;
        attr.clear |= attr::ATIME;
        return true;
    }
    for (set, clear, bit) in ATTRIBUTES {
        if word == *set {
            attr.set |= bit;
            attr.clear &= !bit;
            return true;
        }
        if word == *clear {
            attr.clear |= bit;
            attr.set &= !bit;
            return true;
        }
    }
    false
}

fn refused(destination: &str, option: &str, why: &str) -> Error {
    Error::invalid(format!("mounts ({destination}): option {option:?}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
        Options::parse(&words, "/x").unwrap()
    }

    #[test]
    fn every_name_listed_is_understood() {
        for name in names() {
            let options = Options::parse(std::slice::from_ref(&name), "/x").unwrap();
            assert_eq!(options.data, "", "{name}");
        }
    }

    #[test]
    fn kubelet_volume() {
        let options = parse(&["rbind", "rprivate", "ro"]);
        assert!(options.bind && options.recursive && options.read_only());
        assert_eq!(options.attr_recursive, MountAttr::default());
        assert_eq!(
            options.propagation,
            Some(Propagation {
                kind: libc::MS_PRIVATE,
                recursive: true
            })
        );
    }

    #[test]
    fn recursive_read_only_is_not_the_plain_one() {
        let options = parse(&["rbind", "rro"]);
        assert!(!options.read_only());
        assert_eq!(options.attr_recursive.set, attr::RDONLY);
    }

    #[test]
    fn later_option_wins() {
        assert_eq!(parse(&["ro", "rw"]).attr.set, 0);
        assert_eq!(parse(&["rw", "ro"]).attr.clear, 0);
        assert_eq!(
            parse(&["noatime", "strictatime"]).attr.set,
            attr::STRICTATIME
        );
    }

    #[test]
    fn file_system_options_are_kept_in_order() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.data, "mode=755,size=65536k");
        let flags = options.mount_flags();
        assert!(flags.contains(MountFlags::NOSUID | MountFlags::STRICTATIME));
        assert!(!flags.contains(MountFlags::RELATIME));
    }

    #[test]
    fn what_would_need_more_than_an_option_is_refused_by_name() {
        for word in ["remount", "tmpcopyup"] {
            let error = Options::parse(&[word.to_owned()], "/x")
                .unwrap_err()
                .to_string();
            assert!(error.contains(word) && error.contains("/x"), "{error}");
        }
    }

    #[test]
    fn relatime_is_not_a_recursive_elatime() {
        let options = parse(&["relatime", "rrelatime"]);
        assert_eq!(options.attr.clear, attr::ATIME);
        assert_eq!(options.attr_recursive.clear, attr::ATIME);
        assert_eq!(options.data, "");
    }

    proptest! {
        /// mount_setattr refuses a bit that is both set and cleared, other than access times.
        #[test]
        fn nothing_is_set_and_cleared(words in proptest::collection::vec(
            proptest::sample::select(vec![
                "ro", "rw", "nosuid", "suid", "noexec", "exec", "rro", "rrw", "noatime", "relatime",
                "rnoatime", "dev", "nodev", "rnodev", "nodiratime", "diratime",
            ]), 0..12)) {
            let options = parse(&words);
            for attr in [options.attr, options.attr_recursive] {
                prop_assert_eq!(attr.set & attr.clear & !attr::ATIME, 0);
                prop_assert_eq!(attr.set & attr::ATIME & !attr.clear, 0);
            }
        }
    }
}
