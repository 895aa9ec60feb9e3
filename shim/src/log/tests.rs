use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use skiff_shim_proto::message::LOG_ENTRY;

const NOW: i64 = 1_709_164_800_000_000_120;
const TIME: &str = "2024-02-29T00:00:00.000000120Z";

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    (dir, path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn entries_have_the_cri_format() {
    let (_dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    assert_eq!(log.write(Stream::Stdout, b"hello\nwor", NOW), None);
    assert_eq!(log.write(Stream::Stderr, b"bad\n", NOW), None);
    assert_eq!(log.write(Stream::Stdout, b"ld\n\nend", NOW), None);
    assert_eq!(log.finish(Stream::Stdout, NOW), None);
    assert_eq!(log.finish(Stream::Stdout, NOW), None);
    assert_eq!(
        read(&path),
        format!(
            "{TIME} stdout F hello\n{TIME} stderr F bad\n{TIME} stdout F world\n\
             {TIME} stdout F \n{TIME} stdout P end\n"
        )
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

#[test]
fn entries_are_as_long_as_was_asked_for() {
    let (_dir, path) = scratch();
    let mut log = Log::open(&path, NonZeroUsize::new(4).unwrap()).unwrap();
    log.write(Stream::Stdout, b"four\nfi", NOW);
    log.write(Stream::Stdout, b"ve 5\n", NOW);
    assert_eq!(
        read(&path),
        format!("{TIME} stdout F four\n{TIME} stdout P five\n{TIME} stdout F  5\n")
    );
    let (_dir, path) = scratch();
    let mut log = Log::open(&path, NonZeroUsize::new(1 << 20).unwrap()).unwrap();
    let line = "x".repeat(300_000);
    for part in line.as_bytes().chunks(65_536) {
        log.write(Stream::Stdout, part, NOW);
    }
    log.write(Stream::Stdout, b"\n", NOW);
    assert_eq!(read(&path), format!("{TIME} stdout F {line}\n"));
}

#[test]
fn many_short_lines_are_all_written() {
    let (_dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    let chunk = b"\n".repeat(5 * BATCH + 7);
    assert_eq!(log.write(Stream::Stdout, &chunk, NOW), None);
    assert_eq!(
        read(&path),
        format!("{TIME} stdout F \n").repeat(5 * BATCH + 7)
    );
}

#[test]
fn a_rotated_log_goes_on_in_a_new_file() {
    let (dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    log.write(Stream::Stdout, b"old\nbegun ", NOW);
    let rotated = dir.path().join("0.log.1");
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen().unwrap();
    log.write(Stream::Stdout, b"line\n", NOW);
    assert_eq!(read(&rotated), format!("{TIME} stdout F old\n"));
    assert_eq!(read(&path), format!("{TIME} stdout F begun line\n"));
}

#[test]
fn a_failed_reopen_keeps_the_old_file_and_makes_none() {
    let (dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    let rotated = dir.path().join("0.log.1");
    std::fs::rename(&path, &rotated).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(log.reopen().is_err());
    log.write(Stream::Stdout, b"still here\n", NOW);
    assert_eq!(read(&rotated), format!("{TIME} stdout F still here\n"));
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn only_regular_files_are_logs() {
    let (dir, path) = scratch();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(0, 0),
    )
    .unwrap();
    assert!(Log::open(&path, LOG_ENTRY).is_err());
    assert!(Log::open(Path::new("/dev/null"), LOG_ENTRY).is_err());
    assert!(Log::open(&dir.path().join("absent/0.log"), LOG_ENTRY).is_err());
}

#[test]
fn a_full_disk_is_told_once_and_drops_whole_entries() {
    let (dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    log.file = rustix::fs::open("/dev/full", OFlags::WRONLY, Mode::empty()).unwrap();
    let failing = log.write(Stream::Stdout, b"one\ntwo\nthr", NOW);
    assert!(failing.unwrap().contains("No space left on device"));
    assert_eq!(log.write(Stream::Stderr, b"bad\n", NOW), None);
    log.file = open(&dir.path().join("0.log")).unwrap();
    let recovered = log.write(Stream::Stdout, b"ee\n", NOW);
    assert!(recovered.unwrap().ends_with("3 entries were dropped"));
    assert_eq!(log.write(Stream::Stdout, b"four\n", NOW), None);
    assert_eq!(
        read(&path),
        format!("{TIME} stdout F three\n{TIME} stdout F four\n")
    );
}

#[test]
fn a_torn_entry_is_cut_off() {
    let (_dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    let headers = Headers::new(Stream::Stdout, NOW);
    let entries = [b"one", b"two"].map(|tail| Entry {
        head: &[],
        tail,
        full: true,
    });
    log.write_whole(&headers, &entries).unwrap();
    let whole = read(&path).len() / 2;
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(whole as u64 + 5)
        .unwrap();
    assert_eq!(log.take_back(&headers, &entries, whole + 5), 1);
    assert!(!log.torn);
    assert_eq!(read(&path), format!("{TIME} stdout F one\n"));
}

#[test]
fn an_entry_that_cannot_be_cut_off_is_closed_by_the_next() {
    let (_dir, path) = scratch();
    let mut log = Log::open(&path, LOG_ENTRY).unwrap();
    std::fs::write(&path, "torn").unwrap();
    log.torn = true;
    log.write(Stream::Stdout, b"next\n", NOW);
    log.write(Stream::Stdout, b"more\n", NOW);
    assert_eq!(
        read(&path),
        format!("torn\n{TIME} stdout F next\n{TIME} stdout F more\n")
    );
}

/// What a reader of the log makes of one stream.
fn joined(log: &[u8], stream: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for line in log.split_inclusive(|&byte| byte == b'\n') {
        let line = &line[..line.len() - 1];
        let (header, text) = line.split_at(HEADER);
        assert_eq!(&header[..stamp::LEN], TIME.as_bytes());
        if &header[stamp::LEN + 1..HEADER - 3] != stream {
            continue;
        }
        content.extend_from_slice(text);
        if header[HEADER - 2] == b'F' {
            content.push(b'\n');
        }
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_streams_are_found_again(
        chunks in proptest::collection::vec(
            (any::<bool>(), prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                Just(vec![b'x'; 20_000]),
                Just(b"\n".to_vec()),
            ]),
            0..30,
        ),
    ) {
        let (_dir, path) = scratch();
        let mut log = Log::open(&path, LOG_ENTRY).unwrap();
        let mut said = [Vec::new(), Vec::new()];
        for (stderr, chunk) in &chunks {
            let stream = if *stderr { Stream::Stderr } else { Stream::Stdout };
            log.write(stream, chunk, NOW);
            said[stream as usize].extend_from_slice(chunk);
        }
        log.finish(Stream::Stdout, NOW);
        log.finish(Stream::Stderr, NOW);
        let log = std::fs::read(&path).unwrap();
        prop_assert_eq!(joined(&log, b"stdout"), said[0].as_slice());
        prop_assert_eq!(joined(&log, b"stderr"), said[1].as_slice());
    }
}
