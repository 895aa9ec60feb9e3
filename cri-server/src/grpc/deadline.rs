//! How long a client waits for its answer.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;

/// What a client says of it ("gRPC over HTTP2").
const HEADER: &str = "grpc-timeout";
/// For a client that does not say how long it waits.
const UNSAID: Duration = Duration::from_secs(60);

/// A service that answers DEADLINE_EXCEEDED when the client's time is over, as the specification of gRPC
/// has it: tonic says CANCELLED, and a client whose own clock is a little slower believes that.
#[derive(Debug, Clone)]
pub(super) struct Deadline<S>(pub(super) S);

impl<S: NamedService> NamedService for Deadline<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = said(request.headers());
        let answer = self.0.call(request);
        let Some(limit) = limit else {
            return Box::pin(answer);
        };
        // From now on, so that it is over before tonic's.
        let answer = tokio::time::timeout(limit, answer);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                let status = format!("not done within the {limit:?} that the client gave it");
                Ok(Status::deadline_exceeded(status).into_http())
            })
        })
    }
}

/// Half of the time that a client gives its call, for work that may go on without it.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    said(metadata.as_ref()).map_or(UNSAID, |whole| whole / 2)
}

fn said(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(HEADER)?.to_str().ok()?)
}

/// At most eight digits and a unit.
fn parse(said: &str) -> Option<Duration> {
    let (count, unit) = said.split_at_checked(said.len().checked_sub(1)?)?;
    if count.len() > 8 || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = count.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn of(said: &'static str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert(HEADER, said.parse().unwrap());
        patience(&metadata)
    }

    #[test]
    fn half_of_what_the_client_says() {
        assert_eq!(of("2S"), Duration::from_secs(1));
        assert_eq!(of("1999999u"), Duration::from_nanos(999_999_500));
        assert_eq!(of("2M"), Duration::from_secs(60));
        assert_eq!(of("99999999H"), Duration::from_secs(99_999_999 * 1800));
    }

    #[test]
    fn what_is_no_time_counts_as_unsaid() {
        assert_eq!(patience(&MetadataMap::new()), UNSAID);
        for said in ["", "S", "2", "2s", "-2S", "+2S", "123456789n", "2 S", "2SS"] {
            assert_eq!(of(said), UNSAID, "{said}");
        }
    }

    /// Answers at once or never.
    struct Fake(bool);

    impl Service<Request<Body>> for Fake {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            if self.0 {
                Box::pin(ready(Ok(Status::ok("done").into_http())))
            } else {
                Box::pin(pending())
            }
        }
    }

    async fn status(answers: bool, limit: &str) -> String {
        let request = Request::builder().header(HEADER, limit).body(Body::empty());
        let answer = Deadline(Fake(answers)).call(request.unwrap()).await;
        let answer = answer.unwrap();
        answer.headers()["grpc-status"].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_not_told_as_cancelled() {
        assert_eq!(status(false, "1m").await, "4");
        assert_eq!(status(true, "1m").await, "0");
        assert_eq!(status(true, "no time").await, "0");
    }
}
