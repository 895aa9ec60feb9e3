//! Frames of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00 with the changes of SPDY 3.1).
//!
//! ```text
//!  control: 1 | version 15 | type 16 | flags 8 | length 24 | payload
//!  data:    0 | stream  31           | flags 8 | length 24 | payload
//! ```
//!
//! The payload of a data frame is handed out as it comes, so that nothing of up to 16 MiB is
//! ever kept; the end of the frame is not visible to its reader.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest control frame that is read, in bytes of payload: headers of a few hundred bytes are
/// usual.
const MAX_CONTROL: usize = 16 << 10;
const VERSION: u16 = 3;
const HEAD: usize = 8;
const FIN: u8 = 1;

/// A frame. Header blocks are as they came: compressed, in the order of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The other side opens a stream.
    SynStream {
        /// The stream's number: odd for those of a client.
        stream: u32,
        /// Nothing but these headers will come.
        fin: bool,
        /// Compressed headers.
        headers: Bytes,
    },
    /// A stream is accepted.
    SynReply {
        /// The stream's number.
        stream: u32,
        /// Compressed headers.
        headers: Bytes,
    },
    /// A stream has ended in both directions.
    Reset {
        /// The stream's number.
        stream: u32,
        /// Why: see [`Frame::REFUSED`] and the others.
        status: u32,
    },
    /// To be sent back as it is.
    Ping(u32),
    /// No more streams will be opened or accepted.
    GoAway {
        /// The last stream that was accepted.
        last: u32,
        /// Why; 0 is no error.
        status: u32,
    },
    /// Further headers of a stream; they count as part of the compressed sequence.
    Headers {
        /// The stream's number.
        stream: u32,
        /// Nothing more will come.
        fin: bool,
        /// Compressed headers.
        headers: Bytes,
    },
    /// Some bytes of a stream, perhaps a part of a frame.
    Data {
        /// The stream's number.
        stream: u32,
        /// Nothing more will come.
        fin: bool,
        /// At least one byte, or none with `fin` or for an empty frame.
        bytes: Bytes,
    },
    /// Something that needs no answer: SETTINGS, WINDOW_UPDATE, and types we do not know.
    Other,
}

impl Frame {
    /// Status of a reset: not a stream that is open.
    pub const INVALID_STREAM: u32 = 2;
    /// Status of a reset: not accepted, nothing was done.
    pub const REFUSED: u32 = 3;
    /// Status of a reset: not wanted any more.
    pub const CANCEL: u32 = 5;

    /// Writes the frame.
    pub fn write(&self, to: &mut BytesMut) {
        match self {
            Self::SynStream {
                stream,
                fin,
                headers,
            } => {
                control(to, 1, flag(*fin), 10 + headers.len());
                to.put_u32(*stream);
                // Associated stream, priority, slot: none.
                to.put_u32(0);
                to.put_u16(0);
                to.put_slice(headers);
            }
            Self::SynReply { stream, headers } => {
                control(to, 2, 0, 4 + headers.len());
                to.put_u32(*stream);
                to.put_slice(headers);
            }
            Self::Reset { stream, status } => {
                control(to, 3, 0, 8);
                to.put_u32(*stream);
                to.put_u32(*status);
            }
            Self::Ping(id) => {
                control(to, 6, 0, 4);
                to.put_u32(*id);
            }
            Self::GoAway { last, status } => {
                control(to, 7, 0, 8);
                to.put_u32(*last);
                to.put_u32(*status);
            }
            Self::Headers {
                stream,
                fin,
                headers,
            } => {
                control(to, 8, flag(*fin), 4 + headers.len());
                to.put_u32(*stream);
                to.put_slice(headers);
            }
            Self::Data { stream, fin, bytes } => {
                to.put_u32(*stream);
                to.put_u8(flag(*fin));
                to.put_uint(bytes.len() as u64, 3);
                to.put_slice(bytes);
            }
            // An empty SETTINGS frame says nothing.
            Self::Other => {
                control(to, 4, 0, 4);
                to.put_u32(0);
            }
        }
    }
}

fn control(to: &mut BytesMut, kind: u16, flags: u8, len: usize) {
    to.put_u16(0x8000 | VERSION);
    to.put_u16(kind);
    to.put_u8(flags);
    to.put_uint(len as u64, 3);
}

fn flag(fin: bool) -> u8 {
    if fin { FIN } else { 0 }
}

/// Bytes that are no SPDY, or more than we read. The connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("SPDY version {0}, only 3 is spoken")]
    Version(u16),
    /// A control frame that is too long.
    #[error("SPDY control frame of {0} bytes, the limit is {MAX_CONTROL}")]
    TooLong(usize),
    /// A control frame that is too short for its type.
    #[error("SPDY control frame of type {kind} is cut short at {len} bytes")]
    Short {
        /// Its type.
        kind: u16,
        /// Bytes of its payload.
        len: usize,
    },
}

/// Reads frames from bytes that come in any pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The data frame under way: its stream, its flag, bytes to come.
    data: Option<(u32, bool, usize)>,
}

impl Decoder {
    /// Takes the next frame, or the next part of a data frame, from the beginning of `buffer`;
    /// `None` when it takes more bytes to have one.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if self.data.is_none() {
            let Some(head) = buffer.first_chunk::<HEAD>() else {
                return Ok(None);
            };
            let len = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
            let flags = head[4];
            if head[0] & 0x80 != 0 {
                let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
                let kind = u16::from_be_bytes([head[2], head[3]]);
                return control_frame(version, kind, flags, len, buffer);
            }
            let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            buffer.advance(HEAD);
            self.data = Some((stream, flags & FIN != 0, len));
        }
        Ok(self.part(buffer))
    }

    fn part(&mut self, buffer: &mut BytesMut) -> Option<Frame> {
        let (stream, fin, left) = self.data?;
        if buffer.is_empty() && left > 0 {
            return None;
        }
        let bytes = buffer.split_to(left.min(buffer.len())).freeze();
        let left = left - bytes.len();
        self.data = (left > 0).then_some((stream, fin, left));
        Some(Frame::Data {
            stream,
            fin: fin && left == 0,
            bytes,
        })
    }
}

fn control_frame(
    version: u16,
    kind: u16,
    flags: u8,
    len: usize,
    buffer: &mut BytesMut,
) -> Result<Option<Frame>, FrameError> {
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if len > MAX_CONTROL {
        return Err(FrameError::TooLong(len));
    }
    if buffer.len() < HEAD + len {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let mut payload = buffer.split_to(len).freeze();
    let fixed = match kind {
        1 => 10,
        3 | 7 => 8,
        2 | 6 | 8 => 4,
        _ => 0,
    };
    if len < fixed {
        return Err(FrameError::Short { kind, len });
    }
    let fin = flags & FIN != 0;
    let stream_of = |payload: &mut Bytes| payload.get_u32() & 0x7fff_ffff;
    Ok(Some(match kind {
        1 => {
            let stream = stream_of(&mut payload);
            payload.advance(6);
            Frame::SynStream {
                stream,
                fin,
                headers: payload,
            }
        }
        2 => Frame::SynReply {
            stream: stream_of(&mut payload),
            headers: payload,
        },
        3 => Frame::Reset {
            stream: stream_of(&mut payload),
            status: payload.get_u32(),
        },
        6 => Frame::Ping(payload.get_u32()),
        7 => Frame::GoAway {
            last: stream_of(&mut payload),
            status: payload.get_u32(),
        },
        8 => Frame::Headers {
            stream: stream_of(&mut payload),
            fin,
            headers: payload,
        },
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let stream = 0..0x8000_0000u32;
        let headed = || (0..0x8000_0000u32, any::<bool>(), bytes());
        prop_oneof![
            headed().prop_map(|(stream, fin, headers)| Frame::SynStream {
                stream,
                fin,
                headers
            }),
            (stream.clone(), bytes())
                .prop_map(|(stream, headers)| Frame::SynReply { stream, headers }),
            (stream.clone(), any::<u32>())
                .prop_map(|(stream, status)| Frame::Reset { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
            (stream, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            headed().prop_map(|(stream, fin, headers)| Frame::Headers {
                stream,
                fin,
                headers
            }),
            headed().prop_map(|(stream, fin, bytes)| Frame::Data { stream, fin, bytes }),
            Just(Frame::Other),
        ]
    }

    /// Reads everything, bytes coming in pieces of these lengths, and puts data back together.
    fn read(mut input: BytesMut, pieces: &[usize]) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut buffer, mut frames) =
            (Decoder::default(), BytesMut::new(), Vec::new());
        let mut pieces = pieces.iter().cycle();
        while !input.is_empty() {
            let len = pieces.next().map_or(1, |len| (*len).min(input.len()));
            buffer.unsplit(input.split_to(len));
            while let Some(frame) = decoder.next(&mut buffer)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    /// The bytes and the end of each stream, and all other frames.
    fn content(frames: &[Frame]) -> Vec<Frame> {
        let mut content: Vec<Frame> = Vec::new();
        for frame in frames {
            if let Frame::Data { stream, fin, bytes } = frame
                && let Some(Frame::Data {
                    stream: last,
                    fin: ended @ false,
                    bytes: before,
                }) = content.last_mut()
                && last == stream
            {
                *before = [&before[..], bytes].concat().into();
                *ended = *fin;
            } else {
                content.push(frame.clone());
            }
        }
        content
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_any_pieces(
            frames in proptest::collection::vec(frame(), 0..8),
            pieces in proptest::collection::vec(1usize..30, 1..8),
        ) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                frame.write(&mut wire);
            }
            prop_assert_eq!(content(&read(wire, &pieces).unwrap()), content(&frames));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(BytesMut::from(&bytes[..]), &[7]);
        }
    }

    #[test]
    fn long_short_and_foreign_frames_are_refused() {
        let next = |bytes: &[u8]| Decoder::default().next(&mut BytesMut::from(bytes));
        assert_eq!(
            next(b"\x80\x03\x00\x01\x00\xff\xff\xff"),
            Err(FrameError::TooLong(0xff_ffff))
        );
        assert_eq!(
            next(b"\x80\x02\x00\x01\x00\0\0\0"),
            Err(FrameError::Version(2))
        );
        assert_eq!(
            next(b"\x80\x03\x00\x06\x00\0\0\x01x"),
            Err(FrameError::Short { kind: 6, len: 1 })
        );
        // A request of HTTP.
        assert_eq!(
            next(b"GET / HTTP/1.1\r\n\r\n")
                .unwrap()
                .map(|frame| matches!(frame, Frame::Data { .. })),
            Some(true)
        );
    }
}
