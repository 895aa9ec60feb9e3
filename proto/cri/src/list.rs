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
    use crate::v1::{StreamContainersResponse, StreamPodSandboxesResponse};

    fn encoded<'a, M: Message + 'a>(items: &'a [M]) -> impl Iterator<Item = Bytes> + 'a {
        items.iter().map(|item| item.encode_to_vec().into())
    }

    /// The answers as streams of parts have the same fields, written by generated code.
    #[test]
    fn on_the_wire_they_are_messages_with_items() {
        let container = |id: &str| Container {
            id: id.to_owned(),
            created_at: 7,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Container::default()
        };
        let containers = vec![container("one"), Container::default(), container("two")];
        let list: ListContainersResponse = encoded(&containers).collect();
        assert_eq!(list.containers().unwrap(), containers);
        let plain = StreamContainersResponse { containers }.encode_to_vec();
        assert_eq!(list.encode_to_vec(), plain);
        assert_eq!(ListContainersResponse::decode(&*plain), Ok(list));

        let id = "one".to_owned();
        let pod_sandboxes = vec![
            PodSandbox {
                id,
                ..<_>::default()
            },
            PodSandbox::default(),
        ];
        let list: ListPodSandboxResponse = encoded(&pod_sandboxes).collect();
        assert_eq!(list.items().unwrap(), pod_sandboxes);
        let plain = StreamPodSandboxesResponse { pod_sandboxes }.encode_to_vec();
        assert_eq!(list.encode_to_vec(), plain);
        assert_eq!(ListPodSandboxResponse::decode(&*plain), Ok(list));
    }

    #[test]
    fn bytes_that_are_no_item_are_an_error() {
        let list: ListPodSandboxResponse = [Bytes::from_static(b"\xff")].into_iter().collect();
        assert!(list.items().is_err());
    }
}
