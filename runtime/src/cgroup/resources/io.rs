//! Block devices.

use super::{Write, not_in_v2};
use crate::Error;
use crate::oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

pub(super) fn io(io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<(), Error> {
    let devices = io.weight_device().as_deref().unwrap_or_default();
    if io.leaf_weight().is_some() || devices.iter().any(|d| d.leaf_weight().is_some()) {
        return Err(not_in_v2("blockIO.leafWeight"));
    }
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        writes.push(Write::new("io.weight", io_weight(weight)));
    }
    for device in devices {
        if let Some(weight) = device.weight() {
            let (major, minor) = (device.major(), device.minor());
            let value = format!("{major}:{minor} {}", io_weight(weight));
            writes.push(Write::new("io.weight", value));
        }
    }
    for (key, devices) in [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            writes.push(Write::new("io.max", throttle(key, device)));
        }
    }
    Ok(())
}

/// Block I/O weight, 10 to 1000, as `io.weight`, 1 to 10000, in proportion.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

fn throttle(key: &str, device: &LinuxThrottleDevice) -> String {
    let rate = match device.rate() {
        0 => "max".to_owned(),
        rate => rate.to_string(),
    };
    format!("{}:{} {key}={rate}", device.major(), device.minor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_stay_in_range(weight in 10u16..=1000) {
            prop_assert!((1..=10_000).contains(&io_weight(weight)));
        }
    }
}
