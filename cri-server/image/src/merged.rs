//! An image's files as its containers see them, read without mounting anything.
//!
//! Overlayfs's rules: of the layers that have a name the uppermost counts; directories merge
//! with those below until one is opaque; a character device 0:0 hides the name. Symbolic links
//! lead around within the image: `..` ends at its root, absolute targets begin there.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::error::StoreError;

/// Links followed on the way to one file, as the kernel has it.
const MAX_LINKS: usize = 40;
/// Directories held open on the way to one file, of all layers together: the depth of a tree, and
/// the number of layers that have it, are up to the image's author.
const MAX_OPEN: usize = 4096;
const OPAQUE: &str = "trusted.overlay.opaque";

/// A directory and those it merges with, uppermost first.
#[derive(Debug)]
pub(crate) struct Merged {
    layers: Vec<OwnedFd>,
}

/// Something an image has.
#[derive(Debug)]
pub(crate) enum Node {
    Directory(Rc<Merged>),
    /// Anything else: the directory of the layer that has it, its name there, what it is.
    Other {
        dir: Rc<Merged>,
        layer: usize,
        name: Vec<u8>,
        stat: Box<Stat>,
    },
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) node: Node,
    /// The path without links in it, relative to the image's root.
    pub(crate) path: PathBuf,
}

impl Merged {
    /// The root directory of layers, uppermost first.
    pub(crate) fn root(layers: &[PathBuf]) -> Result<Rc<Self>, StoreError> {
        let open = |path: &PathBuf| {
            openat(CWD, path, DIRECTORY, Mode::empty())
                .map_err(|e| StoreError::io("open layer", path)(e.into()))
        };
        Ok(Rc::new(Self {
            layers: layers.iter().map(open).collect::<Result<_, _>>()?,
        }))
    }

    /// The uppermost of the directories, whose attributes are those of all.
    pub(crate) fn top(&self) -> Option<&OwnedFd> {
        self.layers.first()
    }

    /// The directories that are merged, uppermost first.
    pub(crate) fn layers(&self) -> &[OwnedFd] {
        &self.layers
    }

    /// What the directory has under a name; `None` when nothing, or it is hidden.
    pub(crate) fn lookup(self: &Rc<Self>, name: &[u8]) -> Result<Option<Node>, Errno> {
        let mut layers = Vec::new();
        for (layer, dir) in self.layers.iter().enumerate() {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let fd = openat(dir, name, DIRECTORY, Mode::empty())?;
                    let opaque = is_opaque(&fd);
                    layers.push(fd);
                    if opaque {
                        break;
                    }
                }
                FileType::CharacterDevice if stat.st_rdev == 0 => break,
                _ if layers.is_empty() => {
                    let (name, stat) = (name.to_vec(), Box::new(stat));
                    return Ok(Some(Node::Other {
                        dir: self.clone(),
                        layer,
                        name,
                        stat,
                    }));
                }
                _ => break,
            }
        }
        Ok(if layers.is_empty() {
            None
        } else {
            Some(Node::Directory(Rc::new(Self { layers })))
        })
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0; 1];
    matches!(fgetxattr(dir, OPAQUE, &mut value), Ok(1)) && value == *b"y"
}

impl Node {
    /// Type of what was found.
    pub(crate) fn file_type(&self) -> FileType {
        match self {
            Self::Directory(_) => FileType::Directory,
            Self::Other { stat, .. } => FileType::from_raw_mode(stat.st_mode),
        }
    }

    /// Device and inode number, which hard links share; `None` for a directory.
    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        match self {
            Self::Directory(_) => None,
            Self::Other { stat, .. } => Some((stat.st_dev, stat.st_ino)),
        }
    }

    /// Size in bytes of a file; 0 for a directory.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Directory(_) => 0,
            Self::Other { stat, .. } => u64::try_from(stat.st_size).unwrap_or(0),
        }
    }

    /// Where a symbolic link leads.
    pub(crate) fn link_target(&self) -> Result<Vec<u8>, Errno> {
        match self {
            Self::Directory(_) => Err(Errno::INVAL),
            Self::Other {
                dir, layer, name, ..
            } => readlinkat(&dir.layers[*layer], name, Vec::new()).map(|t| t.into_bytes()),
        }
    }

    /// Opens a regular file.
    pub(crate) fn open(&self) -> Result<File, Errno> {
        let Self::Other {
            dir, layer, name, ..
        } = self
        else {
            return Err(Errno::ISDIR);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&dir.layers[*layer], name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(fd.into())
    }
}

/// Finds paths in an image. It remembers the directories on the way to the last one, so that
/// asking for paths in their order looks up each directory once.
#[derive(Debug)]
pub(crate) struct Finder {
    /// Name and directories of each component, without links; the first is the root.
    at: Vec<(Vec<u8>, Rc<Merged>)>,
    open: usize,
    max_open: usize,
}

impl Finder {
    pub(crate) fn new(root: Rc<Merged>) -> Self {
        Self {
            open: root.layers.len(),
            at: vec![(Vec::new(), root)],
            max_open: MAX_OPEN,
        }
    }

    /// Follows a path from the root; the last component, too, if it is a link and `follow_last`.
    pub(crate) fn find(&mut self, path: &Path, follow_last: bool) -> Result<Option<Found>, Errno> {
        let mut left: VecDeque<Vec<u8>> = components(path.as_os_str().as_bytes()).into();
        let known = self.at[1..]
            .iter()
            .zip(&left)
            .take_while(|((name, _), component)| name == *component)
            .count();
        self.truncate(1 + known);
        left.drain(..known);
        let mut links = 0;
        while let Some(component) = left.pop_front() {
            if component == b".." {
                self.truncate((self.at.len() - 1).max(1));
                continue;
            }
            let node = match self.dir().lookup(&component)? {
                None => return Ok(None),
                Some(Node::Directory(below)) => {
                    self.enter(component, below)?;
                    continue;
                }
                Some(node) => node,
            };
            let last = left.is_empty();
            if node.file_type() == FileType::Symlink && (follow_last || !last) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = node.link_target()?;
                if target.starts_with(b"/") {
                    self.truncate(1);
                }
                for component in components(&target).into_iter().rev() {
                    left.push_front(component);
                }
            } else if last {
                let path = join(&self.at, Some(&component));
                return Ok(Some(Found { node, path }));
            } else {
                return Ok(None);
            }
        }
        Ok(Some(Found {
            node: Node::Directory(self.dir().clone()),
            path: join(&self.at, None),
        }))
    }

    fn dir(&self) -> &Rc<Merged> {
        let (_, dir) = self.at.last().expect("the root is never left");
        dir
    }

    fn enter(&mut self, name: Vec<u8>, dir: Rc<Merged>) -> Result<(), Errno> {
        self.open += dir.layers.len();
        self.at.push((name, dir));
        if self.open > self.max_open {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        for (_, dir) in self.at.drain(len.min(self.at.len())..) {
            self.open -= dir.layers.len();
        }
    }
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|c| !matches!(*c, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}

fn join(at: &[(Vec<u8>, Rc<Merged>)], last: Option<&[u8]>) -> PathBuf {
    at.iter()
        .skip(1)
        .map(|(name, _)| name.as_slice())
        .chain(last)
        .map(OsStr::from_bytes)
        .collect()
}

/// Whether an image has anything at `path`.
pub(crate) fn exists(layers: &[PathBuf], path: &Path) -> Result<bool, StoreError> {
    let found = Finder::new(Merged::root(layers)?).find(path, true);
    let found = found.map_err(|e| StoreError::io("look in the image for", path)(e.into()))?;
    Ok(found.is_some())
}

/// Reads a regular file of an image; `None` when there is none at `path`. Longer than `limit`
/// bytes is an error.
pub(crate) fn read_file(
    layers: &[PathBuf],
    path: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |e: Errno| StoreError::io("read from the image", path)(e.into());
    let mut finder = Finder::new(Merged::root(layers)?);
    let Some(found) = finder.find(path, true).map_err(failed)? else {
        return Ok(None);
    };
    if found.node.file_type() != FileType::RegularFile {
        return Ok(None);
    }
    let mut content = Vec::new();
    let file = found.node.open().map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(StoreError::io("read from the image", path))?;
    if content.len() as u64 > limit {
        return Err(failed(Errno::FBIG));
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for made in ["upper/a/b", "lower/a/b/c", "lower/b"] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        for file in ["upper/a/f", "lower/a/b/f", "lower/b/f"] {
            std::fs::write(dir.path().join(file), file).unwrap();
        }
        for (link, target) in [("upper/c", "a/b"), ("lower/a/c", "/b"), ("lower/f", "../f")] {
            symlink(target, dir.path().join(link)).unwrap();
        }
        dir
    }

    fn root(dir: &Path) -> Rc<Merged> {
        Merged::root(&[dir.join("upper"), dir.join("lower")]).unwrap()
    }

    #[test]
    fn a_deep_tree_of_many_layers_cannot_take_all_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d/d/d/d/d")).unwrap();
        let layers = vec![dir.path().to_owned(); 10];
        let mut finder = Finder {
            max_open: 50,
            ..Finder::new(Merged::root(&layers).unwrap())
        };
        assert!(finder.find(Path::new("d/d/d/d"), false).unwrap().is_some());
        let error = finder.find(Path::new("d/d/d/d/d"), false).unwrap_err();
        assert_eq!(error, Errno::NAMETOOLONG);
        assert!(finder.find(Path::new("d"), false).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn what_was_asked_before_changes_no_answer(
            paths in proptest::collection::vec(("(/?(a|b|c|f|\\.\\.)){0,6}", any::<bool>()), 1..10),
        ) {
            let dir = tree();
            let mut remembering = Finder::new(root(dir.path()));
            for (path, follow) in paths {
                let say = |found: Result<Option<Found>, Errno>| {
                    found.map(|found| found.map(|found| (found.path, found.node.file_type())))
                };
                let mut fresh = Finder::new(root(dir.path()));
                let path = Path::new(&path);
                prop_assert_eq!(say(remembering.find(path, follow)), say(fresh.find(path, follow)));
            }
        }
    }
}
