//! The answers to ListContainers and ListPodSandbox, whose items are encoded once and sent often.
//!
//! A kubelet asks for all pods and containers several times a second, and they hardly ever change. In
//! protobuf a repeated message is written like repeated bytes, so these are the messages of `api.proto`.

use prost::bytes::Bytes;
use prost::{DecodeError, Message};

use crate::v1::{Container, PodSandbox};

/// The answer to ListContainers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListContainersResponse {
    /// A [`Container`] each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    encoded: Vec<Bytes>,
}

impl ListContainersResponse {
    /// The containers. Fails when one is not encoded as it should be.
    pub fn containers(&self) -> Result<Vec<Container>, DecodeError> {
        decode(&self.encoded)
    }
}

impl FromIterator<Bytes> for ListContainersResponse {
    /// Of containers that are encoded.
    fn from_iter<I: IntoIterator<Item = Bytes>>(containers: I) -> Self {
        let encoded = containers.into_iter().collect();
        Self { encoded }
    }
}

/// The answer to ListPodSandbox.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListPodSandboxResponse {
    /// A [`PodSandbox`] each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    encoded: Vec<Bytes>,
}

impl ListPodSandboxResponse {
    /// The pods. Fails when one is not encoded as it should be.
    pub fn items(&self) -> Result<Vec<PodSandbox>, DecodeError> {
        decode(&self.encoded)
    }
}

impl FromIterator<Bytes> for ListPodSandboxResponse {
    /// Of pods that are encoded.
    fn from_iter<I: IntoIterator<Item = Bytes>>(pods: I) -> Self {
        let encoded = pods.into_iter().collect();
        Self { encoded }
    }
}

fn decode<T: Message + Default>(encoded: &[Bytes]) -> Result<Vec<T>, DecodeError> {
    encoded.iter().cloned().map(T::decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `api.proto` has it.
    #[derive(Clone, PartialEq, Message)]
    struct Plain {
        #[prost(message, repeated, tag = "1")]
        containers: Vec<Container>,
    }

    #[test]
    fn on_the_wire_it_is_the_message_of_the_proto() {
        let container = |id: &str| Container {
            id: id.to_owned(),
            created_at: 7,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Container::default()
        };
        let containers = vec![container("one"), Container::default(), container("two")];
        let encoded = containers.iter().map(|one| one.encode_to_vec().into());
        let list: ListContainersResponse = encoded.collect();
        assert_eq!(list.containers().unwrap(), containers);
        let plain = Plain { containers };
        assert_eq!(list.encode_to_vec(), plain.encode_to_vec());
        let received = ListContainersResponse::decode(&*plain.encode_to_vec()).unwrap();
        assert_eq!(received.containers().unwrap(), plain.containers);
    }

    #[test]
    fn an_item_that_is_none_is_an_error() {
        let list: ListPodSandboxResponse = [Bytes::from_static(b"\xff")].into_iter().collect();
        assert!(list.items().is_err());
    }
}
