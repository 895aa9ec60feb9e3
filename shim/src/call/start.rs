use crate::container::Input;
use crate::peers::Asker;
use crate::shim::{Now, Shim};

impl Shim {
    /// Lets a created container execute its command. Answered when that has worked or failed.
    pub(crate) fn start(&mut self, asker: Asker, id: &str) -> Now {
        let key = self.find(id)?;
        self.advance(key, Input::Start)?;
        if let Some(container) = self.containers.get_mut(&key) {
            container.starter = Some(asker);
        }
        Ok(None)
    }
}
