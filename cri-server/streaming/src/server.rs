//! The HTTP server: one-time URLs, and connections that are upgraded there.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pending::{EXPIRE_EVERY, Job, Pending, TooMany};
use crate::presence::{Noticed, Presence};
use crate::tls::{Renewed, Tls};
use crate::upgrade::{self, Chosen, Refusal};
use crate::{command, forward};

/// How long a client may take for its request, and for a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most clients at the same time that have not said yet which URL they come to; more wait to be
/// accepted.
const MOST_UNKNOWN: usize = 256;
/// Pause after the listener failed, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to serve, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address; port 0 lets the kernel choose one. Without TLS it must be a loopback address.
    pub address: SocketAddr,
    /// For HTTPS; none for plain HTTP.
    pub tls: Option<Tls>,
    /// How long what may take.
    pub timeouts: Timeouts,
}

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection over which nothing is said in either direction is closed after it.
    pub idle: Duration,
    /// A client opens the streams it asked for within it.
    pub creation: Duration,
    /// A server in a pod that takes nothing of what a client sends loses its connection after it.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(4 * 3600),
            creation: Duration::from_secs(30),
            stall: Duration::from_secs(10),
        }
    }
}

/// Why the server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address would show what containers print to the network.
    #[error("streaming address {0} is not a loopback address: give it a certificate and a key")]
    Unprotected(SocketAddr),
    /// The address cannot be listened at.
    #[error("listen for streaming at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("streaming certificate: {0}")]
    Certificate(String),
}

/// The server. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Server {
    pending: Arc<Pending>,
    base: String,
}

/// What connections have in common.
struct Shared {
    pending: Arc<Pending>,
    tls: Option<Renewed>,
    timeouts: Timeouts,
}

impl Server {
    /// Listens, and serves from now on in tasks. Needs a tokio runtime.
    pub fn start(settings: &Settings) -> Result<Self, ServerError> {
        let Settings {
            address,
            tls,
            timeouts,
        } = settings;
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(ServerError::Unprotected(*address));
        }
        let tls = tls.clone().map(Renewed::read).transpose();
        let tls = tls.map_err(ServerError::Certificate)?;
        let failed = |source| ServerError::Listen {
            address: *address,
            source,
        };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let pending = Arc::new(Pending::default());
        let shared = Shared {
            pending: pending.clone(),
            tls,
            timeouts: *timeouts,
        };
        tokio::spawn(accept(listener, Arc::new(shared)));
        tokio::spawn(expire(Arc::downgrade(&pending)));
        Ok(Self {
            pending,
            base: format!("{scheme}://{bound}"),
        })
    }

    /// The URL at which a job will be done once.
    pub fn url(&self, job: Job) -> Result<String, TooMany> {
        let token = self.pending.put(job, Instant::now())?;
        Ok(format!("{}/{token}", self.base))
    }
}

/// Jobs hold on to things; those that nobody has come for let go of them.
async fn expire(pending: std::sync::Weak<Pending>) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        let Some(pending) = pending.upgrade() else {
            return;
        };
        pending.expire(Instant::now());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let unknown = Arc::new(Semaphore::new(MOST_UNKNOWN));
    // Nobody closes the semaphore.
    while let Ok(permit) = unknown.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(connection(socket, shared.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "accept a streaming connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a client up to the upgrade of its connection.
async fn connection(socket: TcpStream, shared: Arc<Shared>, _unknown: OwnedSemaphorePermit) {
    // Keystrokes are not kept back: a wish.
    let _ = socket.set_nodelay(true);
    let presence = match Presence::new(&socket, shared.timeouts.idle) {
        Ok(presence) => Arc::new(presence),
        Err(error) => return tracing::warn!(%error, "watch a streaming connection"),
    };
    match shared.tls.as_ref().map(Renewed::acceptor) {
        None => http(socket, presence, shared).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(PATIENCE, acceptor.accept(socket));
            match handshake.await {
                Ok(Ok(socket)) => http(socket, presence, shared).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake of a streaming client"),
                Err(_) => tracing::debug!("TLS handshake of a streaming client takes too long"),
            }
        }
    }
}

async fn http<I>(io: I, presence: Arc<Presence>, shared: Arc<Shared>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(|request| {
        let response = respond(request, &presence, &shared);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a streaming connection is closed");
    }
}

/// Takes the job of a URL and does it on the upgraded connection. A URL is used up even when its
/// request is refused.
fn respond(
    mut request: Request<Incoming>,
    presence: &Arc<Presence>,
    shared: &Shared,
) -> Response<Full<Bytes>> {
    let token = request.uri().path().trim_start_matches('/');
    let Some(job) = shared.pending.take(token, Instant::now()) else {
        let reason = "no such URL: it is good once, for a minute";
        return answer(StatusCode::NOT_FOUND, reason.into());
    };
    if !matches!(*request.method(), Method::GET | Method::POST) {
        let reason = "only GET and POST".into();
        return answer(StatusCode::METHOD_NOT_ALLOWED, reason);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let Timeouts {
        creation, stall, ..
    } = shared.timeouts;
    match job {
        Job::Command {
            streams,
            burst,
            command,
        } => {
            let order = command::Order {
                streams,
                burst,
                command,
                creation,
            };
            let chosen = upgrade::command(request.headers());
            switch(chosen, upgrade, presence, |io, presence, chosen| {
                command::serve(io, presence, chosen, order)
            })
        }
        Job::Forward { ports, listed } => {
            let order = forward::Order {
                ports,
                listed,
                creation,
                stall,
            };
            let chosen = upgrade::forward(request.headers());
            switch(chosen, upgrade, presence, |io, presence, chosen| {
                forward::serve(io, presence, chosen, order)
            })
        }
    }
}

/// A connection whose bytes are whatever was agreed upon.
type Upgraded = Noticed<TokioIo<hyper::upgrade::Upgraded>>;

fn switch<T, F>(
    chosen: Result<Chosen<T>, Refusal>,
    upgrade: OnUpgrade,
    presence: &Arc<Presence>,
    job: impl FnOnce(Upgraded, Arc<Presence>, T) -> F + Send + 'static,
) -> Response<Full<Bytes>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (chosen, headers) = match chosen {
        Ok(chosen) => chosen,
        Err(refusal) => {
            let mut response = answer(refusal.status, refusal.reason);
            for (name, value) in refusal.headers {
                response.headers_mut().append(name, value);
            }
            return response;
        }
    };
    let presence = presence.clone();
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => {
                let io = presence.notice(TokioIo::new(io));
                job(io, presence, chosen).await;
            }
            Err(error) => tracing::debug!(%error, "a streaming client has gone"),
        }
    });
    let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, String::new());
    *response.headers_mut() = headers;
    response
}

fn answer(status: StatusCode, reason: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reason));
    *response.status_mut() = status;
    response
}
