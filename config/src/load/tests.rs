use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::DEFAULT_FILE;

fn error(text: &str) -> String {
    parse(Path::new("f.toml"), text).unwrap_err().to_string()
}

/// Leaves of a table by dotted name; an empty table is a leaf.
fn leaves(table: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                names.extend(
                    leaves(inner)
                        .into_iter()
                        .map(|leaf| format!("{name}.{leaf}")),
                );
            }
            _ => names.push(name.clone()),
        }
    }
    names.sort();
    names
}

#[test]
fn default_file_has_every_key_at_its_default() {
    let file = parse(Path::new("dist/skiff.toml"), DEFAULT_FILE).unwrap();
    let default: Table = Config::default().to_toml().unwrap().parse().unwrap();
    assert_eq!(leaves(&file), leaves(&default));
    assert_eq!(Config::deserialize(file).unwrap(), Config::default());
}

#[test]
fn errors_name_file_line_and_key() {
    for (text, expected) in [
        (
            "root = '/a'\nlissten = 'x'\n",
            "f.toml:2: lissten: unknown field `lissten`",
        ),
        (
            "[log]\n\nlevel = 'loud'\n",
            "f.toml:3: log.level: unknown variant `loud`",
        ),
        (
            "[metrics]\naddress = ':9990'",
            "f.toml:2: metrics.address: \":9990\" is not of the form",
        ),
        (
            "[tracing]\nendpoint = 'https://collector:4317'",
            "f.toml:2: tracing.endpoint: \"https://collector:4317\" is not of the form http://",
        ),
        (
            "[tracing]\nsampling_rate_per_million = 1000001",
            "f.toml:2: tracing.sampling_rate_per_million: 1000001 is more than 1000000",
        ),
        (
            "[image]\nprogress_timeout = '5 minutes'",
            "f.toml:2: image.progress_timeout: \"5 min",
        ),
        (
            "[image]\nprogress_timeout = '0s'",
            "f.toml:2: image.progress_timeout: must be longer",
        ),
        (
            "[container]\nlog_entry_size = '2MiB'",
            "f.toml:2: container.log_entry_size: 2MiB is not from 1KiB to 1MiB",
        ),
        (
            "[stats]\ninterval = '900ms'",
            "f.toml:2: stats.interval: must be at least 1s",
        ),
        (
            "[image]\nparallel_layers = 0",
            "f.toml:2: image.parallel_layers: invalid value",
        ),
        (
            "[runtime]\nspare_shims = -1",
            "f.toml:2: runtime.spare_shims: invalid value",
        ),
        (
            "[runtime]\nspare_shims = 65",
            "f.toml:2: runtime.spare_shims: 65 is more than 64",
        ),
        (
            "[runtime]\ndefault_handler = 'a b'",
            "f.toml:2: runtime.default_handler: \"a b\" is",
        ),
        (
            "[runtime.handlers.'A']\npath = '/x'",
            "f.toml:1: runtime.handlers.A: \"A\" is not a name",
        ),
        (
            "[runtime.handlers.a]\npath = 'x'",
            "f.toml:2: runtime.handlers.a.path: \"x\" is not an absolute",
        ),
        (
            "[runtime.handlers.a.container]\ncni = ''",
            "f.toml:2: runtime.handlers.a.container.cni: unknown field",
        ),
        (
            "[runtime]\nshim = 'bin/shim'",
            "f.toml:2: runtime.shim: bin/shim is neither",
        ),
        (
            "root = 'var'",
            "f.toml:1: root: \"var\" is not an absolute path",
        ),
        (
            "listen = '/run/x'",
            "f.toml:1: listen: \"/run/x\" is not of the form unix:///path",
        ),
        (
            "cgroup_driver = 'cgroupsfs'",
            "f.toml:1: cgroup_driver: \"cgroupsfs\" is none of",
        ),
        (
            "[container]\ndefault_capabilities = [\n'CHOWN',\n'CHOWNS']",
            "f.toml:2: container.default_capabilities: no variant for CHOWNS",
        ),
        (
            "[container.default_sysctls]\n'kernel.panic' = '1'",
            "f.toml:2: container.default_sysctls.kernel.panic: \"kernel.panic\" is no parameter",
        ),
        (
            "[container.default_ulimits]\nnofile = { soft = 9, hard = 8 }",
            "f.toml:2: container.default_ulimits.nofile: soft is above hard",
        ),
        (
            "[container.default_ulimits.core]\nsoft = 0\nhard = -1",
            "f.toml:3: container.default_ulimits.core.hard: neither a number from 0",
        ),
        ("root = '/a'\n[log\n", "f.toml:2: "),
        ("root = '/a'\nroot = '/b'\n", "f.toml:2: "),
    ] {
        let message = error(text);
        assert!(
            message.starts_with(expected),
            "{text}\n  {message}\n  {expected}"
        );
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn later_drop_ins_win_and_tables_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("skiff.toml");
    let drop_in = dir.path().join("skiff.toml.d");
    std::fs::create_dir(&drop_in).unwrap();
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    write(
        &main,
        "root = '/a'\n[image]\npinned = ['x', 'y']\n[container.default_sysctls]\n'net.a' = '1'",
    );
    write(
        &drop_in.join("20-b.toml"),
        "root = '/c'\n[image]\npinned = ['z']",
    );
    write(
        &drop_in.join("10-a.toml"),
        "root = '/b'\nstate = '/s'\n[container.default_sysctls]\n'net.b' = '2'",
    );
    write(&drop_in.join(".hidden.toml"), "nonsense");
    write(&drop_in.join("note.txt"), "nonsense");
    let loaded = Config::load(Some(&main), &Overrides::default()).unwrap();
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|file| file.file_name().unwrap())
        .collect();
    assert_eq!(names, ["skiff.toml", "10-a.toml", "20-b.toml"]);
    let config = loaded.config;
    assert_eq!(config.root, Path::new("/c"));
    assert_eq!(config.state, Path::new("/s"));
    assert_eq!(config.image.pinned, ["z"]);
    assert_eq!(config.container.default_sysctls.len(), 2);
    assert_eq!(
        config.image.progress_timeout.duration(),
        Duration::from_secs(300)
    );
}

#[test]
fn an_error_in_a_drop_in_names_that_file() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("skiff.toml");
    std::fs::create_dir(dir.path().join("skiff.toml.d")).unwrap();
    std::fs::write(&main, "").unwrap();
    std::fs::write(dir.path().join("skiff.toml.d/x.toml"), "\n\nbad = 1").unwrap();
    let message = Config::load(Some(&main), &Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("skiff.toml.d/x.toml:3: bad: unknown field"),
        "{message}"
    );
}

#[test]
fn a_named_file_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    let error = Config::load(Some(&missing), &Overrides::default()).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Read { path, .. } if *path == missing),
        "{error}"
    );
}

#[test]
fn flags_win_over_files() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("skiff.toml");
    std::fs::write(&main, "root = '/a'\n[log]\nlevel = 'warn'").unwrap();
    let overrides = Overrides {
        listen: Some("unix:///x".parse().unwrap()),
        root: Some("/b".into()),
        log_level: Some(LogLevel::Trace),
        ..Overrides::default()
    };
    let config = Config::load(Some(&main), &overrides).unwrap().config;
    assert_eq!(config.listen.path(), Path::new("/x"));
    assert_eq!(config.root, Path::new("/b"));
    assert_eq!(config.log.level, LogLevel::Trace);
    for (root, state) in [("b", "/s"), ("/b", "s"), ("/same", "/same")] {
        let overrides = Overrides {
            root: Some(root.into()),
            state: Some(state.into()),
            ..Overrides::default()
        };
        assert!(
            Config::load(Some(&main), &overrides).is_err(),
            "{root} {state}"
        );
    }
}

#[test]
fn ulimits_take_numbers_and_unlimited() {
    let text = "[container.default_ulimits]\nnofile = { soft = 1024, hard = 'unlimited' }";
    let config = Config::deserialize(parse(Path::new("f"), text).unwrap()).unwrap();
    let (name, limit) = config.container.default_ulimits.iter().next().unwrap();
    let rlimit = limit.rlimit(*name).unwrap();
    assert_eq!((rlimit.soft(), rlimit.hard()), (1024, u64::MAX));
    assert_eq!(
        rlimit.typ(),
        oci_spec::runtime::PosixRlimitType::RlimitNofile
    );
}

/// Text that is often nearly a configuration.
fn nearly_toml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("root".to_owned()),
        Just("log".to_owned()),
        Just("container.default_ulimits".to_owned()),
        Just("nofile".to_owned()),
        Just("pinned".to_owned()),
        "[a-zé.\"']{0,8}",
    ];
    let value = prop_oneof![
        Just("'/a'".to_owned()),
        Just("{ soft = 1, hard = 2 }".to_owned()),
        Just("[1, [2], 'x']".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        "[-0-9a-z'\"\\[\\]{}=. ]{0,12}",
    ];
    let line = prop_oneof![
        (word.clone(), value).prop_map(|(word, value)| format!("{word} = {value}")),
        word.clone().prop_map(|word| format!("[{word}]")),
        word.prop_map(|word| format!("[[{word}]]")),
        ".{0,12}",
    ];
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_line_of_its_own(text in nearly_toml()) {
        match parse(Path::new("f"), &text) {
            Ok(table) => {
                let config = Config::deserialize(table);
                prop_assert!(config.is_ok(), "{config:?}");
            }
            Err(ConfigError::Invalid { line, .. }) => {
                prop_assert!((1..=text.lines().count().max(1) + 1).contains(&line), "line {line}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn what_is_printed_reads_the_same(
        shims in 0usize..=64,
        pinned in prop::collection::vec("\\PC{0,20}", 0..4),
        millis in 1u64..1 << 40,
        sysctls in prop::collection::btree_map("net\\.[a-z_]{1,8}(\\.[a-z0-9/]{1,4}[a-z])?", "\\PC{0,9}", 0..4),
    ) {
        let mut config = Config::default();
        config.runtime.spare_shims = shims;
        config.image.pinned = pinned;
        config.image.progress_timeout = format!("{millis}ms").parse().unwrap();
        config.container.default_sysctls =
            sysctls.into_iter().map(|(name, value)| (name.parse().unwrap(), value)).collect();
        let table = parse(Path::new("f"), &config.to_toml().unwrap()).unwrap();
        prop_assert_eq!(Config::deserialize(table).unwrap(), config);
    }
}

#[test]
fn tls_is_asked_for_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("skiff.toml");
    let load = |text: &str| {
        std::fs::write(&path, format!("[streaming]\n{text}")).unwrap();
        Config::load(Some(&path), &Overrides::default())
    };
    for (text, missing) in [
        ("certificate = '/c'", "without streaming.key"),
        ("key = '/k'", "without streaming.certificate"),
        ("client_ca = '/a'", "without streaming.certificate"),
    ] {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
    load("certificate = '/c'\nkey = '/k'\nclient_ca = '/a'").unwrap();
}

#[test]
fn a_handler_may_come_in_parts_and_is_judged_whole() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("skiff.toml");
    let drop_ins = dir.path().join("skiff.toml.d");
    std::fs::create_dir(&drop_ins).unwrap();
    let load = || Config::load(Some(&main), &Overrides::default());
    std::fs::write(&main, "[runtime.handlers.crun]\narguments = ['--debug']").unwrap();
    let error = load().unwrap_err().to_string();
    assert!(
        error.contains("runtime.handlers.crun: arguments is for another runtime"),
        "{error}"
    );
    std::fs::write(
        drop_ins.join("1.toml"),
        "[runtime.handlers.crun]\npath = '/bin/crun'",
    )
    .unwrap();
    let runtime = load().unwrap().config.runtime;
    let handler = runtime.handlers.first_key_value().unwrap().1;
    assert_eq!(handler.arguments, ["--debug"]);
    assert_eq!(
        handler.path.as_ref().unwrap().as_path(),
        Path::new("/bin/crun")
    );
    std::fs::write(
        drop_ins.join("2.toml"),
        "[runtime.handlers.skiff]\nprivileged = false",
    )
    .unwrap();
    let error = load().unwrap_err().to_string();
    assert!(
        error.contains("runtime.handlers.skiff: is the name of the default"),
        "{error}"
    );
}
