//! Facts about processes, from /proc.

use std::fs;

use skiff_shim_proto::process::Stat;

use crate::Error;

/// Field 22 of /proc/pid/stat, in clock ticks after boot.
pub fn start_time(pid: i32) -> Result<u64, Error> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read(&path).map_err(|e| Error::system(format!("read {path}"), e))?;
    match Stat::parse(&stat) {
        Some(stat) => Ok(stat.start_time),
        None => Err(Error::invalid(path, "not in the form of proc(5)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_start_time_is_readable() {
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
    }
}
