//! What a list says of one pod or container, encoded once.

use std::sync::OnceLock;

use prost::Message;
use prost::bytes::Bytes;

/// An item of a list, encoded when it is first asked for. It belongs to what never changes, a
/// view of one moment; a copy has to encode its own, since whoever makes one may change it.
#[derive(Debug, Default)]
pub struct Listed(OnceLock<Bytes>);

impl Listed {
    /// The item's bytes.
    pub fn or_encode<M: Message>(&self, item: impl FnOnce() -> M) -> Bytes {
        let encode = || Bytes::from(item().encode_to_vec());
        self.0.get_or_init(encode).clone()
    }
}

impl Clone for Listed {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use skiff_cri::v1::Container;

    use super::*;

    fn item(id: &str) -> Container {
        Container {
            id: id.to_owned(),
            ..Container::default()
        }
    }

    #[test]
    fn it_is_encoded_once_and_by_each_copy_anew() {
        let listed = Listed::default();
        let bytes = listed.or_encode(|| item("one"));
        assert_eq!(Container::decode(bytes.clone()).unwrap(), item("one"));
        assert_eq!(listed.or_encode(|| item("two")), bytes);
        assert_ne!(listed.clone().or_encode(|| item("two")), bytes);
    }
}
