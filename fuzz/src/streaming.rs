//! What clients of the streaming server send.

use std::iter;

use skiff_streaming::spdy::{Decoder, Frame, HeaderReader, HeaderWriter};

/// SPDY frames, in pieces whose length the first byte gives: what is read reads the same once
/// written, in pieces or at once.
pub fn spdy_frames(data: &[u8]) {
    let Some((piece, wire)) = data.split_first() else {
        return;
    };
    let Some(frames) = read(wire, usize::from(*piece) + 1) else {
        return;
    };
    let mut again = Default::default();
    for frame in &frames {
        frame.write(&mut again);
    }
    let reread = read(&again, usize::MAX).expect("what was written is read");
    assert_eq!(content(&reread), content(&frames));
    let whole = read(wire, usize::MAX).expect("pieces do not matter");
    assert_eq!(content(&whole), content(&frames));
}

/// `None` when it is no SPDY.
fn read(wire: &[u8], piece: usize) -> Option<Vec<Frame>> {
    let (mut decoder, mut buffer, mut frames) =
        (Decoder::default(), Default::default(), Vec::new());
    for piece in wire.chunks(piece.min(wire.len().max(1))) {
        bytes::BytesMut::extend_from_slice(&mut buffer, piece);
        while let Some(frame) = decoder.next(&mut buffer).ok()? {
            assert!(frames.len() <= wire.len(), "frames take bytes");
            frames.push(frame);
        }
    }
    Some(frames)
}

/// Frames without those that need no answer, and with consecutive data of a stream as one.
fn content(frames: &[Frame]) -> Vec<(u32, Vec<u8>, bool)> {
    let mut content: Vec<(u32, Vec<u8>, bool)> = Vec::new();
    for frame in frames {
        match (frame, content.last_mut()) {
            (Frame::Other, _) => {}
            (Frame::Data { stream, fin, bytes }, Some(last)) if last.0 == *stream && !last.2 => {
                last.1.extend_from_slice(bytes);
                last.2 = *fin;
            }
            (Frame::Data { stream, fin, bytes }, _) => {
                content.push((*stream, bytes.to_vec(), *fin));
            }
            (other, _) => content.push((u32::MAX, format!("{other:?}").into_bytes(), true)),
        }
    }
    content
}

/// SPDY header blocks, each after two bytes of its length: what is read can be written again, in
/// the same order.
pub fn spdy_headers(data: &[u8]) {
    let mut rest = data;
    let blocks = iter::from_fn(|| {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (block, after) = after.split_at(len);
        rest = after;
        Some(block)
    });
    let (mut reader, mut writer, mut rereader) = (
        HeaderReader::default(),
        HeaderWriter::default(),
        HeaderReader::default(),
    );
    for block in blocks {
        let Ok(headers) = reader.read(block) else {
            return;
        };
        let plain = |name: &String| *name == name.to_ascii_lowercase();
        assert!(headers.iter().all(|(name, _)| plain(name)), "{headers:?}");
        let again = rereader.read(&writer.write(&headers));
        assert_eq!(again.as_ref(), Ok(&headers));
    }
}
