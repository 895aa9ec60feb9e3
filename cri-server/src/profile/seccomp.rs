//! Seccomp programs.
//!
//! Compiling takes milliseconds, so it is done once for each content of a profile and each set of
//! those capabilities that the profile's rules depend on, away from the async threads. A program
//! is kept as a sealed memfd, which every container's shim gets a copy of. A file is known by what
//! stat says of it, so that one that is written or replaced counts from the next container on.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_spec::runtime::{Capabilities, LinuxSeccomp};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use skiff_seccomp::{Profile, Subject, compile, runtime_default};
use skiff_shim_proto::message::{Seccomp, SeccompListener};

use super::ProfileError;
use crate::host::kernel::Version;

/// Most profiles and programs kept: more than a node has in use.
const LIMIT: usize = 256;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Name of our own profile in messages.
const DEFAULT: &str = "RuntimeDefault";

/// A compiled profile.
#[derive(Debug)]
pub struct Program {
    /// `struct sock_filter`s in a sealed memfd.
    pub file: Arc<OwnedFd>,
    /// What a shim is told of it.
    pub description: Seccomp,
}

/// Profiles that were read and programs that were compiled.
#[derive(Debug)]
pub struct Programs {
    kernel: (u32, u32),
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    files: HashMap<PathBuf, (Stamp, Arc<Source>)>,
    programs: HashMap<Key, Arc<Program>>,
}

/// What a file's content cannot change without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A profile that was read.
#[derive(Debug)]
struct Source {
    name: String,
    content: Arc<[u8]>,
    profile: Profile,
}

/// What makes programs differ. The content itself, since a file may name another's digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `None` for our own profile.
    content: Option<Arc<[u8]>>,
    capabilities: Vec<String>,
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl Programs {
    /// None known yet.
    pub fn new(kernel: Version) -> Self {
        Self {
            kernel: (kernel.major, kernel.minor),
            known: Arc::default(),
        }
    }

    /// The program of our own profile for a process with these capabilities in its bounding set.
    pub async fn runtime_default(
        &self,
        bounding: &Capabilities,
    ) -> Result<Arc<Program>, ProfileError> {
        let subject = self.subject(bounding, runtime_default());
        let key = Key {
            content: None,
            capabilities: subject.capabilities.clone(),
        };
        if let Some(program) = self.lock().programs.get(&key) {
            return Ok(Arc::clone(program));
        }
        let known = Arc::clone(&self.known);
        blocking(move || keep(&known, key, DEFAULT, runtime_default(), &subject)).await
    }

    /// The program of a profile in a file.
    pub async fn localhost(
        &self,
        path: &Path,
        bounding: &Capabilities,
    ) -> Result<Arc<Program>, ProfileError> {
        let source = self.source(path).await?;
        let subject = self.subject(bounding, &source.profile);
        let key = Key {
            content: Some(Arc::clone(&source.content)),
            capabilities: subject.capabilities.clone(),
        };
        if let Some(program) = self.lock().programs.get(&key) {
            return Ok(Arc::clone(program));
        }
        let known = Arc::clone(&self.known);
        blocking(move || keep(&known, key, &source.name, &source.profile, &subject)).await
    }

    /// The same in words of the runtime-spec, for another runtime: our own profile, or one in a
    /// file.
    pub async fn plain(
        &self,
        path: Option<&Path>,
        bounding: &Capabilities,
    ) -> Result<LinuxSeccomp, ProfileError> {
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| ProfileError::Compile { name, source }
        };
        match path {
            None => {
                let profile = runtime_default();
                let subject = self.subject(bounding, profile);
                profile.plain(&subject).map_err(failed(DEFAULT))
            }
            Some(path) => {
                let source = self.source(path).await?;
                let subject = self.subject(bounding, &source.profile);
                source.profile.plain(&subject).map_err(failed(&source.name))
            }
        }
    }

    async fn source(&self, path: &Path) -> Result<Arc<Source>, ProfileError> {
        let stat = std::fs::metadata(path).map_err(file("find seccomp profile", path))?;
        let stamp = Stamp::from(&stat);
        if let Some((known, source)) = self.lock().files.get(path)
            && *known == stamp
        {
            return Ok(Arc::clone(source));
        }
        let (known, path) = (Arc::clone(&self.known), path.to_owned());
        blocking(move || {
            let (stamp, source) = read(&path)?;
            let source = Arc::new(source);
            let mut known = lock(&known);
            if known.files.len() >= LIMIT {
                known.files.clear();
            }
            known.files.insert(path, (stamp, Arc::clone(&source)));
            Ok(source)
        })
        .await
    }

    /// Whom a program is for: of the capabilities those that the profile asks about.
    fn subject(&self, bounding: &Capabilities, profile: &Profile) -> Subject {
        let has = |name: &String| {
            let name = name.strip_prefix("CAP_").unwrap_or(name);
            name.parse()
                .is_ok_and(|capability| bounding.contains(&capability))
        };
        Subject {
            capabilities: profile.capabilities().into_iter().filter(has).collect(),
            kernel: self.kernel,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what reads or computes on a thread where nobody waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProfileError> + Send + 'static,
) -> Result<T, ProfileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nobody aborts such a task but the end of the daemon.
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

fn read(path: &Path) -> Result<(Stamp, Source), ProfileError> {
    let mut content = Vec::new();
    let stamp = File::open(path)
        .and_then(|file| {
            let stat = file.metadata()?;
            if !stat.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            file.take(MAX_FILE + 1).read_to_end(&mut content)?;
            Ok(Stamp::from(&stat))
        })
        .map_err(file("read seccomp profile", path))?;
    let profile = Profile::parse(&content).map_err(|source| ProfileError::Parse {
        path: path.into(),
        source,
    })?;
    let source = Source {
        name: path.display().to_string(),
        content: content.into(),
        profile,
    };
    Ok((stamp, source))
}

/// Two that compile the same at once each get one, and the later one stays.
fn keep(
    known: &Mutex<Known>,
    key: Key,
    name: &str,
    profile: &Profile,
    subject: &Subject,
) -> Result<Arc<Program>, ProfileError> {
    let filter = compile(profile, subject).map_err(|source| ProfileError::Compile {
        name: name.into(),
        source,
    })?;
    let file = sealed(&filter.program).map_err(|source| ProfileError::Keep {
        name: name.into(),
        source,
    })?;
    let listener = filter.listener.map(|listener| SeccompListener {
        path: listener.path,
        metadata: listener.metadata,
    });
    let program = Arc::new(Program {
        file: Arc::new(file),
        description: Seccomp {
            size: filter.program.len() as u32,
            flags: filter.flags,
            listener,
        },
    });
    let mut known = lock(known);
    if known.programs.len() >= LIMIT {
        known.programs.clear();
    }
    known.programs.insert(key, Arc::clone(&program));
    Ok(program)
}

/// A file that nobody can change, neither we nor a shim that has it.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memfd = memfd_create("seccomp", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, all)?;
    Ok(file.into())
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProfileError {
    let path = path.to_owned();
    move |source| ProfileError::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::chain;
    use oci_spec::runtime::Capability;

    const KERNEL: Version = Version { major: 6, minor: 1 };
    const ALLOW: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir"],"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;

    fn bytes(program: &Program) -> Vec<u8> {
        let mut all = vec![0; program.description.size as usize + 1];
        let read = rustix::io::pread(&program.file, &mut all, 0).unwrap();
        all.truncate(read);
        all
    }

    #[tokio::test]
    async fn one_program_for_all_that_it_would_be_the_same_for() {
        let programs = Programs::new(KERNEL);
        let of = |capabilities: &[Capability]| capabilities.iter().copied().collect();
        let none = programs.runtime_default(&of(&[])).await.unwrap();
        let chown = programs
            .runtime_default(&of(&[Capability::Chown]))
            .await
            .unwrap();
        let admin = programs
            .runtime_default(&of(&[Capability::SysAdmin]))
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&none, &chown), "no rule asks about CAP_CHOWN");
        assert_ne!(bytes(&none), bytes(&admin));
    }

    #[tokio::test]
    async fn a_program_is_sealed_and_as_long_as_said() {
        let programs = Programs::new(KERNEL);
        let program = programs
            .runtime_default(&Capabilities::new())
            .await
            .unwrap();
        assert_eq!(bytes(&program).len(), program.description.size as usize);
        assert!(rustix::io::pwrite(&program.file, &[0], 0).is_err());
    }

    #[tokio::test]
    async fn a_file_counts_as_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        let none = Capabilities::new();
        let programs = Programs::new(KERNEL);
        std::fs::write(&path, ALLOW).unwrap();
        let first = programs.localhost(&path, &none).await.unwrap();
        let again = programs.localhost(&path, &none).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = dir.path().join("other.json");
        std::fs::write(&other, ALLOW.replace("mkdir", "rmdir")).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let changed = programs.localhost(&path, &none).await.unwrap();
        assert_ne!(bytes(&first), bytes(&changed));
        std::fs::write(&path, "{}").unwrap();
        programs.localhost(&path, &none).await.unwrap_err();
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_profile_is_said_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::new(KERNEL);
        let broken = dir.path().join("broken.json");
        std::fs::write(&broken, "{\n  \"defaultAction\": 3\n}").unwrap();
        for (path, word) in [
            (broken.clone(), "line 2 column"),
            (dir.path().join("missing.json"), "No such file"),
            (dir.path().to_owned(), "not a regular file"),
        ] {
            let error = programs
                .localhost(&path, &Capabilities::new())
                .await
                .unwrap_err();
            let error = chain(&error);
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }
}
