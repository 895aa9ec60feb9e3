//! The clients of the socket, and what each of their requests is answered by.
//!
//! tonic understands the calls of a service, and hyper the HTTP/2 below them. tonic's own server is left
//! out: what it has between the two, such as axum's router and a clock of its own, is of no use for two
//! services on a node's socket, and costs more than many a handler (docs/adr/017-grpc-without-tonics-server.md).

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use skiff_cri::v1::image_service_server::ImageServiceServer;
use skiff_cri::v1::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixListener;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::server::NamedService;

use super::connection::Connection;
use super::deadline::{self, within};
use super::{Images, Runtime};

/// Largest request in bytes: what a kubelet can send.
const MAX_REQUEST: usize = 16 * 1024 * 1024;
/// Bytes a client may send before it is told to go on: a request fits in without waiting.
const WINDOW: u32 = 1024 * 1024;
/// Pause after nobody could be accepted, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The two services.
#[derive(Clone)]
pub(super) struct Services {
    runtime: RuntimeServiceServer<Runtime>,
    images: ImageServiceServer<Images>,
}

impl Services {
    pub(super) fn new(runtime: Runtime, images: Images) -> Self {
        Self {
            runtime: RuntimeServiceServer::new(runtime).max_decoding_message_size(MAX_REQUEST),
            images: ImageServiceServer::new(images).max_decoding_message_size(MAX_REQUEST),
        }
    }

    /// Serves all that connect.
    pub(super) async fn serve(self, socket: &UnixListener) -> Infallible {
        let mut failing = false;
        loop {
            let client = socket.accept().await;
            match client.and_then(|(client, _)| Connection::new(client)) {
                Ok(client) => {
                    failing = false;
                    tokio::spawn(self.clone().serve_one(client));
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "accept a client; it is tried again until it works");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn serve_one(self, client: Connection) {
        let served = http2().serve_connection(TokioIo::new(client), self);
        if let Err(error) = served.await {
            tracing::debug!(%error, "a client's connection ended");
        }
    }
}

impl Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let limit = deadline::said(request.headers());
        let answer = match service(request.uri().path()) {
            RuntimeServiceServer::<Runtime>::NAME => self.runtime.clone().call(request),
            ImageServiceServer::<Images>::NAME => self.images.clone().call(request),
            other => {
                let status = Status::unimplemented(format!("there is no service {other:?}"));
                ready(Ok(status.into_http())).boxed()
            }
        };
        match limit {
            Some(limit) => within(limit, answer).boxed(),
            None => answer,
        }
    }
}

/// How connections are served.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        // As many calls at a time as a client makes, and not 200: only the node's own may connect.
        .max_concurrent_streams(None)
        .auto_date_header(false);
    builder
}

/// The name of the service in the path of a call, `/<service>/<method>` ("gRPC over HTTP2").
fn service(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').map_or(path, |(service, _)| service)
}

#[cfg(test)]
mod tests {
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    /// What a client begins with: the preface and SETTINGS without any (RFC 9113, section 3.4).
    const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// The type of a PING, and the flag of one that answers.
    const PING: u8 = 6;
    const ACK: u8 = 1;
    /// What grpc-go has in a PING that estimates.
    const ESTIMATE: [u8; 8] = [2, 4, 16, 16, 9, 14, 7, 7];

    async fn ping(client: &mut UnixStream, content: [u8; 8]) {
        let head = [0, 0, 8, PING, 0, 0, 0, 0, 0];
        client
            .write_all(&[&head[..], &content].concat())
            .await
            .unwrap();
    }

    /// The content of the next PING that is answered.
    async fn answered(client: &mut UnixStream) -> [u8; 8] {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut content = vec![0; length];
            client.read_exact(&mut content).await.unwrap();
            if (head[3], head[4]) == (PING, ACK) {
                return content.try_into().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_keepalive_is_answered_at_once_and_an_estimate_later() {
        let (ours, mut client) = UnixStream::pair().unwrap();
        let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::empty())));
        let ours = TokioIo::new(Connection::new(ours).unwrap());
        tokio::spawn(http2().serve_connection(ours, service));
        client.write_all(BEGIN).await.unwrap();
        ping(&mut client, [7; 8]).await;
        assert_eq!(answered(&mut client).await, [7; 8]);
        // An estimate that is read together with the keepalive after it is answered with it.
        let mut keepalives = 0;
        for _ in 0..20 {
            ping(&mut client, ESTIMATE).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            keepalives = keepalives_until_answered(&mut client).await;
            if keepalives > 0 {
                break;
            }
        }
        assert_eq!(keepalives, 100);
    }

    /// How many are answered before the estimate is.
    async fn keepalives_until_answered(client: &mut UnixStream) -> u8 {
        for keepalives in 0.. {
            let keepalive = [keepalives; 8];
            ping(client, keepalive).await;
            let first = answered(client).await;
            if first == ESTIMATE {
                assert_eq!(answered(client).await, keepalive);
                return keepalives;
            }
            assert_eq!(first, keepalive);
        }
        unreachable!("a byte has an end")
    }

    #[test]
    fn a_path_names_a_service() {
        assert_eq!(
            service("/runtime.v1.RuntimeService/Version"),
            "runtime.v1.RuntimeService"
        );
        assert_eq!(service("/a/b/c"), "a");
        for path in ["/", "", "//Version"] {
            assert_eq!(service(path), "");
        }
        assert_eq!(service("*"), "*");
    }
}
