//! An HTTP server for scrapes: `GET /metrics`, and nothing else.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::exposition;
use crate::daemon::Daemon;

/// How long a scrape may take, the client's reading included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at a time: a few that scrape. Others wait.
const CLIENTS: usize = 8;
/// Pause after the listener failed, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("listen for scrapes at {address} (metrics.address)")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A bound address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds an address; port 0 lets the kernel choose one. Needs a tokio runtime.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers scrapes as long as the daemon runs.
    pub async fn serve(self, daemon: Arc<Daemon>, images: Arc<skiff_image::Store>) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((socket, _)) => {
                    let (daemon, images) = (Arc::clone(&daemon), Arc::clone(&images));
                    tokio::spawn(async move {
                        connection(socket, &daemon, &images).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a scrape");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn connection(socket: TcpStream, daemon: &Arc<Daemon>, images: &Arc<skiff_image::Store>) {
    let service =
        service_fn(async |request| Ok::<_, Infallible>(respond(&request, daemon, images)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(PATIENCE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape"),
        Err(_) => tracing::debug!("a scrape takes too long"),
    }
}

fn respond(
    request: &Request<Incoming>,
    daemon: &Arc<Daemon>,
    images: &Arc<skiff_image::Store>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return refusal(StatusCode::NOT_FOUND, "only /metrics is here\n");
    }
    if request.method() != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
    }
    let Ok(text) = exposition::text(daemon, images) else {
        return refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics cannot be written\n",
        );
    };
    let mut response = Response::new(Full::from(text));
    let media_type = header::HeaderValue::from_static(exposition::MEDIA_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
