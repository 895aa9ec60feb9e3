//! What the names of RuntimeClass handlers stand for.
//!
//! A handler is looked up when a pod is made and again for each of its containers, so that a
//! configuration that is read again holds from the next one on. What a pod's containers are run by
//! is part of the pod and of its record: a handler that is gone or has changed its runtime makes
//! no further containers for it, and everything else goes on.
//!
//! Map: [`Handlers`] all of them; [`external`] what another runtime says it can do.

pub mod external;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use skiff_config::sysctl::SysctlName;
use skiff_config::{Config, Container};
use skiff_cri::v1 as cri;
use skiff_shim_proto::message::ExternalRuntime;
use skiff_spec::{Defaults, HostFeatures, PodNamespaces, SpecError};

use crate::id::Id;
use external::Promise;

/// What pods of one handler are run with.
#[derive(Debug)]
pub struct Handler {
    /// Another runtime; `None`: the shim.
    pub external: Option<External>,
    /// Seccomp profile that RuntimeDefault means; `None`: our own.
    pub seccomp_profile: Option<PathBuf>,
    /// Whether pods may have privileged containers.
    pub privileged: bool,
    /// Size of a pod's /dev/shm, in bytes.
    pub shm_size: u64,
    /// Kernel parameters of a pod's namespaces.
    pub sysctls: BTreeMap<SysctlName, String>,
    /// What containers start from.
    pub defaults: Defaults,
    /// What it can do.
    pub features: Promise,
}

/// Another runtime.
#[derive(Debug)]
pub struct External {
    path: PathBuf,
    arguments: Vec<String>,
    root: PathBuf,
    annotations: Vec<String>,
}

/// What a handler can do, as `RuntimeHandlerFeatures` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Read-only mounts that are so with everything below them.
    pub recursive_read_only: bool,
    /// Pods with user namespaces.
    pub user_namespaces: bool,
}

impl Features {
    /// Nothing of it.
    pub const NONE: Self = Self {
        recursive_read_only: false,
        user_namespaces: false,
    };
}

/// All handlers of a node.
#[derive(Debug)]
pub struct Handlers {
    default_name: String,
    default: Arc<Handler>,
    others: BTreeMap<String, Arc<Handler>>,
}

impl Handlers {
    /// Those of a configuration. Asks every other runtime what it can do, and does not wait.
    pub fn new(config: &Config, host: &HostFeatures) -> Result<Self, SpecError> {
        let own = Features {
            recursive_read_only: host.recursive_read_only,
            user_namespaces: host.user_namespaces.is_ok(),
        };
        let default = Handler::new(&config.container, own)?;
        let mut others = BTreeMap::new();
        for (name, options) in &config.runtime.handlers {
            let mut handler = Handler::new(&options.container.over(&config.container), own)?;
            let path = options.seccomp_profile.as_ref();
            handler.seccomp_profile = path.map(|path| path.as_path().into());
            handler.privileged = options.privileged;
            if let Some(path) = &options.path {
                let root = options.root.as_ref().map(|root| root.as_path().into());
                handler.features =
                    Promise::of(name.as_str(), path.as_path(), &options.arguments, own);
                handler.external = Some(External {
                    path: path.as_path().into(),
                    arguments: options.arguments.clone(),
                    root: root.unwrap_or_else(|| config.state.join("runtimes")),
                    annotations: options.annotations.clone(),
                });
            }
            others.insert(name.to_string(), Arc::new(handler));
        }
        Ok(Self {
            default_name: config.runtime.default_handler.to_string(),
            default: Arc::new(default),
            others,
        })
    }

    /// The handler of a name; the empty one is the default.
    pub fn find(&self, name: &str) -> Option<&Arc<Handler>> {
        if name.is_empty() || name == self.default_name {
            return Some(&self.default);
        }
        self.others.get(name)
    }

    /// The name by which a handler is known that a request may leave empty.
    pub fn name_of<'a>(&'a self, asked: &'a str) -> &'a str {
        if asked.is_empty() {
            &self.default_name
        } else {
            asked
        }
    }

    /// Whether it is known of all what they can do.
    pub fn are_settled(&self) -> bool {
        let mut others = self.others.values();
        others.all(|handler| handler.features.is_settled())
    }

    /// Waits until it is known of all what they can do.
    pub async fn settled(&self) {
        for handler in self.others.values() {
            handler.features.settled().await;
        }
    }

    /// The one without a name.
    pub fn default(&self) -> &Arc<Handler> {
        &self.default
    }

    /// All names with what they stand for, the empty one first.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Handler)> {
        let default = [("", &self.default), (&self.default_name, &self.default)];
        let others = self.others.iter().map(|(name, handler)| (&**name, handler));
        default
            .into_iter()
            .chain(others)
            .map(|(name, handler)| (name, &**handler))
    }
}

impl Handler {
    fn new(container: &Container, features: Features) -> Result<Self, SpecError> {
        Ok(Self {
            external: None,
            seccomp_profile: None,
            privileged: true,
            shm_size: container.shm_size.bytes(),
            sysctls: container.default_sysctls.clone(),
            defaults: Defaults::try_from(container)?,
            features: Promise::kept(features),
        })
    }

    /// Refuses a pod that the handler is not for, or whose runtime is not there.
    pub fn check(&self, pod: &cri::PodSandboxConfig) -> Result<(), SpecError> {
        let linux = pod.linux.as_ref();
        let context = linux.and_then(|linux| linux.security_context.as_ref());
        if !self.privileged && context.is_some_and(|context| context.privileged) {
            let field = "linux.security_context.privileged";
            let reason = "the runtime handler is configured with privileged = false";
            return Err(SpecError::invalid(field, reason));
        }
        if let Some(External { path, .. }) = &self.external
            && let Err(e) = std::fs::metadata(path)
        {
            let reason = format!("its program {}: {e}", path.display());
            return Err(SpecError::unsupported("runtime_handler", reason));
        }
        Ok(())
    }

    /// Refuses a user namespace that the runtime cannot join. Its features are settled.
    pub fn check_user_namespace(&self, pod: &PodNamespaces) -> Result<(), SpecError> {
        if pod.user.is_none() || self.external.is_none() || self.features.now().user_namespaces {
            return Ok(());
        }
        let field = "linux.security_context.namespace_options.userns_options";
        let reason = "the runtime of the handler does not say that it can join user namespaces";
        Err(SpecError::unsupported(field, reason))
    }

    /// Refuses mounts that another runtime cannot make, or would not make as they are meant. Its
    /// features are settled.
    pub fn check_mounts(&self, container: &cri::ContainerConfig) -> Result<(), SpecError> {
        if self.external.is_none() {
            return Ok(());
        }
        for (i, mount) in container.mounts.iter().enumerate() {
            let at = |name: &str| format!("mounts[{i}].{name}");
            if mount.propagation == cri::MountPropagation::PropagationBidirectional as i32 {
                let reason = "PROPAGATION_BIDIRECTIONAL takes the built-in runtime";
                return Err(SpecError::unsupported(at("propagation"), reason));
            }
            if mount.recursive_read_only && !self.features.now().recursive_read_only {
                return Err(SpecError::RecursiveReadOnly {
                    field: at("recursive_read_only"),
                    reason: "the runtime of the handler does not say that it has rro".into(),
                });
            }
        }
        Ok(())
    }

    /// Adds the annotations of a pod that another runtime is told.
    pub fn annotate(&self, spec: &mut Spec, pod: &cri::PodSandboxConfig) {
        let Some(external) = &self.external else {
            return;
        };
        let own = spec.annotations().clone().unwrap_or_default();
        let passed = external.annotations(&pod.annotations);
        let passed = passed.map(|(name, value)| (name.clone(), value.clone()));
        // What says whose the container is stays.
        spec.set_annotations(Some(passed.chain(own).collect()));
    }

    /// What the shim of a pod is told of another runtime.
    pub fn external_for(&self, pod: &Id) -> Option<ExternalRuntime> {
        let external = self.external.as_ref()?;
        Some(ExternalRuntime {
            path: external.path.clone(),
            arguments: external.arguments.clone(),
            root: external.root.join(pod.as_str()),
        })
    }
}

impl External {
    /// The annotations of a pod that the runtime is told.
    fn annotations<'a>(
        &self,
        pod: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a String, &'a String)> {
        let passed = |name: &str| {
            self.annotations
                .iter()
                .any(|pattern| match pattern.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => name == pattern,
                })
        };
        pod.iter().filter(move |(name, _)| passed(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use skiff_config::Overrides;

    fn handlers(toml: &str) -> Handlers {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skiff.toml");
        std::fs::write(&file, toml).unwrap();
        let config = Config::load(Some(&file), &Overrides::default())
            .unwrap()
            .config;
        Handlers::new(&config, &Host::probe().features()).unwrap()
    }

    #[test]
    fn a_handler_is_found_by_its_name_and_no_other() {
        let handlers = handlers("[runtime.handlers.strict]\nprivileged = false");
        let names: Vec<_> = handlers.all().map(|(name, _)| name).collect();
        assert_eq!(names, ["", "skiff", "strict"]);
        assert!(handlers.find("").unwrap().privileged);
        assert!(handlers.find("skiff").unwrap().privileged);
        assert!(!handlers.find("strict").unwrap().privileged);
        assert!(handlers.find("Strict").is_none());
    }

    #[test]
    fn a_handler_has_what_it_does_not_say_from_the_rest_of_the_file() {
        let handlers = handlers(
            "[container]\nshm_size = '8MiB'\n\
             [runtime.handlers.a.container]\ndefault_capabilities = []\n\
             [runtime.handlers.b.container]\nshm_size = '16MiB'",
        );
        let of = |name: &str| handlers.find(name).unwrap();
        assert_eq!(of("a").shm_size, 8 << 20);
        assert!(of("a").defaults.capabilities.is_empty());
        assert_eq!(of("b").shm_size, 16 << 20);
        assert_eq!(of("b").defaults, handlers.default().defaults);
    }

    #[test]
    fn a_pod_that_a_handler_is_not_for_is_refused() {
        let handlers = handlers("[runtime.handlers.strict]\nprivileged = false");
        let mut pod = cri::PodSandboxConfig::default();
        let linux = pod.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
        assert!(handlers.default().check(&pod).is_ok());
        let error = handlers.find("strict").unwrap().check(&pod).unwrap_err();
        assert!(error.to_string().contains("privileged = false"), "{error}");
    }

    #[test]
    fn annotations_are_passed_by_name_or_beginning() {
        let handlers = handlers(
            "[runtime.handlers.crun]\npath = '/no/crun'\nannotations = ['a', 'run.oci.*']",
        );
        let external = handlers.find("crun").unwrap().external.as_ref().unwrap();
        let names = ["a", "ab", "run.oci.handler", "run.ocix"];
        let pod = names.map(|name| (name.to_owned(), String::new())).into();
        let passed: Vec<_> = external.annotations(&pod).map(|(name, _)| name).collect();
        assert_eq!(passed, ["a", "run.oci.handler"]);
    }
}
