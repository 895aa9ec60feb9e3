//! Telling what went wrong: on standard error and, for callers that parse it, in the log file.

use std::fs::OpenOptions;
use std::io::Write;

use crate::args::{Args, LogFormat};

/// Reports an error in both places.
pub(crate) fn report(args: &Args, error: &anyhow::Error) {
    let message = &describe(error);
    line(message);
    let Some(path) = &args.log else { return };
    let text = match args.log_format {
        LogFormat::Text => format!("level=error msg={message:?} time={:?}\n", now()),
        LogFormat::Json => {
            let entry = serde_json::json!({"level": "error", "msg": message, "time": now()});
            format!("{entry}\n")
        }
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(e) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
        line(&format!("write log {}: {e}", path.display()));
    }
}

/// An error and its causes; those that the message above them has told already are left out.
fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// A line on standard error, whose loss is nobody's fault that could be told.
pub(crate) fn line(message: &str) {
    let _ = writeln!(std::io::stderr(), "skiff-oci: {message}");
}

/// The present, in RFC 3339, UTC.
pub(crate) fn now() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_nanos())
}

/// Days are counted from March, so that the leap day ends the year (Howard Hinnant's
/// `civil_from_days`).
fn rfc3339(seconds: u64, nanos: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_is_told_once() {
        let cause = std::io::Error::other("no room");
        let inner = skiff_runtime::Error::system("make /x", cause);
        let error = anyhow::Error::from(inner).context("create c");
        assert_eq!(describe(&error), "create c: make /x: no room");
    }

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(rfc3339(1_735_689_599, 0), "2024-12-31T23:59:59.000000000Z");
    }
}
