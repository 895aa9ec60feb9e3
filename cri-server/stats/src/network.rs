//! `/proc/<pid>/net/dev`: the interfaces of a network namespace.

use skiff_cri::v1 as cri;

use crate::value;

/// An interface and what went through it since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What came in.
    pub received: Traffic,
    /// What went out.
    pub sent: Traffic,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets dropped.
    pub dropped: u64,
}

/// Reads the file's text (proc_pid_net(5)): after two lines of headings, for each interface its
/// name, a colon, eight numbers of what came in and eight of what went out. Loopback is left out:
/// it is no network.
pub fn parse(text: &str) -> Vec<Interface> {
    text.lines()
        .skip(2)
        .filter_map(interface)
        .filter(|interface| interface.name != "lo")
        .collect()
}

fn interface(line: &str) -> Option<Interface> {
    // Names of aliases have a colon of their own.
    let (name, numbers) = line.rsplit_once(':')?;
    let name = name.trim_start();
    let mut numbers = numbers.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    let mut traffic = || {
        let [bytes, packets, errors, dropped, _, _, _, _] = [
            next()?,
            next()?,
            next()?,
            next()?,
            next()?,
            next()?,
            next()?,
            next()?,
        ];
        Some(Traffic {
            bytes,
            packets,
            errors,
            dropped,
        })
    };
    let (received, sent) = (traffic()?, traffic()?);
    (!name.is_empty()).then(|| Interface {
        name: name.into(),
        received,
        sent,
    })
}

/// In the words of the CRI. The pod's main interface is `main` if it has one of that name, and the
/// first one otherwise; `None` without any, as while a pod is being detached: a kubelet (1.36) that
/// finds a network without its main interface there panics. `at` is when they were read,
/// nanoseconds since the epoch.
pub fn to_cri(interfaces: &[Interface], main: &str, at: i64) -> Option<cri::NetworkUsage> {
    let main = interfaces
        .iter()
        .position(|interface| interface.name == main)
        .unwrap_or(0);
    let default = interfaces.get(main)?;
    let others = interfaces.iter().enumerate().filter(|(i, _)| *i != main);
    Some(cri::NetworkUsage {
        timestamp: at,
        default_interface: Some(usage(default)),
        interfaces: others.map(|(_, interface)| usage(interface)).collect(),
    })
}

fn usage(interface: &Interface) -> cri::NetworkInterfaceUsage {
    cri::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: value(interface.received.bytes),
        rx_errors: value(interface.received.errors),
        tx_bytes: value(interface.sent.bytes),
        tx_errors: value(interface.sent.errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  net1:       7       1    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0:18446744073709551615 20    3    4    0     0          0         0      500      10    5    6    0     0       0          0
";

    #[test]
    fn loopback_is_no_network() {
        let interfaces = parse(TEXT);
        assert_eq!(interfaces.len(), 2);
        let eth0 = &interfaces[1];
        assert_eq!(eth0.name, "eth0");
        assert_eq!(
            eth0.received,
            Traffic {
                bytes: u64::MAX,
                packets: 20,
                errors: 3,
                dropped: 4
            }
        );
        assert_eq!((eth0.sent.bytes, eth0.sent.dropped), (500, 6));
    }

    #[test]
    fn the_main_interface_is_told_apart() {
        let told = to_cri(&parse(TEXT), "eth0", 9).unwrap();
        assert_eq!(told.timestamp, 9);
        assert_eq!(told.default_interface.unwrap().name, "eth0");
        let others: Vec<_> = told.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(others, ["net1"]);
        let told = to_cri(&parse(TEXT), "ens1", 9).unwrap();
        assert_eq!(told.default_interface.unwrap().name, "net1");
    }

    #[test]
    fn no_interface_is_no_network() {
        assert_eq!(to_cri(&[], "eth0", 9), None);
    }

    #[test]
    fn short_lines_are_passed_over() {
        assert!(
            parse("a\nb\n eth0: 1 2 3\n eth1 1 2\n : 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n").is_empty()
        );
    }
}
