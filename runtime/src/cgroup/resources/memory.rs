//! Memory and swap. `memory.checkBeforeUpdate` needs nothing: every update checks.

use super::{Write, not_in_v2};
use crate::Error;
use crate::oci_spec::runtime::LinuxMemory;

pub(super) fn memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Error> {
    for (field, asked) in [
        ("memory.swappiness", memory.swappiness().is_some()),
        ("memory.kernelTCP", memory.kernel_tcp().unwrap_or(0) != 0),
        (
            "memory.disableOOMKiller",
            memory.disable_oom_killer() == Some(true),
        ),
        ("memory.useHierarchy", memory.use_hierarchy() == Some(false)),
    ] {
        if asked {
            return Err(not_in_v2(field));
        }
    }
    let limit = amount("memory.limit", memory.limit())?;
    if let Some(limit) = limit {
        writes.push(Write::new("memory.max", limit));
    }
    match (amount("memory.swap", memory.swap())?, limit) {
        (Some(Amount::Max), _) => writes.push(Write::new("memory.swap.max", Amount::Max)),
        // The runtime-spec counts memory and swap together.
        (Some(Amount::Bytes(both)), Some(Amount::Bytes(limit))) => {
            let swap = both
                .checked_sub(limit)
                .filter(|swap| *swap >= 0)
                .ok_or_else(|| {
                    Error::invalid(
                        "linux.resources.memory.swap",
                        format!("{both} for memory and swap is less than the {limit} for memory"),
                    )
                })?;
            writes.push(Write::new("memory.swap.max", swap));
        }
        (Some(Amount::Bytes(_)), _) => {
            return Err(Error::invalid(
                "linux.resources.memory.swap",
                "a limit of memory and swap needs one of memory beside it",
            ));
        }
        (None, _) => {}
    }
    if let Some(low) = amount("memory.reservation", memory.reservation())? {
        writes.push(Write::new("memory.low", low));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Max,
    Bytes(i64),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// -1 is unlimited, 0 not set.
fn amount(field: &str, value: Option<i64>) -> Result<Option<Amount>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Amount::Max)),
        Some(bytes @ 1..) => Ok(Some(Amount::Bytes(bytes))),
        Some(bytes) => Err(Error::invalid(
            format!("linux.resources.{field}"),
            format!("{bytes} bytes"),
        )),
    }
}
