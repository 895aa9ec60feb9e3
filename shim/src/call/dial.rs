use skiff_shim_proto::message::{Failure, Reply};

use crate::dial::{Dial, Step};
use crate::failure;
use crate::peers::Asker;
use crate::poll::Key;
use crate::shim::{Now, Shim};

impl Shim {
    /// Connects to a port of the pod. Answered when the connection stands or cannot be made.
    pub(crate) fn dial(&mut self, asker: Asker, port: u16) -> Now {
        self.pod()?;
        let key = self.new_key();
        let dial = Dial::new(&self.poll, key, asker, port).map_err(|e| refused(port, e))?;
        self.dials.insert(key, dial);
        Ok(None)
    }

    /// A connection goes on.
    pub(crate) fn dial_ready(&mut self, key: Key) {
        let Some(dial) = self.dials.remove(&key) else {
            return;
        };
        let (asker, port) = (dial.asker, dial.port);
        match dial.go_on(&self.poll, key) {
            Ok(Step::Waits(dial)) => {
                self.dials.insert(key, dial);
            }
            Ok(Step::Stands(socket)) => {
                self.peers
                    .hand_over(&self.poll, asker, Reply::Dialed, socket);
            }
            Err(e) => {
                self.peers.answer(&self.poll, asker, Err(refused(port, e)));
            }
        }
    }
}

fn refused(port: u16, why: rustix::io::Errno) -> Failure {
    failure::system(format!("connect to port {port} of the pod"), &why)
}
