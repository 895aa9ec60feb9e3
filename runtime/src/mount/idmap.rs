//! Bind mounts whose ids are mapped: what is a container's root's in there is on disk whoever the
//! mapping says (mount_setattr(2), "ID-mapped mounts").

use std::os::fd::{AsFd, AsRawFd};

use super::options::{Options, attr};
use crate::Error;
use crate::oci_spec::runtime::Mount as SpecMount;
use crate::sys::mount::MountAttr;
use crate::user_namespace::{IdMappings, UserNamespace};

/// A mapping, as the kernel wants it: a user namespace that has it.
#[derive(Debug)]
pub(super) enum Idmap<'a> {
    /// The container's own.
    Container(&'a UserNamespace),
    /// Another one, made for this mount.
    Own(UserNamespace),
}

/// The mapping that a mount asks for: by its own `uidMappings` and `gidMappings`, or by the option
/// `idmap` or `ridmap` alone, which means the container's.
pub(super) fn of<'a>(
    mount: &SpecMount,
    options: &Options,
    container: Option<&'a UserNamespace>,
) -> Result<Option<Idmap<'a>>, Error> {
    let field = |name: &str| format!("mounts ({}){name}", mount.destination().display());
    let mappings = IdMappings {
        uid: mount.uid_mappings().clone().unwrap_or_default(),
        gid: mount.gid_mappings().clone().unwrap_or_default(),
    };
    if mappings.is_empty() && options.idmap.is_none() {
        return Ok(None);
    }
    if !options.bind && mount.typ().as_deref() != Some("image") {
        let problem = "only bind mounts and images can have their ids mapped";
        return Err(Error::invalid(field(": uidMappings"), problem));
    }
    match container {
        Some(container) if mappings.is_empty() || *container.mappings() == mappings => {
            Ok(Some(Idmap::Container(container)))
        }
        None if mappings.is_empty() => Err(Error::invalid(
            field(": option \"idmap\""),
            "neither the mount nor the container has mappings",
        )),
        _ => {
            mappings.check(&field(""))?;
            UserNamespace::new(mappings).map(|own| Some(Idmap::Own(own)))
        }
    }
}

impl Idmap<'_> {
    /// A user namespace that has the mapping.
    pub(super) fn namespace(&self) -> &UserNamespace {
        match self {
            Self::Container(namespace) => namespace,
            Self::Own(namespace) => namespace,
        }
    }

    /// Puts the mapping among the attributes of a mount, or with `ridmap` of everything below.
    pub(super) fn apply(&self, options: &mut Options) {
        let attributes: &mut MountAttr = match options.idmap {
            Some(true) => &mut options.attr_recursive,
            _ => &mut options.attr,
        };
        attributes.set |= attr::IDMAP;
        attributes.userns_fd = self.namespace().as_fd().as_raw_fd() as u64;
    }
}

/// The options of a mount that is made of mapped layers, and cannot be mapped itself.
pub(super) fn without(options: &Options) -> Options {
    let mut options = options.clone();
    for attributes in [&mut options.attr, &mut options.attr_recursive] {
        attributes.set &= !attr::IDMAP;
        attributes.userns_fd = 0;
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(mount: serde_json::Value) -> String {
        let mount: SpecMount = serde_json::from_value(mount).unwrap();
        let words = mount.options().clone().unwrap_or_default();
        let options = Options::parse(&words, "/x").unwrap();
        of(&mount, &options, None).unwrap_err().to_string()
    }

    #[test]
    fn a_mapping_that_cannot_be_had_is_refused_by_the_mounts_name() {
        let map = serde_json::json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        let alone = refused(serde_json::json!({"destination": "/x", "options": ["bind", "idmap"]}));
        assert!(
            alone.contains("/x") && alone.contains("mappings"),
            "{alone}"
        );
        let new = serde_json::json!({"destination": "/x", "type": "tmpfs", "uidMappings": map});
        assert!(refused(new).contains("only bind mounts"));
        let half = refused(serde_json::json!(
            {"destination": "/x", "options": ["bind"], "uidMappings": map}));
        assert!(half.contains("(/x).gidMappings: missing"), "{half}");
    }

    #[test]
    fn recursion_is_asked_for_by_its_option() {
        for (words, whole) in [
            (vec!["rbind"], false),
            (vec!["rbind", "idmap"], false),
            (vec!["rbind", "ridmap"], true),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let options = Options::parse(&words, "/x").unwrap();
            assert_eq!(options.idmap == Some(true), whole, "{words:?}");
        }
    }
}
