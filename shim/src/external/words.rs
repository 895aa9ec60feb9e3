//! What another runtime says: its log, and the pid of what it has made.

use rustix::process::Pid;
use serde_json::Value;

/// Most characters of a reason that is told on.
pub const LONGEST: usize = 4096;

/// The last error of a log of one JSON object a line, as `--log-format json` makes it; what is no
/// such line is passed over.
pub fn last_error(log: &[u8]) -> Option<String> {
    let entries = log
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let last = entries
        .rev()
        .find(|entry| matches!(entry["level"].as_str(), Some("error" | "fatal")))?;
    let message = last["msg"].as_str()?;
    Some(message.chars().take(LONGEST).collect())
}

/// The pid in a pid file.
pub fn pid(text: &str) -> Option<Pid> {
    let number: u32 = text.trim().parse().ok()?;
    Pid::from_raw(i32::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_counts() {
        let log = "{\"level\":\"warning\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\"}\n\
             {\"level\":\"error\",\"msg\":\"no such file\"}\n{\"level\":\"debug\",\"msg\":\"d\"}\n{\"lev";
        assert_eq!(last_error(log.as_bytes()).as_deref(), Some("no such file"));
        assert_eq!(last_error(b"panic: not json\n"), None);
        assert_eq!(last_error(b"{\"level\":\"error\",\"msg\":7}"), None);
    }

    #[test]
    fn a_long_error_is_cut() {
        let log = format!("{{\"level\":\"fatal\",\"msg\":\"{}\"}}", "é".repeat(9999));
        assert_eq!(last_error(log.as_bytes()).unwrap(), "é".repeat(LONGEST));
    }

    #[test]
    fn a_pid_is_above_zero() {
        assert_eq!(pid("12\n"), Pid::from_raw(12));
        for text in ["", "0", "-1", "x", "4294967296"] {
            assert_eq!(pid(text), None, "{text}");
        }
    }
}
