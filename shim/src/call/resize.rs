use rustix::termios::{Winsize, tcsetwinsize};
use skiff_shim_proto::message::{FailureKind, Reply, Resize, TerminalOf};

use crate::failure;
use crate::shim::{Now, Shim};

impl Shim {
    /// Changes the size of a terminal. A container or an exec without one has nothing to change.
    pub(crate) fn resize(&mut self, resize: &Resize) -> Now {
        let size = Winsize {
            ws_col: resize.columns,
            ws_row: resize.rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let resized = match &resize.of {
            TerminalOf::Container(id) => {
                let key = self.find(id)?;
                let container = self.containers.get(&key).filter(|c| c.terminal);
                let terminal = container.and_then(|c| c.output.stdout());
                terminal.map_or(Ok(()), |terminal| tcsetwinsize(terminal, size))
            }
            TerminalOf::Exec(id) => {
                let exec = self.execs.values_mut().find(|exec| exec.id == *id);
                let unknown =
                    || failure::new(FailureKind::NotFound, format!("no exec {id} in this pod"));
                exec.ok_or_else(unknown)?.resize(size)
            }
        };
        resized
            .map(|()| Some(Reply::Done))
            .map_err(|e| failure::system("resize a terminal", &e))
    }
}
