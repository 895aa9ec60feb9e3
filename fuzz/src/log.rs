//! Container logs.

use skiff_shim::log::{Log, Stream};
use skiff_shim_proto::message::LOG_ENTRY;

/// Longest content of one entry.
const LONGEST: usize = LOG_ENTRY.get();
/// 2026-01-01T00:00:00Z in nanoseconds.
const NOW: i64 = 1_767_225_600_000_000_000;
/// Most that one input says, in bytes.
const MOST: usize = 1 << 20;
const STAMP: &str = "2026-01-01T00:00:00.000000000Z";

/// What a container says, in chunks: each a control byte (bit 0 the stream, bits 1 to 4 how often
/// the content is doubled, bit 5 a rotation before it), a length and that many bytes. Every
/// line of the log is an entry, and the entries of a stream joined are what was said.
pub fn container_log(data: &[u8]) {
    let dir = crate::scratch();
    let path = dir.path().join("0.log");
    let rotated = dir.path().join("0.log.1");
    let mut log = Log::open(&path, LOG_ENTRY).expect("open the log");
    let mut said = [Vec::new(), Vec::new()];
    let mut written = Vec::new();
    let mut rest = data;
    while let [control, length, tail @ ..] = rest
        && said.iter().map(Vec::len).sum::<usize>() < MOST
    {
        let (chunk, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        if control & 0x20 != 0 && !rotated.exists() {
            std::fs::rename(&path, &rotated).expect("rotate the log");
            log.reopen().expect("reopen the log");
            written = std::fs::read(&rotated).expect("read the log");
        }
        let content = chunk.repeat(1 << ((control >> 1) & 0xf).min(9));
        let (stream, index) = stream(control & 1);
        assert_eq!(log.write(stream, &content, NOW), None);
        said[index].extend(content);
    }
    for index in 0..2 {
        assert_eq!(log.finish(stream(index).0, NOW), None);
    }
    written.extend(std::fs::read(&path).expect("read the log"));
    assert_eq!(
        resolve(&written),
        said.map(|said| said.escape_ascii().to_string())
    );
}

fn stream(number: u8) -> (Stream, usize) {
    match number {
        0 => (Stream::Stdout, 0),
        _ => (Stream::Stderr, 1),
    }
}

/// What a reader makes of a log.
fn resolve(log: &[u8]) -> [String; 2] {
    let mut streams = [Vec::new(), Vec::new()];
    assert!(
        log.is_empty() || log.ends_with(b"\n"),
        "the last entry is not whole"
    );
    for line in log.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        assert_eq!(fields.next(), Some(STAMP.as_bytes()));
        let stream = match fields.next() {
            Some(b"stdout") => &mut streams[0],
            Some(b"stderr") => &mut streams[1],
            other => panic!("stream {other:?}"),
        };
        let tag = fields.next().expect("a tag");
        let content = fields.next().expect("content");
        assert!(
            content.len() <= LONGEST,
            "an entry of {} bytes",
            content.len()
        );
        stream.extend_from_slice(content);
        match tag {
            b"F" => stream.push(b'\n'),
            b"P" => {}
            other => panic!("tag {other:?}"),
        }
    }
    streams.map(|stream| stream.escape_ascii().to_string())
}
