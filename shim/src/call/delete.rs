use skiff_shim_proto::message::Reply;

use crate::container::Input;
use crate::peers::Asker;
use crate::shim::{Now, Shim};

impl Shim {
    /// Kills what runs and forgets the container. Answered when nothing is left of it.
    pub(crate) fn delete(&mut self, asker: Asker, id: &str) -> Now {
        let Ok(key) = self.find(id) else {
            return Ok(Some(Reply::Done));
        };
        if let Some(container) = self.containers.get_mut(&key) {
            container.removers.push(asker);
        }
        self.advance(key, Input::Delete)?;
        Ok(None)
    }
}
