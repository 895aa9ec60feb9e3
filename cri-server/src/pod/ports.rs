//! Connections to ports of a pod, made by its shim, which is in the pod's network namespace.

use std::os::fd::OwnedFd;
use std::pin::Pin;

use skiff_streaming::Ports;
use tokio::net::TcpStream;

use crate::shim::Client;
use crate::telemetry::chain;

/// The ports of one pod.
pub struct PodPorts(Client);

impl PodPorts {
    /// Those of the pod whose shim this is.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let socket: OwnedFd = self.0.dial(port).await.map_err(|e| chain(&e))?;
        TcpStream::from_std(socket.into()).map_err(|e| format!("take the connection: {e}"))
    }
}

impl Ports for PodPorts {
    fn dial(
        &self,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send + '_>> {
        Box::pin(self.connect(port))
    }
}
