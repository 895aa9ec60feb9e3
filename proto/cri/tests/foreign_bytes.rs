//! Whatever bytes arrive, decoding a request ends with a message or an error, never with a panic,
//! and a message survives being encoded and decoded again.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use skiff_cri::v1::*;

/// Decodes `bytes` as `M`; what decodes must encode to something equal, of the promised length.
fn decode_and_return<M>(bytes: &[u8]) -> Result<(), TestCaseError>
where
    M: Message + Default + PartialEq + Debug,
{
    let Ok(message) = M::decode(bytes) else {
        return Ok(());
    };
    let encoded = message.encode_to_vec();
    prop_assert_eq!(encoded.len(), message.encoded_len());
    prop_assert_eq!(M::decode(&*encoded), Ok(message));
    Ok(())
}

/// Requests with the most fields and the deepest nesting.
fn decode_as_every_large_request(bytes: &[u8]) -> Result<(), TestCaseError> {
    decode_and_return::<RunPodSandboxRequest>(bytes)?;
    decode_and_return::<CreateContainerRequest>(bytes)?;
    decode_and_return::<UpdateContainerResourcesRequest>(bytes)?;
    decode_and_return::<RestorePodRequest>(bytes)?;
    decode_and_return::<PullImageRequest>(bytes)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

/// A request that reaches maps, bytes, nested messages, enums out of range and extreme numbers.
fn create_request() -> impl Strategy<Value = CreateContainerRequest> {
    let envs = vec((text(), vec(any::<u8>(), 0..12)), 0..4);
    let labels = proptest::collection::btree_map(text(), text(), 0..4);
    let numbers = (any::<i64>(), any::<i64>(), any::<i32>());
    (text(), envs, labels, vec(text(), 0..4), numbers).prop_map(
        |(id, envs, labels, command, (limit, user, signal))| {
            let security_context = LinuxContainerSecurityContext {
                run_as_user: Some(Int64Value { value: user }),
                supplemental_groups: vec![user, limit],
                ..Default::default()
            };
            let resources = LinuxContainerResources {
                memory_limit_in_bytes: limit,
                unified: labels.clone(),
                ..Default::default()
            };
            let linux = LinuxContainerConfig {
                resources: Some(resources),
                security_context: Some(security_context),
            };
            let config = ContainerConfig {
                command,
                envs: envs
                    .into_iter()
                    .map(|(key, value)| KeyValue { key, value })
                    .collect(),
                labels: labels.clone(),
                linux: Some(linux),
                stop_signal: signal,
                ..Default::default()
            };
            let sandbox_config = PodSandboxConfig {
                annotations: labels,
                ..Default::default()
            };
            CreateContainerRequest {
                pod_sandbox_id: id,
                config: Some(config),
                sandbox_config: Some(sandbox_config),
            }
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..512)) {
        decode_as_every_large_request(&bytes)?;
    }

    #[test]
    fn a_request_survives_the_wire(request in create_request()) {
        let bytes = request.encode_to_vec();
        prop_assert!(CreateContainerRequest::decode(&*bytes) == Ok(request));
    }

    /// Damaged requests get deeper into the decoder than random bytes do.
    #[test]
    fn a_damaged_request_decodes_or_is_refused(
        request in create_request(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = request.encode_to_vec();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        decode_as_every_large_request(&bytes)?;
        bytes.truncate(cut.index(bytes.len()));
        decode_as_every_large_request(&bytes)?;
    }
}

#[test]
fn a_length_beyond_the_end_is_refused() {
    // Field 2 (config), with a length of 2^63 - 1.
    let bytes = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(CreateContainerRequest::decode(&bytes[..]).is_err());
}

#[test]
fn fields_of_a_later_release_are_skipped() {
    let known = VersionRequest {
        version: "0.1.0".into(),
    };
    let mut bytes = known.encode_to_vec();
    // Field 4000, a string of three bytes.
    prost::encoding::string::encode(4000, &"new".to_owned(), &mut bytes);
    assert_eq!(VersionRequest::decode(&*bytes), Ok(known));
}

#[test]
fn a_variable_keeps_bytes_that_are_not_utf8() {
    let variable = KeyValue {
        key: "LATIN1".into(),
        value: vec![0xe9, 0xff],
    };
    assert_eq!(KeyValue::decode(&*variable.encode_to_vec()), Ok(variable));
}

#[test]
fn equal_messages_encode_to_equal_bytes() {
    let labels = |order: [&str; 3]| order.map(|key| (key.to_owned(), String::new())).into();
    let one = PodSandboxConfig {
        labels: labels(["a", "b", "c"]),
        ..Default::default()
    };
    let other = PodSandboxConfig {
        labels: labels(["c", "a", "b"]),
        ..Default::default()
    };
    assert_eq!(one.encode_to_vec(), other.encode_to_vec());
}
