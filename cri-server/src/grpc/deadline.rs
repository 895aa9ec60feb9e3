//! How long a client waits for its answer.

use std::time::Duration;

use http::{HeaderMap, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

/// What a client says of it ("gRPC over HTTP2").
const HEADER: &str = "grpc-timeout";
/// For a client that does not say how long it waits.
const UNSAID: Duration = Duration::from_secs(60);

/// Waits for an answer, or answers DEADLINE_EXCEEDED when the client's time is over, as the specification
/// of gRPC has it: a client whose own clock is a little slower goes by what it is told.
pub(super) async fn within<E>(
    limit: Duration,
    answer: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let status = format!("not done within the {limit:?} that the client gave it");
            Ok(Status::deadline_exceeded(status).into_http())
        }
    }
}

/// Half of the time that a client gives its call, for work that may go on without it.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    said(metadata.as_ref()).map_or(UNSAID, |whole| whole / 2)
}

/// How long a client says that it waits.
pub(super) fn said(headers: &HeaderMap) -> Option<Duration> {
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
    use std::convert::Infallible;
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

    async fn status(limit: Duration, answer: impl Future<Output = ()>) -> String {
        let answer = async {
            answer.await;
            Ok::<_, Infallible>(Status::ok("done").into_http())
        };
        let answer = within(limit, answer).await.unwrap();
        answer.headers()["grpc-status"].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_told_so() {
        let limit = Duration::from_millis(1);
        assert_eq!(status(limit, pending()).await, "4");
        assert_eq!(status(limit, ready(())).await, "0");
    }
}
