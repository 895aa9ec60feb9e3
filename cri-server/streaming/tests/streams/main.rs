//! The server as its clients meet it: over TCP, with a client of SPDY and one of WebSocket that
//! are written here.

mod client;
mod commands;
mod forwards;
mod patience;
mod tls;
mod urls;
