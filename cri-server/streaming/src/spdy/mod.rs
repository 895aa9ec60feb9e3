//! SPDY/3.1 as the servers of remote commands speak it: one connection, streams that the client
//! opens, no server push and no flow control (the usual clients neither give nor heed credit).
//!
//! `frame` reads and writes frames, `header` their compressed headers, `connection` keeps the
//! streams.

mod connection;
mod frame;
mod header;

pub(crate) use connection::{Connection, Incoming, serve};
pub use frame::{Decoder, Frame, FrameError};
pub use header::{HeaderError, HeaderReader, HeaderWriter, Headers};
