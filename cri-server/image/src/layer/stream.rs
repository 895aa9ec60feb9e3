//! The two threads of a layer: one inflates and checks the blob, one checks and unpacks the
//! archive. Queues between them are short, so the slower end holds up the faster one.

use std::io::{self, BufRead, Read};
use std::sync::mpsc as blocking;
use std::thread;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use skiff_reference::Digest;
use tokio::sync::{mpsc, oneshot};

use super::Limits;
use super::confine::{Work, confine};
use super::error::LayerError;
use super::extract::{Extracted, Extractor};
use super::scratch::Scratch;
use super::tar::Reader;

/// Chunks of a download that may wait for the inflating thread. A chunk is what one read of the
/// socket gave, some 400 KiB at the most.
pub(crate) const QUEUE: usize = 8;
/// Inflated blocks that may wait for the unpacking thread, and their size in bytes.
const BLOCKS: usize = 4;
const BLOCK: usize = 128 << 10;
/// Largest zstd window, as a power of two. It is memory that the blob's author chooses; 64 MiB
/// are enough for every level below 22.
const ZSTD_WINDOW: u32 = 26;
/// The threads give way to those that start containers.
const NICE: i32 = 5;

/// The blob that is to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Digest of the archive in it.
    pub(crate) diff_id: Digest,
}

/// A verified layer that nobody sees yet.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) scratch: Scratch,
    pub(crate) extracted: Extracted,
}

/// Unpacks the blob that comes through `chunks` into `scratch`, which is gone again when that
/// fails.
pub(crate) fn unpack(
    blob: Blob,
    chunks: mpsc::Receiver<Bytes>,
    scratch: Scratch,
    limits: Limits,
) -> io::Result<oneshot::Receiver<Result<Unpacked, LayerError>>> {
    let (done, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("layer-unpack".into())
        .spawn(move || {
            // Whoever waits may have been cancelled; then the scratch is dropped here.
            let _ = done.send(work(blob, chunks, scratch, limits));
        })?;
    Ok(outcome)
}

fn work(
    blob: Blob,
    chunks: mpsc::Receiver<Bytes>,
    scratch: Scratch,
    limits: Limits,
) -> Result<Unpacked, LayerError> {
    give_way();
    let (full, blocks) = blocking::sync_channel(BLOCKS);
    let (empty, spares) = blocking::channel();
    let (inflated, extracted) = thread::scope(|scope| {
        let inflating = thread::Builder::new()
            .name("layer-inflate".into())
            .spawn_scoped(scope, move || {
                inflate(blob, chunks, &full, &spares, limits.bytes)
            })
            .map_err(|e| LayerError::Io {
                action: "start a thread for",
                entry: String::new(),
                source: e,
            })?;
        let source = Blocks {
            blocks,
            empty,
            block: Block::default(),
            hasher: Sha256::new(),
        };
        let extracted = extract(source, &scratch, limits);
        // `extract` has dropped its end of the queue, so the other thread ends, too.
        let inflated = inflating
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, LayerError>((inflated, extracted))
    })?;
    // A blob that is wrong is the cause of whatever its archive looks like.
    inflated?;
    let (extracted, diff_id) = extracted?;
    if diff_id != blob.diff_id {
        return Err(LayerError::DiffId {
            found: diff_id,
            expected: blob.diff_id,
        });
    }
    Ok(Unpacked { scratch, extracted })
}

fn give_way() {
    // Only a wish: without it the pull disturbs more.
    let _ = rustix::process::setpriority_process(None, NICE);
}

fn extract(
    source: Blocks,
    scratch: &Scratch,
    limits: Limits,
) -> Result<(Extracted, Digest), LayerError> {
    confine(Work::Unpacking);
    let mut archive = Reader::new(source);
    let extracted =
        Extractor::new(&scratch.fs(), &scratch.replaced(), limits)?.run(&mut archive)?;
    let mut rest = archive.into_inner();
    while rest.next_block() {}
    Ok((extracted, rest.hasher.into()))
}

/// Reads the blob, checks it, and sends what is in it. Ends early without an error when nobody
/// wants more.
fn inflate(
    blob: Blob,
    chunks: mpsc::Receiver<Bytes>,
    full: &blocking::SyncSender<Block>,
    spares: &blocking::Receiver<Vec<u8>>,
    limit: u64,
) -> Result<(), LayerError> {
    give_way();
    confine(Work::Inflating);
    let mut chunks = Chunks {
        chunks,
        chunk: Bytes::new(),
        hasher: Sha256::new(),
        len: 0,
        size: blob.size,
    };
    let result = send_blocks(&mut chunks, full, spares, limit);
    // What follows the compressed stream belongs to the digest.
    let wanted = matches!(result, Ok(true));
    while wanted && chunks.next_chunk() {}
    if chunks.len > blob.size || wanted && chunks.len < blob.size {
        return Err(LayerError::Size {
            found: chunks.len,
            expected: blob.size,
        });
    }
    match result {
        Ok(false) => Ok(()),
        Ok(true) => {
            let found = Digest::from(chunks.hasher);
            if found != blob.digest {
                Err(LayerError::Digest { found })
            } else {
                Ok(())
            }
        }
        // An inflater that runs out of input says so; whether the blob was short is known better
        // by its size.
        Err(LayerError::Inflate(_)) if chunks.is_at_end() && chunks.len < blob.size => {
            Err(LayerError::Size {
                found: chunks.len,
                expected: blob.size,
            })
        }
        Err(e) => Err(e),
    }
}

/// Sends the blob's content; says whether anyone wanted all of it.
fn send_blocks(
    chunks: &mut Chunks,
    full: &blocking::SyncSender<Block>,
    spares: &blocking::Receiver<Vec<u8>>,
    limit: u64,
) -> Result<bool, LayerError> {
    let mut inflater = inflater(chunks).map_err(LayerError::Inflate)?;
    let mut total = 0;
    loop {
        let mut bytes = spares.try_recv().unwrap_or_else(|_| vec![0; BLOCK]);
        let mut len = 0;
        while len < bytes.len() {
            match inflater
                .read(&mut bytes[len..])
                .map_err(LayerError::Inflate)?
            {
                0 => break,
                n => len += n,
            }
        }
        if len == 0 {
            return Ok(true);
        }
        total += len as u64;
        if total > limit {
            return Err(LayerError::Limit {
                limit,
                unit: "bytes",
            });
        }
        if full
            .send(Block {
                bytes,
                position: 0,
                len,
            })
            .is_err()
        {
            return Ok(false);
        }
    }
}

/// Chooses by the first bytes: media types are known to lie about compression.
fn inflater<'a>(chunks: &'a mut Chunks) -> io::Result<Box<dyn Read + 'a>> {
    let start = chunks.fill_buf()?;
    // A first chunk shorter than this would be a registry's strange humour, and is refused later
    // for what it then looks like.
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(chunks)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(start) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(chunks)?;
        decoder.window_log_max(ZSTD_WINDOW)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(chunks))
}

/// zstd's frames for other uses, with which a seekable stream may begin.
fn is_skippable_frame(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The download as a reader that computes its digest.
struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    chunk: Bytes,
    hasher: Sha256,
    len: u64,
    size: u64,
}

impl Chunks {
    /// Takes the next chunk; `false` at the end and beyond the announced size.
    fn next_chunk(&mut self) -> bool {
        if self.len > self.size {
            return false;
        }
        let Some(chunk) = self.chunks.blocking_recv() else {
            self.chunk = Bytes::new();
            return false;
        };
        self.len += chunk.len() as u64;
        self.hasher.update(&chunk);
        self.chunk = chunk;
        true
    }

    fn is_at_end(&self) -> bool {
        self.chunk.is_empty()
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() && self.next_chunk() {}
        if self.len > self.size {
            return Err(io::Error::other("longer than announced"));
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, len: usize) {
        self.chunk.advance(len);
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let len = chunk.len().min(buffer.len());
        buffer[..len].copy_from_slice(&chunk[..len]);
        self.consume(len);
        Ok(len)
    }
}

/// Inflated bytes on their way.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    position: usize,
    len: usize,
}

/// The archive as a reader that computes its digest and gives emptied blocks back.
struct Blocks {
    blocks: blocking::Receiver<Block>,
    empty: blocking::Sender<Vec<u8>>,
    block: Block,
    hasher: Sha256,
}

impl Blocks {
    fn next_block(&mut self) -> bool {
        let Ok(block) = self.blocks.recv() else {
            self.block = Block::default();
            return false;
        };
        self.hasher.update(&block.bytes[..block.len]);
        let emptied = std::mem::replace(&mut self.block, block).bytes;
        if !emptied.is_empty() {
            // The other thread may have ended and needs none any more.
            let _ = self.empty.send(emptied);
        }
        true
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.block.position == self.block.len && self.next_block() {}
        Ok(&self.block.bytes[self.block.position..self.block.len])
    }

    fn consume(&mut self, len: usize) {
        self.block.position += len;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let block = self.fill_buf()?;
        let len = block.len().min(buffer.len());
        buffer[..len].copy_from_slice(&block[..len]);
        self.consume(len);
        Ok(len)
    }
}
