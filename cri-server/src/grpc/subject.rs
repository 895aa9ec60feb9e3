//! What a call is about, as its line in the log says it.

use skiff_cri::v1 as cri;

/// The ids and names in a request; `None` for what is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// Pod id.
    pub(super) pod: Option<String>,
    /// Container id.
    pub(super) container: Option<String>,
    /// Image reference.
    pub(super) image: Option<String>,
    /// Kubernetes' namespace of what is to be made.
    pub(super) namespace: Option<String>,
    /// Its name.
    pub(super) name: Option<String>,
    /// Kubernetes' uid of it.
    pub(super) uid: Option<String>,
    /// Which attempt it is.
    pub(super) attempt: Option<u32>,
}

impl Subject {
    /// Tells what there is, in the names of OpenTelemetry where it has some.
    pub(super) fn tell(&self, mut about: impl FnMut(&'static str, &str)) {
        for (key, value) in [
            ("skiff.pod.id", &self.pod),
            ("container.id", &self.container),
            ("container.image.name", &self.image),
            ("k8s.namespace.name", &self.namespace),
            ("skiff.name", &self.name),
            ("k8s.pod.uid", &self.uid),
        ] {
            if let Some(value) = value {
                about(key, value);
            }
        }
    }
}

/// Nothing in particular.
pub(super) fn nothing<T>(_: &T) -> Subject {
    Subject::default()
}

/// A pod, by its id.
pub(super) fn pod(id: &str) -> Subject {
    Subject {
        pod: Some(id.into()),
        ..Subject::default()
    }
}

/// A container, by its id.
pub(super) fn container(id: &str) -> Subject {
    Subject {
        container: Some(id.into()),
        ..Subject::default()
    }
}

/// An image, by its reference.
pub(super) fn image(spec: Option<&cri::ImageSpec>) -> Subject {
    Subject {
        image: spec.map(|spec| spec.image.clone()),
        ..Subject::default()
    }
}

/// A pod that is to be made.
pub(super) fn new_pod(request: &cri::RunPodSandboxRequest) -> Subject {
    let config = request.config.as_ref();
    let Some(metadata) = config.and_then(|config| config.metadata.clone()) else {
        return Subject::default();
    };
    Subject {
        namespace: Some(metadata.namespace),
        name: Some(metadata.name),
        uid: Some(metadata.uid),
        attempt: Some(metadata.attempt),
        ..Subject::default()
    }
}

/// A container that is to be made.
pub(super) fn new_container(request: &cri::CreateContainerRequest) -> Subject {
    let config = request.config.as_ref();
    let metadata = config.and_then(|config| config.metadata.clone());
    Subject {
        name: metadata.as_ref().map(|metadata| metadata.name.clone()),
        attempt: metadata.map(|metadata| metadata.attempt),
        ..pod(&request.pod_sandbox_id)
    }
}
