use skiff_shim_proto::PROTOCOL;
use skiff_shim_proto::message::{PodState, Reply};

use crate::container::Container;
use crate::shim::Shim;

impl Shim {
    /// Describes the pod and its containers, those excepted that are still being built.
    pub(crate) fn state(&self) -> Reply {
        let born = self
            .containers
            .values()
            .filter(|container| container.is_born());
        Reply::State(PodState {
            pod_id: self.pod().ok().map(|pod| pod.id.clone()),
            protocol: PROTOCOL,
            containers: born.map(Container::describe).collect(),
            broken: self.pod().ok().and_then(|pod| pod.broken.clone()),
        })
    }
}
