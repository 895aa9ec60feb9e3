//! What the kernel tells, as far as a container has a hand in it.

use skiff_cri_server::shim::process as shim_process;
use skiff_runtime::{cgroup, process};
use skiff_shim::process_tree;

/// Files of a cgroup. Whoever owns a delegated cgroup cannot write these, but every version of
/// the kernel adds lines.
pub fn cgroup_files(data: &[u8]) {
    let dir = crate::scratch();
    for file in ["memory.events", "cgroup.events", "cgroup.procs"] {
        std::fs::write(dir.path().join(file), data).expect("write the file");
    }
    let kills = cgroup::oom_kills(dir.path());
    let frozen = cgroup::is_frozen(dir.path());
    let processes = cgroup::processes(dir.path());
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(kills == 0 && frozen.is_err() && processes.is_err());
        return;
    };
    let first = |key: &str| -> Option<u64> {
        let number = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(number)
    };
    assert_eq!(kills, first("oom_kill").unwrap_or(0), "{text:?}");
    assert_eq!(
        frozen.expect("a readable file"),
        first("frozen") == Some(1),
        "{text:?}"
    );
    for pid in processes.expect("a readable file") {
        assert!(
            text.lines().any(|line| line.parse() == Ok(pid)),
            "{pid} from {text:?}"
        );
    }
}

/// A process may give itself any name of up to 15 bytes, which then stands in the middle of its
/// /proc/pid/stat. Names this thread so and looks at it.
pub fn process_name(data: &[u8]) {
    const COMM: &str = "/proc/thread-self/comm";
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    let look = || {
        let stat = process_tree::stat(me).map(|stat| (stat.parent, stat.session, stat.start_time));
        (
            process::start_time(me).ok(),
            shim_process::start_time(me).ok(),
            stat,
        )
    };
    let before = look();
    assert!(
        before.0.is_some() && before.0 == before.1 && before.2.is_some(),
        "{before:?}"
    );
    let old = std::fs::read(COMM).expect("read the thread's name");
    std::fs::write(COMM, data).expect("name the thread");
    let after = look();
    std::fs::write(COMM, old.trim_ascii_end()).expect("name the thread again");
    assert_eq!(
        after,
        before,
        "with the name {:?}",
        data.escape_ascii().to_string()
    );
}
