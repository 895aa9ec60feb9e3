//! The connection to the daemon.

use std::time::Duration;

use anyhow::Context;
use skiff_config::Endpoint;
use skiff_cri::v1::image_service_client::ImageServiceClient;
use skiff_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::Channel;

/// Longest time to wait for the daemon to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer to take: a list of many pods with all their labels.
const MAX_ANSWER: usize = 64 << 20;

/// Clients of the two services, over one connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
}

/// Connects to the daemon.
pub(crate) async fn connect(endpoint: &Endpoint) -> anyhow::Result<Client> {
    let channel = tonic::transport::Endpoint::from_shared(endpoint.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .connect()
        .await
        .with_context(|| format!("connect to skiffd at {endpoint}; does it run?"))?;
    Ok(Client {
        runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
        images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER),
    })
}

/// A refusal in the daemon's own words.
pub(crate) fn refusal(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{} ({:?})", status.message(), status.code())
}
