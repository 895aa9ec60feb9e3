//! Capability sets.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::SpecError;
use crate::cri::LinuxContainerSecurityContext;
use crate::input::{Defaults, HostFeatures};

/// Stands for every capability there is.
const ALL: &str = "ALL";

/// Reads a capability's name in any case, with or without `CAP_`.
fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).parse().ok()
}

/// The sets of a container's processes.
///
/// `ALL` is applied before single names, so `drop ALL, add X` leaves X, and `add ALL, drop X`
/// leaves all but X. Adding ambient capabilities raises the other sets too: the kernel keeps an
/// ambient capability only while it is permitted and inheritable. Otherwise nothing is
/// inheritable, so that a file's inheritable capabilities give nothing (CVE-2022-24769).
pub(crate) fn capabilities(
    context: Option<&LinuxContainerSecurityContext>,
    defaults: &Defaults,
    host: &HostFeatures,
) -> Result<LinuxCapabilities, SpecError> {
    let privileged = context.is_some_and(|c| c.privileged);
    let mut set = if privileged {
        host.bounding.clone()
    } else {
        defaults
            .capabilities
            .intersection(&host.bounding)
            .copied()
            .collect()
    };
    let mut ambient = Capabilities::new();
    if let Some(wish) = context.and_then(|c| c.capabilities.as_ref()) {
        let add = names(&wish.add_capabilities, "add_capabilities")?;
        let drop = names(&wish.drop_capabilities, "drop_capabilities")?;
        let raise = names(&wish.add_ambient_capabilities, "add_ambient_capabilities")?;
        if add.all {
            set = host.bounding.clone();
        }
        if drop.all {
            set.clear();
        }
        if raise.all {
            ambient = host.bounding.clone();
        }
        available(&add.single, "add_capabilities", host)?;
        available(&raise.single, "add_ambient_capabilities", host)?;
        set.extend(add.single);
        ambient.extend(raise.single);
        set.extend(&ambient);
        set.retain(|capability| !drop.single.contains(capability));
        ambient.retain(|capability| !drop.single.contains(capability));
    }
    let builder = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(ambient.clone())
        .ambient(ambient);
    Ok(builder.build()?)
}

struct Names {
    all: bool,
    single: Capabilities,
}

fn names(list: &[String], field: &str) -> Result<Names, SpecError> {
    let mut names = Names {
        all: false,
        single: Capabilities::new(),
    };
    for (i, name) in list.iter().enumerate() {
        if name.eq_ignore_ascii_case(ALL) {
            names.all = true;
            continue;
        }
        let capability = parse(name).ok_or_else(|| {
            let field = format!("linux.security_context.capabilities.{field}[{i}]");
            SpecError::invalid(field, format!("{name:?} is not a capability"))
        })?;
        names.single.insert(capability);
    }
    Ok(names)
}

fn available(wanted: &Capabilities, field: &str, host: &HostFeatures) -> Result<(), SpecError> {
    let mut missing: Vec<_> = wanted
        .difference(&host.bounding)
        .map(|missing| format!("CAP_{missing}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    Err(SpecError::unsupported(
        format!("linux.security_context.capabilities.{field}"),
        format!("the daemon itself does not have {}", missing.join(", ")),
    ))
}
