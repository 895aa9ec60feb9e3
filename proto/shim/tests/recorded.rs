//! What every protocol has said, as bytes that are never changed (`tests/protocol/<number>`): a
//! shim reads what older daemons ask, a daemon what older shims answer.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use skiff_shim_proto::PROTOCOL;
use skiff_shim_proto::message::{Call, Event, Message, Reply, Request};

fn recorded<T: DeserializeOwned>(protocol: u32, file: &str) -> Vec<T> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/protocol/{protocol}/{file}"));
    let text = fs::read_to_string(&path).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    text.lines().map(parse).collect()
}

#[test]
fn every_protocol_has_its_record_and_is_read() {
    for protocol in 1..=PROTOCOL {
        assert!(!recorded::<Request>(protocol, "requests.jsonl").is_empty());
        let messages = recorded::<Message>(protocol, "messages.jsonl");
        let ready = messages.iter().find_map(|message| match message {
            Message::Event(Event::Ready { protocol, .. }) => Some(*protocol),
            _ => None,
        });
        assert_eq!(ready, Some(protocol));
    }
}

#[test]
fn what_an_older_daemon_does_not_say_means_what_it_always_meant() {
    for request in recorded::<Request>(1, "requests.jsonl") {
        match request.call {
            Call::Adopt(adopt) => {
                assert!(adopt.user_namespace.is_none() && adopt.external.is_none());
            }
            Call::Create(create) => assert!(create.seccomp.is_none() && create.images.is_empty()),
            _ => {}
        }
    }
    for message in recorded::<Message>(1, "messages.jsonl") {
        if let Message::Reply {
            result: Ok(Reply::Started { took, .. }),
            ..
        } = message
        {
            assert_eq!(took, None);
        }
    }
}
