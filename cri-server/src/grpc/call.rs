//! The edge of every call: it is counted, traced, logged once, and its error becomes a status.

use std::sync::Arc;
use std::time::Instant;

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream};
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use super::subject::Subject;
use crate::rpc::RpcError;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Operation;
use crate::telemetry::trace::CallSpan;

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

/// A call that is being answered.
pub(super) struct Call<'a> {
    telemetry: &'a Arc<Telemetry>,
    method: &'static str,
    kind: Kind,
    subject: Subject,
    began: Instant,
    /// Its span, when it is in a trace.
    span: Option<CallSpan>,
}

/// Writes one line about a call; fields of its subject that it has not are left out.
macro_rules! line {
    ($level:ident, $call:expr, $($rest:tt)*) => {{
        let Subject { pod, container, image, namespace, name, uid, attempt } = &$call.subject;
        tracing::$level!(
            method = $call.method,
            pod = pod.as_deref(),
            container = container.as_deref(),
            image = image.as_deref(),
            namespace = namespace.as_deref(),
            name = name.as_deref(),
            uid = uid.as_deref(),
            attempt = *attempt,
            ms = $call.ms(),
            $($rest)*
        )
    }};
}

impl<'a> Call<'a> {
    /// A call that has just come in.
    pub(super) fn new(
        telemetry: &'a Arc<Telemetry>,
        method: &'static str,
        kind: Kind,
        metadata: &MetadataMap,
        subject: Subject,
    ) -> Self {
        let tracer = telemetry.tracer.as_ref();
        let span = tracer.and_then(|tracer| tracer.call(method, metadata));
        if let Some(span) = &span {
            subject.tell(|key, value| span.about(key, value));
        }
        Self {
            telemetry,
            method,
            kind,
            subject,
            began: Instant::now(),
            span,
        }
    }

    /// Waits for a handler's answer.
    pub(super) async fn answer<T>(
        self,
        handler: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<Response<T>, Status> {
        let result = self.run(handler).await;
        self.conclude(result).map(Response::new)
    }

    /// As [`Self::answer`], for a handler whose messages go out one by one.
    pub(super) async fn answer_stream<T: Send + 'static>(
        self,
        handler: impl Future<Output = Result<Vec<T>, RpcError>>,
    ) -> Result<Response<Stream<T>>, Status> {
        let result = self.run(handler).await;
        let messages = self.conclude(result)?.into_iter().map(Ok);
        let stream: Stream<T> = Box::pin(stream::iter(messages));
        Ok(Response::new(stream))
    }

    /// As [`Self::answer`], for a handler whose messages come as things happen, until an error or
    /// the client ends it.
    pub(super) async fn answer_live<T: Send + 'static>(
        self,
        handler: impl Future<Output = Result<BoxStream<'static, Result<T, RpcError>>, RpcError>>,
    ) -> Result<Response<Stream<T>>, Status> {
        let (method, telemetry) = (self.method, Arc::clone(self.telemetry));
        let result = self.run(handler).await;
        let messages = self.conclude(result)?;
        let stream: Stream<T> = Box::pin(messages.map_err(move |error| {
            let status = Status::from(&error);
            let (code, message) = (status.code(), status.message());
            tracing::warn!(method, ?code, message, "ended");
            if let Some(operation) = telemetry.metrics.operation(method) {
                operation.failed(code);
            }
            status
        }));
        Ok(Response::new(stream))
    }

    async fn run<T>(&self, handler: impl Future<Output = T>) -> T {
        match &self.span {
            None => handler.await,
            Some(span) => span.around(handler).await,
        }
    }

    /// Counts, traces and logs how it went.
    fn conclude<T>(&self, result: Result<T, RpcError>) -> Result<T, Status> {
        match result {
            Ok(answer) => {
                self.count(Code::Ok, "");
                match self.kind {
                    Kind::Read => line!(debug, self, "answered"),
                    Kind::Change => line!(info, self, "answered"),
                }
                Ok(answer)
            }
            Err(error) => {
                let status = Status::from(&error);
                let (code, message) = (status.code(), status.message());
                self.count(code, message);
                // A kubelet that looks for what is gone makes no mistake.
                if self.kind == Kind::Read && code == Code::NotFound {
                    line!(debug, self, ?code, message, "failed");
                } else {
                    line!(warn, self, ?code, message, "failed");
                }
                Err(status)
            }
        }
    }

    fn count(&self, code: Code, message: &str) {
        if let Some(span) = &self.span {
            span.end(code, message);
        }
        if let Some(operation) = self.operation() {
            operation.answered(self.began, code);
        }
    }

    fn operation(&self) -> Option<&Operation> {
        self.telemetry.metrics.operation(self.method)
    }

    /// For how long it has been going on.
    fn ms(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }
}

/// The status of a call that is not built.
pub(super) fn unimplemented(method: &'static str) -> Status {
    tracing::debug!(method, "not implemented");
    Status::unimplemented(format!(
        "{method} is not implemented by this version of skiff"
    ))
}
