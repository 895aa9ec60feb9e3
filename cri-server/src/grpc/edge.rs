//! One log line for each call, and its error as a status.

use std::time::Instant;

use futures_util::stream::{self, BoxStream};
use tonic::{Code, Response, Status};

use crate::rpc::RpcError;

/// Whether a call changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A kubelet asks so every second: logged only for those who want to see everything.
    Read,
    /// Worth a line.
    Change,
}

/// The messages of a streaming call.
pub(super) type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// Waits for a handler's answer and logs how it went. `about` names what the request is about.
pub(super) async fn answer<T>(
    method: &'static str,
    kind: Kind,
    about: String,
    handler: impl Future<Output = Result<T, RpcError>>,
) -> Result<Response<T>, Status> {
    let start = Instant::now();
    let result = handler.await;
    let ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    match result {
        Ok(answer) => {
            match kind {
                Kind::Read => tracing::debug!(method, about, ms, "answered"),
                Kind::Change => tracing::info!(method, about, ms, "answered"),
            }
            Ok(Response::new(answer))
        }
        Err(error) => {
            let status = Status::from(&error);
            let (code, message) = (status.code(), status.message());
            // A kubelet that looks for what is gone makes no mistake.
            if kind == Kind::Read && code == Code::NotFound {
                tracing::debug!(method, about, ms, ?code, message, "failed");
            } else {
                tracing::warn!(method, about, ms, ?code, message, "failed");
            }
            Err(status)
        }
    }
}

/// As [`answer`], for a handler whose messages go out one by one.
pub(super) async fn answer_stream<T: Send + 'static>(
    method: &'static str,
    about: String,
    handler: impl Future<Output = Result<Vec<T>, RpcError>>,
) -> Result<Response<Stream<T>>, Status> {
    let messages = answer(method, Kind::Read, about, handler)
        .await?
        .into_inner();
    let stream: Stream<T> = Box::pin(stream::iter(messages.into_iter().map(Ok)));
    Ok(Response::new(stream))
}

/// The status of a call that is not built.
pub(super) fn unimplemented(method: &'static str) -> Status {
    tracing::debug!(method, "not implemented");
    Status::unimplemented(format!(
        "{method} is not implemented by this version of skiff"
    ))
}
