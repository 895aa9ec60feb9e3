//! `io.stat`.

/// What a cgroup read from one block device and wrote to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number of the device.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

/// Reads the file's text: a line for each device. The kernel leaves out devices without any
/// traffic, or writes their numbers alone.
pub fn parse(text: &str) -> Vec<DeviceIo> {
    text.lines().filter_map(device).collect()
}

fn device(line: &str) -> Option<DeviceIo> {
    let (number, rest) = line.split_once(' ')?;
    let (major, minor) = number.split_once(':')?;
    let mut io = DeviceIo {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..DeviceIo::default()
    };
    let mut found = false;
    for word in rest.split(' ') {
        let Some((key, value)) = word.split_once('=') else {
            continue;
        };
        let field = match key {
            "rbytes" => &mut io.read_bytes,
            "wbytes" => &mut io.written_bytes,
            "rios" => &mut io.reads,
            "wios" => &mut io.writes,
            _ => continue,
        };
        *field = value.parse().ok()?;
        found = true;
    }
    found.then_some(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_traffic() {
        let text = "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n\
                    7:1 \n\
                    254:16 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0 cost.usage=7\n\
                    nonsense\n";
        let devices = parse(text);
        assert_eq!(devices.len(), 2);
        assert_eq!(
            devices[0],
            DeviceIo {
                major: 8,
                minor: 0,
                read_bytes: 4096,
                written_bytes: 8192,
                reads: 1,
                writes: 2,
            }
        );
        assert_eq!((devices[1].major, devices[1].minor), (254, 16));
    }
}
