//! The command: working directory, environment, search path, exec.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::error::Doing;
use crate::oci_spec::runtime::Process;
use crate::path::{self, Kind};
use crate::sys::exec::{StringArray, execve};

/// Most of a container's /etc/passwd that is read, in bytes.
const MAX_PASSWD: u64 = 1 << 20;

/// Opens the working directory inside `root`, making it when it is missing. A descriptor that
/// was resolved inside the root cannot be the host's directory, whatever its path says. `None`
/// is the root itself, where the child is already.
pub(crate) fn open_cwd(root: BorrowedFd<'_>, process: &Process) -> Result<Option<OwnedFd>, Error> {
    let cwd = working_directory(process)?;
    if cwd == Path::new("/") {
        return Ok(None);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match path::open_as(root, cwd, flags) {
        Err(Errno::NOENT) => path::open_or_create(root, cwd, || Ok(Kind::Directory)).map(Some),
        done => done
            .map(Some)
            .doing(|| format!("open working directory {}", cwd.display())),
    }
}

fn working_directory(process: &Process) -> Result<&Path, Error> {
    let cwd = process.cwd();
    if cwd.is_absolute() {
        return Ok(cwd);
    }
    let problem = format!("{} is not an absolute path", cwd.display());
    Err(Error::invalid("process.cwd", problem))
}

/// Refuses what could not be executed in any root.
#[cfg(feature = "oci")]
pub(crate) fn check(process: &Process) -> Result<(), Error> {
    working_directory(process)?;
    arguments(process)?;
    let mut env = process.env().iter().flatten();
    env.try_for_each(|variable| c_string("process.env", variable).map(drop))
}

/// Environment of the process as given, with a HOME from /etc/passwd where there is none.
fn environment(root: BorrowedFd<'_>, process: &Process) -> Result<Vec<CString>, Error> {
    let given = process.env().as_deref().unwrap_or_default();
    let mut env = Vec::with_capacity(given.len() + 1);
    for variable in given {
        env.push(c_string("process.env", variable)?);
    }
    if !given.iter().any(|variable| variable.starts_with("HOME=")) {
        let home = home_of(root, process.user().uid());
        env.push(c_string("process.env", &format!("HOME={home}"))?);
    }
    Ok(env)
}

/// What is executed, and where it may be.
#[derive(Debug)]
pub(crate) struct Command {
    args: Vec<CString>,
    env: Vec<CString>,
    /// Paths to try, in order.
    candidates: Vec<CString>,
}

impl Command {
    /// The command of a process in `root`.
    pub(crate) fn new(root: BorrowedFd<'_>, process: &Process) -> Result<Self, Error> {
        let args = arguments(process)?;
        let env = environment(root, process)?;
        let candidates = candidates(&args[0], &env);
        Ok(Self {
            args,
            env,
            candidates,
        })
    }

    /// Leaves out the places at the beginning of the search where there is nothing, for root.
    /// What appears there between now and the execution is not found; what disappears is.
    pub(crate) fn look_ahead(&mut self) {
        let missing = |path: &CString| {
            // A relative entry is about the working directory, which is not entered yet.
            path.as_bytes().starts_with(b"/")
                && rustix::fs::access(path, rustix::fs::Access::EXISTS) == Err(Errno::NOENT)
        };
        let last = self.candidates.len().saturating_sub(1);
        let empty = self
            .candidates
            .iter()
            .take(last)
            .take_while(|path| missing(path))
            .count();
        self.candidates.drain(..empty);
    }

    /// Executes the command; returns only with the reason why not.
    ///
    /// A name with a slash is a path, any other is searched for in the PATH of the process's own
    /// environment. A file that may not be executed does not end the search, but is what is
    /// complained about when nothing better is found.
    pub(crate) fn execute(self) -> Error {
        let name = self.args[0].clone();
        let (args, env) = (StringArray::new(self.args), StringArray::new(self.env));
        let mut reason = io::Error::from(Errno::NOENT);
        for candidate in self.candidates {
            let error = execve(&candidate, &args, &env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => reason = error,
                _ => {
                    reason = error;
                    break;
                }
            }
        }
        refused(&name, reason)
    }
}

/// Arguments of the process; at least one.
fn arguments(process: &Process) -> Result<Vec<CString>, Error> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("process.args", "no command"));
    }
    args.iter()
        .map(|arg| c_string("process.args", arg))
        .collect()
}

/// The error of a command that cannot be executed.
pub(crate) fn refused(name: &CString, source: io::Error) -> Error {
    let exit_code = match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => 127,
        _ => 126,
    };
    Error::Command {
        command: name.to_string_lossy().into_owned(),
        exit_code,
        source,
    }
}

fn candidates(name: &CString, env: &[CString]) -> Vec<CString> {
    const PATH: &[u8] = b"PATH=";
    let bytes = name.as_bytes();
    if bytes.contains(&b'/') {
        return vec![name.clone()];
    }
    let path = env
        .iter()
        .rev()
        .find_map(|v| v.as_bytes().strip_prefix(PATH))
        .unwrap_or_default();
    path.split(|byte| *byte == b':')
        .map(|dir| if dir.is_empty() { &b"."[..] } else { dir })
        .filter_map(|dir| CString::new([dir, b"/", bytes].concat()).ok())
        .collect()
}

/// Home directory of a user as the container's /etc/passwd has it; "/" when that says nothing.
fn home_of(root: BorrowedFd<'_>, uid: u32) -> String {
    let mut text = String::new();
    if let Ok(file) = open_passwd(root) {
        // What is not UTF-8 counts as not there.
        let _ = std::fs::File::from(file)
            .take(MAX_PASSWD)
            .read_to_string(&mut text);
    }
    find_home(&text, uid).unwrap_or("/").to_owned()
}

/// Opens without waiting, since the image may hold a FIFO of that name.
fn open_passwd(root: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = path::open_as(root, Path::new("/etc/passwd"), flags)?;
    let stat = rustix::fs::fstat(file.as_fd())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL),
    }
}

fn find_home(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let matches = fields.next()?.parse() == Ok(uid);
        let home = fields.nth(2)?;
        (matches && !home.is_empty()).then_some(home)
    })
}

fn c_string(field: &str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::invalid(field, format!("zero byte in {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    #[test]
    fn only_a_bare_name_is_searched_for() {
        let env = [c("A=b"), c("PATH=/bin::/usr/bin")];
        assert_eq!(
            candidates(&c("sh"), &env),
            [c("/bin/sh"), c("./sh"), c("/usr/bin/sh")]
        );
        assert_eq!(candidates(&c("./sh"), &env), [c("./sh")]);
        assert_eq!(candidates(&c("/x/sh"), &env), [c("/x/sh")]);
        assert_eq!(candidates(&c("sh"), &[]), [c("./sh")]);
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (errno, code) in [
            (Errno::NOENT, 127),
            (Errno::ACCESS, 126),
            (Errno::NOEXEC, 126),
        ] {
            let error = refused(&c("x"), errno.into());
            assert!(matches!(error, Error::Command { exit_code, .. } if exit_code == code));
        }
    }

    #[test]
    fn command_that_is_not_there_or_not_executable() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("data"), "").unwrap();
        let env = vec![c(&format!(
            "PATH=/no/such:{}:/nor/this",
            dir.path().display()
        ))];
        let execute = |name: &str| {
            let (args, env) = (vec![c(name)], env.clone());
            let candidates = candidates(&args[0], &env);
            let mut command = Command {
                args,
                env,
                candidates,
            };
            command.look_ahead();
            assert!(command.candidates.len() < 3, "{command:?}");
            command.execute()
        };
        let missing = execute("missing");
        assert!(
            matches!(missing, Error::Command { exit_code: 127, .. }),
            "{missing}"
        );
        let data = execute("data");
        assert!(
            matches!(data, Error::Command { exit_code: 126, .. }),
            "{data}"
        );
    }

    #[test]
    fn home_comes_from_the_third_field_and_garbage_is_skipped() {
        let passwd = "junk\n:::\nroot:x:0:0:root:/root:/bin/sh\nu:x:5:5::/home/u:\nv:x:6:6:::\n";
        assert_eq!(find_home(passwd, 0), Some("/root"));
        assert_eq!(find_home(passwd, 5), Some("/home/u"));
        assert_eq!(find_home(passwd, 6), None);
        assert_eq!(find_home("", 0), None);
    }

    #[test]
    fn empty_and_split_arguments_are_refused() {
        let mut process = Process::default();
        process.set_args(Some(vec![]));
        assert!(arguments(&process).is_err());
        process.set_args(Some(vec!["a\0b".into()]));
        assert!(arguments(&process).is_err());
    }

    #[test]
    fn working_directory_that_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let mut process = Process::default();
        process.set_cwd("/file".into());
        let error = open_cwd(root.as_fd(), &process).unwrap_err();
        assert!(error.to_string().contains("/file"), "{error}");
        process.set_cwd("/made/here".into());
        open_cwd(root.as_fd(), &process).unwrap();
        assert!(dir.path().join("made/here").is_dir());
        process.set_cwd("here".into());
        assert!(open_cwd(root.as_fd(), &process).is_err());
    }
}
