//! The streaming server: where a kubelet is sent for exec, attach and port-forward.
//!
//! A call of the CRI answers with a URL and leaves a [`Job`] behind; whoever comes to the URL has
//! a connection upgraded and the job done over it. The crate knows protocols, not containers: a
//! job is a closure that runs a command on pipes, or something that connects to ports.
//!
//! ```text
//!  RPC ──Job──> [pending] ──URL──> kubelet ──HTTP/1.1──> [server] ──upgrade──┐
//!                                                                            v
//!                command (exec, attach) <──Sources and Sinks──  SPDY/3.1 or WebSocket
//!                forward (ports)        <──streams of SPDY ───  SPDY/3.1, also within WebSocket
//! ```
//!
//! Map: `server` listener and routes; `pending` the one-time URLs; `upgrade` what is negotiated;
//! `spdy` and `websocket` the two ways to carry several streams; `channel` what they have in
//! common; `command`, `resize` and `status` the remote command protocols; `forward` the port
//! forwarding protocol; `presence` whether a client is still there; `tls` certificates.
//!
//! What must hold:
//!
//! - A URL is good once, for a minute, and cannot be guessed; there are never many of them.
//! - A client that is slow makes its own job wait, and nobody else; one that is gone ends it, as
//!   does one that says nothing and is told nothing for hours.
//! - Nobody waits for SPDY's window credit: the usual clients give none. A server in a pod that
//!   stops reading loses its own connection, and holds up the others of its client until then.
//! - What a client sends is hostile: sizes are bounded before anything is kept.

#![forbid(unsafe_code)]

mod channel;
mod command;
mod forward;
mod pending;
mod presence;
mod resize;
mod server;
pub mod spdy;
mod status;
mod tls;
mod upgrade;
mod websocket;

pub use command::{Command, Exit, Pipes, Streams};
pub use forward::Ports;
pub use pending::{Job, TooMany};
pub use resize::{Resizes, Size};
pub use server::{Server, ServerError, Settings, Timeouts};
pub use tls::Tls;
