use skiff_shim_proto::message::Reply;

use crate::container::Input;
use crate::failure;
use crate::shim::{Now, Shim};

impl Shim {
    /// Goes on in a new log file after a rotation; on failure in the old one.
    pub(crate) fn reopen_log(&mut self, id: &str) -> Now {
        let key = self.find(id)?;
        self.advance(key, Input::ReopenLog)?;
        let log = self.containers.get_mut(&key).and_then(|c| c.output.log());
        if let Some(log) = log {
            log.reopen()
                .map_err(|e| failure::system(format!("reopen log {}", log.path().display()), &e))?;
        }
        Ok(Some(Reply::Done))
    }
}
