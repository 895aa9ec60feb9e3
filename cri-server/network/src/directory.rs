//! Chooses the network: the first valid file of the configuration directory, by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::network::{ConfigError, Draft, Network};

/// What a network may be configured in.
const LISTS_AND_PLUGINS: [&str; 3] = ["conflist", "conf", "json"];
/// What further plugins of a list may be configured in, in a directory of the network's name.
const PLUGINS: [&str; 1] = ["conf"];
/// Largest configuration file, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Why a file was passed over.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    #[error("it is longer than {MAX_SIZE} bytes")]
    TooLong,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}: {source}", path.display())]
    Beside {
        path: PathBuf,
        source: Box<FileError>,
    },
}

/// What was found in the directory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The first valid network and its file.
    pub(crate) network: Option<(PathBuf, Network)>,
    /// Files before it that are not valid, with the reasons; all, if none is.
    pub(crate) skipped: Vec<(PathBuf, String)>,
    /// Why there is no network.
    pub(crate) problem: Option<Problem>,
}

/// Why there is no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("no network configuration: directory {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    #[error("no network configuration: cannot list directory {}: {reason}", dir.display())]
    Unreadable { dir: PathBuf, reason: String },
    #[error("no network configuration: no .conflist, .conf or .json file in {}", .0.display())]
    NoFile(PathBuf),
    #[error("no valid network configuration: {0}")]
    NoneValid(String),
}

/// Reads the directory.
pub(crate) fn load(dir: &Path) -> Found {
    let files = match files(dir, &LISTS_AND_PLUGINS) {
        Ok(files) => files,
        Err(error) => {
            return Found {
                problem: Some(no_list(dir, &error)),
                ..Found::default()
            };
        }
    };
    let mut found = Found::default();
    for path in files {
        match read(&path) {
            Ok(network) => {
                found.network = Some((path, network));
                return found;
            }
            Err(error) => found.skipped.push((path, error.to_string())),
        }
    }
    found.problem = Some(if found.skipped.is_empty() {
        Problem::NoFile(dir.to_owned())
    } else {
        let each = found
            .skipped
            .iter()
            .map(|(path, why)| format!("{}: {why}", path.display()));
        Problem::NoneValid(each.collect::<Vec<_>>().join("; "))
    });
    found
}

fn no_list(dir: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::NoDirectory(dir.to_owned()),
        _ => Problem::Unreadable {
            dir: dir.to_owned(),
            reason: error.to_string(),
        },
    }
}

/// Files with one of the extensions, sorted by name. What cannot be looked at is listed too, so
/// that reading it tells why.
fn files(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let fits = path
            .extension()
            .is_some_and(|e| extensions.iter().any(|x| e == *x));
        if fits && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Network, FileError> {
    let mut draft = Draft::parse(&content(path)?)?;
    if draft.takes_more {
        let dir = path.with_file_name(&draft.name);
        for file in files(&dir, &PLUGINS).or_else(none_if_missing)? {
            let pushed = content(&file).and_then(|json| Ok(draft.push(&json)?));
            pushed.map_err(|e| FileError::Beside {
                path: file,
                source: Box::new(e),
            })?;
        }
    }
    Ok(draft.finish()?)
}

fn none_if_missing(error: io::Error) -> io::Result<Vec<PathBuf>> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
        _ => Err(error),
    }
}

fn content(path: &Path) -> Result<Vec<u8>, FileError> {
    if fs::metadata(path)?.len() > MAX_SIZE {
        return Err(FileError::TooLong);
    }
    Ok(fs::read(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn chosen(found: &Found) -> &str {
        &found.network.as_ref().unwrap().1.name
    }

    #[test]
    fn the_first_valid_file_by_name_is_chosen() {
        let dir = dir(&[
            ("30-c.conflist", r#"{"name":"c","plugins":[{"type":"x"}]}"#),
            ("20-b.conf", r#"{"name":"b","type":"x"}"#),
            ("10-a.json", "{\n  \"name\": \"a\",\n  oops\n}"),
            ("00-readme.txt", "not a configuration"),
            ("05-dir.conf/x", ""),
        ]);
        let found = load(dir.path());
        assert_eq!(chosen(&found), "b");
        assert_eq!(found.skipped.len(), 1);
        assert!(found.skipped[0].0.ends_with("10-a.json"));
        assert!(
            found.skipped[0].1.contains("line 3"),
            "{}",
            found.skipped[0].1
        );
        assert_eq!(found.problem, None);
    }

    #[test]
    fn plugins_beside_the_list_are_appended() {
        let dir = dir(&[
            ("10.conflist", r#"{"name":"n","plugins":[{"type":"a"}]}"#),
            ("n/20.conf", r#"{"type":"c"}"#),
            ("n/10.conf", r#"{"type":"b"}"#),
            ("n/30.json", r#"{"type":"d"}"#),
        ]);
        let kinds = |found: Found| -> Vec<String> {
            found
                .network
                .unwrap()
                .1
                .plugins
                .into_iter()
                .map(|p| p.kind)
                .collect()
        };
        assert_eq!(kinds(load(dir.path())), ["a", "b", "c"]);
        let only = r#"{"name":"n","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#;
        fs::write(dir.path().join("10.conflist"), only).unwrap();
        assert_eq!(kinds(load(dir.path())), ["a"]);
        fs::write(dir.path().join("10.conflist"), r#"{"name":"n"}"#).unwrap();
        assert_eq!(kinds(load(dir.path())), ["b", "c"]);
        fs::write(dir.path().join("n/20.conf"), "{}").unwrap();
        let found = load(dir.path());
        assert!(
            found.skipped[0]
                .1
                .contains("n/20.conf: key \"type\" is missing")
        );
    }

    #[test]
    fn problems_say_what_is_wrong_and_where() {
        let dir = dir(&[]);
        let missing = dir.path().join("net.d");
        assert_eq!(load(&missing).problem, Some(Problem::NoDirectory(missing)));
        assert_eq!(
            load(dir.path()).problem,
            Some(Problem::NoFile(dir.path().to_owned()))
        );
        let file = dir.path().join("10-a.conflist");
        fs::write(&file, "{\n]").unwrap();
        assert!(matches!(
            load(&file).problem,
            Some(Problem::Unreadable { .. })
        ));
        let text = load(dir.path()).problem.unwrap().to_string();
        assert!(
            text.contains("10-a.conflist: not JSON") && text.contains("line 2"),
            "{text}"
        );
        std::os::unix::fs::symlink("nowhere", dir.path().join("20-b.conf")).unwrap();
        let text = load(dir.path()).problem.unwrap().to_string();
        assert!(
            text.contains("20-b.conf: cannot read it: No such file"),
            "{text}"
        );
    }

    #[test]
    fn a_file_too_long_is_passed_over() {
        let dir = dir(&[("10.conf", &" ".repeat(MAX_SIZE as usize + 1))]);
        assert!(load(dir.path()).skipped[0].1.contains("longer than"));
    }
}
