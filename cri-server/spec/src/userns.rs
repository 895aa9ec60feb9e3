//! User namespaces (KEP-127): which request is possible, and what one changes in a container's
//! specification.
//!
//! A kubelet asks for a pod with ids of its own by one mapping, the same for users and groups,
//! that begins with the container's id 0, and repeats it at every container and every volume. Any
//! other form is refused, and so is a mapping that holds root of the host, which would protect
//! from nothing.

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, Spec,
};

use crate::SpecError;
use crate::cri::{self, IdMapping, MountPropagation, NamespaceMode, NamespaceOption};
use crate::input::{HostFeatures, Input, PodNetwork};
use crate::mounts::image_of;
use crate::user::User;

const FIELD: &str = "linux.security_context.namespace_options.userns_options";

/// A pod's own user and group ids: those from 0 on are those of the host from `host_id` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserNamespace {
    /// Where its id 0 is on the host.
    pub host_id: u32,
    /// How many ids it has.
    pub length: u32,
}

impl UserNamespace {
    /// The mapping in the words of the runtime-spec, for users and groups alike.
    pub fn mapping(&self) -> Result<LinuxIdMapping, SpecError> {
        Ok(LinuxIdMappingBuilder::default()
            .container_id(0u32)
            .host_id(self.host_id)
            .size(self.length)
            .build()?)
    }

    /// Do two pods have an id of the host in common?
    pub fn overlaps(&self, other: &Self) -> bool {
        let end = |of: &Self| u64::from(of.host_id) + u64::from(of.length);
        u64::from(self.host_id) < end(other) && u64::from(other.host_id) < end(self)
    }

    fn has(&self, id: u32) -> bool {
        id < self.length
    }
}

/// What `userns_options` ask for; `None`: the host's user namespace.
pub(crate) fn requested(options: &NamespaceOption) -> Result<Option<UserNamespace>, SpecError> {
    let Some(user) = &options.userns_options else {
        return Ok(None);
    };
    match NamespaceMode::try_from(user.mode) {
        Ok(NamespaceMode::Pod) => {}
        Ok(NamespaceMode::Node) if user.uids.is_empty() && user.gids.is_empty() => return Ok(None),
        Ok(NamespaceMode::Node) => {
            return Err(invalid("uids", "mappings, and the host's user namespace"));
        }
        Ok(other) => {
            let reason = format!("{} is not possible", other.as_str_name());
            return Err(invalid("mode", reason));
        }
        Err(_) => return Err(invalid("mode", format!("unknown mode {}", user.mode))),
    }
    let uids = only(&user.uids, "uids")?;
    if only(&user.gids, "gids")? != uids {
        return Err(invalid("gids", "another mapping than that of uids"));
    }
    for (name, mode) in [("pid", options.pid), ("ipc", options.ipc)] {
        if mode == NamespaceMode::Node as i32 {
            return Err(SpecError::invalid(
                format!("linux.security_context.namespace_options.{name}"),
                "NODE is not possible for a pod with a user namespace, to which its other \
                 namespaces belong",
            ));
        }
    }
    Ok(Some(uids))
}

/// The one mapping of a list.
fn only(list: &[IdMapping], name: &str) -> Result<UserNamespace, SpecError> {
    let [mapping] = list else {
        let reason = format!("{} mappings, and exactly one is possible", list.len());
        return Err(invalid(name, reason));
    };
    let IdMapping {
        host_id,
        container_id,
        length,
    } = *mapping;
    let refused = |reason: &str| {
        let mapping = format!("{container_id} to {host_id}, {length} ids");
        Err(invalid(name, format!("{mapping}: {reason}")))
    };
    if container_id != 0 {
        return refused("the container's id 0 must be the first one mapped");
    }
    if length == 0 {
        return refused("no id at all");
    }
    if host_id == 0 {
        return refused("root of the host would be root of the container");
    }
    if host_id.checked_add(length).is_none() {
        return refused("ends above the highest id, 4294967294");
    }
    Ok(UserNamespace { host_id, length })
}

/// Refuses a user namespace on a host that cannot do all that it takes.
pub fn check_user_namespace(
    user: Option<&UserNamespace>,
    host: &HostFeatures,
) -> Result<(), SpecError> {
    match (user, &host.user_namespaces) {
        (Some(_), Err(reason)) => Err(SpecError::unsupported(FIELD, reason)),
        _ => Ok(()),
    }
}

/// Refuses a container that asks for another user namespace than its pod has. One that says
/// nothing about namespaces follows its pod.
pub(crate) fn check_container(
    input: &Input<'_>,
    pod: Option<&UserNamespace>,
) -> Result<(), SpecError> {
    let options = input
        .security()
        .and_then(|context| context.namespace_options.as_ref());
    let Some(options) = options else {
        return Ok(());
    };
    if requested(options)?.as_ref() == pod {
        return Ok(());
    }
    Err(SpecError::invalid(
        FIELD,
        "the container asks for another user namespace than its pod has",
    ))
}

/// The mappings of a volume, which a kubelet gives for each directory of a pod with a user namespace,
/// and need not give for an image.
pub(crate) fn map_volume(
    mount: &mut Mount,
    request: &cri::Mount,
    i: usize,
    pod: Option<&UserNamespace>,
) -> Result<(), SpecError> {
    let at = |name: &str| format!("mounts[{i}].{name}");
    if pod.is_some() && request.propagation == MountPropagation::PropagationBidirectional as i32 {
        let reason = "PROPAGATION_BIDIRECTIONAL is not possible in a user namespace, whose root \
                      must not mount anything on the host";
        return Err(SpecError::invalid(at("propagation"), reason));
    }
    let (uids, gids) = (&request.uid_mappings, &request.gid_mappings);
    if uids.is_empty() && gids.is_empty() {
        // An image's files are the container's, as those of its own image are.
        if let (Some(user), Some(_)) = (pod, image_of(request)) {
            let ids = vec![user.mapping()?];
            map(mount, ids.clone(), ids);
        }
        return Ok(());
    }
    if pod.is_none() {
        let reason = "the pod has no user namespace whose ids could be mapped";
        let name = if uids.is_empty() {
            "gidMappings"
        } else {
            "uidMappings"
        };
        return Err(SpecError::invalid(at(name), reason));
    }
    for (name, list) in [("uidMappings", uids), ("gidMappings", gids)] {
        if list.is_empty() {
            let reason = "missing: a volume's users and groups are mapped together";
            return Err(SpecError::invalid(at(name), reason));
        }
    }
    let converted = |list: &[IdMapping]| list.iter().map(mapping).collect::<Result<Vec<_>, _>>();
    map(mount, converted(uids)?, converted(gids)?);
    Ok(())
}

fn mapping(request: &IdMapping) -> Result<LinuxIdMapping, SpecError> {
    Ok(LinuxIdMappingBuilder::default()
        .container_id(request.container_id)
        .host_id(request.host_id)
        .size(request.length)
        .build()?)
}

/// With everything below the mount: what stayed unmapped would belong to nobody.
pub(crate) fn map(mount: &mut Mount, uids: Vec<LinuxIdMapping>, gids: Vec<LinuxIdMapping>) {
    mount.set_uid_mappings(Some(uids));
    mount.set_gid_mappings(Some(gids));
    let mut options = mount.options().clone().unwrap_or_default();
    options.push("ridmap".to_owned());
    mount.set_options(Some(options));
}

/// What a user namespace changes in a specification that is complete otherwise.
pub(crate) fn apply(
    spec: &mut Spec,
    input: &Input<'_>,
    user: &UserNamespace,
) -> Result<(), SpecError> {
    check_user(input.user, user)?;
    let ids = vec![user.mapping()?];
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let own = [
            &input.pod.hostname_path,
            &input.pod.hosts_path,
            &input.pod.resolv_conf_path,
        ];
        let source = mount.source();
        if source.is_some() && own.contains(&source) {
            map(mount, ids.clone(), ids.clone());
        }
        if input.pod.network == PodNetwork::Host && mount.typ().as_deref() == Some("sysfs") {
            // A new one shows the network that it is mounted in, and who mounts it must own that.
            host_sysfs(mount);
        }
    }
    let Some(linux) = spec.linux_mut() else {
        return Err(SpecError::Incomplete("linux: missing".to_owned()));
    };
    let namespace = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User);
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.push(namespace.build()?);
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(Some(ids.clone()));
    linux.set_gid_mappings(Some(ids));
    // Owners of devices are ids of the host: with none named they stay root's of the host.
    for device in linux.devices_mut().iter_mut().flatten() {
        device.set_uid(None);
        device.set_gid(None);
    }
    Ok(())
}

fn host_sysfs(mount: &mut Mount) {
    let mut options = mount.options().clone().unwrap_or_default();
    options.retain(|option| option != "rw" && option != "ro");
    options.extend(["bind", "rprivate", "ro"].map(str::to_owned));
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some("/sys".into()));
    mount.set_options(Some(options));
}

/// Whoever the container runs as must be somebody in the namespace.
fn check_user(user: &User, namespace: &UserNamespace) -> Result<(), SpecError> {
    let refused = |field: &str, what: &str, id: u32| {
        let length = namespace.length;
        let reason = format!("{what} {id} is none of the {length} ids of the pod's user namespace");
        let field = format!("linux.security_context.{field}");
        Err(SpecError::invalid(field, reason))
    };
    if !namespace.has(user.uid) {
        return refused("run_as_user", "user", user.uid);
    }
    if !namespace.has(user.gid) {
        return refused("run_as_group", "group", user.gid);
    }
    match user.groups.iter().find(|group| !namespace.has(**group)) {
        Some(group) => refused("supplemental_groups", "group", *group),
        None => Ok(()),
    }
}

fn invalid(name: &str, reason: impl Into<String>) -> SpecError {
    SpecError::invalid(format!("{FIELD}.{name}"), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(host_id: u32, length: u32) -> UserNamespace {
        UserNamespace { host_id, length }
    }

    #[test]
    fn neighbours_do_not_overlap() {
        assert!(!user(65_536, 65_536).overlaps(&user(131_072, 65_536)));
        assert!(user(65_536, 65_537).overlaps(&user(131_072, 65_536)));
        assert!(user(1, u32::MAX - 1).overlaps(&user(u32::MAX - 1, 1)));
    }

    proptest! {
        #[test]
        fn overlap_is_mutual_and_means_a_common_id(
            a in 1u32..50, b in 1u32..50, m in 1u32..20, n in 1u32..20,
        ) {
            let (one, other) = (user(a, m), user(b, n));
            let common = (a..a + m).any(|id| (b..b + n).contains(&id));
            prop_assert_eq!(one.overlaps(&other), common);
            prop_assert_eq!(other.overlaps(&one), common);
        }
    }
}
