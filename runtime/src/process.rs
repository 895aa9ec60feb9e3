//! Facts about processes, from /proc.

use std::fs;

use crate::Error;

/// Field 22 of /proc/pid/stat, in clock ticks after boot.
pub fn start_time(pid: i32) -> Result<u64, Error> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read(&path).map_err(|e| Error::system(format!("read {path}"), e))?;
    // A process may give itself a name that is not UTF-8.
    parse_start_time(&String::from_utf8_lossy(&stat))
        .ok_or_else(|| Error::invalid(path, "not in the form of proc(5)"))
}

/// The second field is the command's name in parentheses, which may itself hold blanks and
/// parentheses: fields are counted from its end.
fn parse_start_time(stat: &str) -> Option<u64> {
    const FIELDS_AFTER_NAME: usize = 22 - 3;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(FIELDS_AFTER_NAME)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=30).map(|n| n.to_string()).collect();
        let stat = format!("17 (a) b) (c) S {}", fields.join(" "));
        assert_eq!(parse_start_time(&stat), Some(22));
        assert_eq!(parse_start_time("17 (a) S 1 2"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn own_start_time_is_readable() {
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
    }
}
