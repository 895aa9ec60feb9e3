use skiff_runtime::cgroup;
use skiff_shim_proto::message::{Reply, Update};

use crate::container::Input;
use crate::failure;
use crate::peers::Asker;
use crate::shim::{Now, Shim};

impl Shim {
    /// Changes a container's limits; on failure they are as before.
    pub(crate) fn update(&mut self, asker: Asker, update: &Update) -> Now {
        let key = self.find(&update.id)?;
        self.advance(key, Input::Update)?;
        let Some(container) = self.containers.get(&key) else {
            return Err(failure::no_container(&update.id));
        };
        let score =
            |score| cgroup::set_oom_score_adj(&container.cgroup, container.process.pid(), score);
        let put_back = match update.oom_score_adj.map(score).transpose() {
            Ok(old) => old,
            Err(e) => return Err(failure::of(&e)),
        };
        if self.is_outside(key) {
            self.update_outside(key, asker, &update.resources, put_back)?;
            return Ok(None);
        }
        if let Err(e) = cgroup::update(&container.cgroup, &update.resources) {
            // Back to where it was is always allowed.
            let _ = put_back.map(score);
            return Err(failure::of(&e));
        }
        Ok(Some(Reply::Done))
    }
}
