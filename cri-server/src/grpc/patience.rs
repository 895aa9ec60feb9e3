//! How long a client waits for its answer.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// For a client that does not say how long it waits.
const UNSAID: Duration = Duration::from_secs(60);

/// Half of the time that a client gives its call (`grpc-timeout`, as "gRPC over HTTP2" has it): for
/// work that may go on without it.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    let said = metadata.get("grpc-timeout");
    let said = said.and_then(|value| value.to_str().ok()).and_then(parse);
    said.map_or(UNSAID, |whole| whole / 2)
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
    use super::*;

    fn of(said: &'static str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", said.parse().unwrap());
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
}
