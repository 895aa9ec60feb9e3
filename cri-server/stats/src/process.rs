//! What is told of single processes: `/proc/<pid>/limits`.

/// The soft limit of open files in the text of that file (proc_pid_limits(5)); `None` when there
/// is none.
pub fn open_files_limit(text: &str) -> Option<u64> {
    let line = |line: &str| -> Option<u64> {
        let rest = line.strip_prefix("Max open files ")?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    text.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_one() {
        let text = "\
Limit                     Soft Limit           Hard Limit           Units     
Max core file size        unlimited            unlimited            bytes     
Max open files            1024                 524288               files     
";
        assert_eq!(open_files_limit(text), Some(1024));
        let unlimited = text.replace("1024  ", "unlimited");
        assert_eq!(open_files_limit(&unlimited), None);
        assert_eq!(open_files_limit(""), None);
    }
}
