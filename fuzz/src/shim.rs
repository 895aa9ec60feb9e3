//! What daemon and shim say to each other and leave for each other.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use skiff_shim_proto::frame::{self, FrameError};
use skiff_shim_proto::message::{Message, Request};
use skiff_shim_proto::record::ExitRecord;

/// A packet as it may come over the socket, and the content of a message that travels beside
/// its packet.
pub fn shim_frame(data: &[u8]) {
    let (ours, theirs) = pair();
    let mut buffer = Vec::new();
    // A packet longer than the socket takes cannot be sent to us either.
    if rustix::net::send(&ours, data, SendFlags::NOSIGNAL).is_ok() {
        match frame::recv_packet(&theirs, &mut buffer) {
            Ok(packet) => {
                assert_eq!(
                    data.first(),
                    Some(&0),
                    "only a JSON packet needs no descriptor"
                );
                assert_eq!(*packet.json, data[1..]);
                assert!(packet.fds.is_empty() && !packet.fds_lost);
            }
            Err(FrameError::Closed) => assert!(data.is_empty()),
            Err(FrameError::Malformed(_)) => {
                let too_long = data.len() > 1 + frame::INLINE;
                assert!(too_long || data.first() != Some(&0));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let memfd = memfd(data);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [memfd.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    let flag = [std::io::IoSlice::new(&[1])];
    sendmsg(&ours, &flag, &mut control, SendFlags::NOSIGNAL).expect("send a packet");
    let packet = frame::recv_packet(&theirs, &mut buffer).expect("a whole packet");
    assert_eq!(*packet.json, *data);
    assert!(packet.fds.is_empty());
}

/// A request to a shim.
pub fn shim_request(data: &[u8]) {
    travels::<Request>(data);
}

/// A shim's answer or event.
pub fn shim_message(data: &[u8]) {
    travels::<Message>(data);
}

/// An exit record.
pub fn exit_record(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<ExitRecord>(data) else {
        return;
    };
    let written = serde_json::to_vec(&record).expect("a record can be written");
    let again: ExitRecord = serde_json::from_slice(&written).expect("and read");
    assert_eq!(again, record);
}

/// What is understood is the same after it was sent and received.
fn travels<M: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(message) = serde_json::from_slice::<M>(data) else {
        return;
    };
    let (ours, theirs) = pair();
    frame::send(&ours, &message, &[]).expect("a message can be sent");
    let (again, fds) = frame::recv::<M>(&theirs, &mut Vec::new()).expect("and received");
    assert!(fds.is_empty());
    assert_eq!(value(&again), value(&message));
}

fn value(message: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(message).expect("a message is JSON");
    sort_capabilities(&mut value);
    value
}

/// Capabilities are sets, written in any order.
fn sort_capabilities(value: &mut Value) {
    let Value::Object(fields) = value else {
        return;
    };
    for (name, field) in fields {
        if name == "capabilities" {
            for set in field
                .as_object_mut()
                .into_iter()
                .flat_map(|sets| sets.values_mut())
            {
                if let Value::Array(set) = set {
                    set.sort_by_key(Value::to_string);
                }
            }
        } else {
            sort_capabilities(field);
        }
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("make a socket pair")
}

fn memfd(content: &[u8]) -> OwnedFd {
    let fd = memfd_create("skiff-fuzz", MemfdFlags::CLOEXEC).expect("make a memfd");
    let mut file = std::fs::File::from(fd);
    file.write_all(content).expect("write a memfd");
    std::io::Seek::rewind(&mut file).expect("rewind a memfd");
    file.into()
}
