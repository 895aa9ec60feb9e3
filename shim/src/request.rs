//! Reads requests, those of another version of the daemon included.

use serde_json::Value;
use skiff_shim_proto::message::{Failure, FailureKind, Request};

/// Calls this shim knows, as they are named in a message.
const KNOWN: [&str; 14] = [
    "adopt",
    "create",
    "start",
    "exec",
    "kill_exec",
    "kill",
    "delete",
    "update",
    "attach",
    "resize",
    "dial",
    "reopen_log",
    "state",
    "shutdown",
];

/// What came over a connection.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// To be carried out.
    Request(Request),
    /// To be answered with a failure at once.
    Refused {
        /// The request's number.
        seq: u64,
        /// Why.
        failure: Failure,
    },
}

/// Reads one message. An error means that whoever sent it does not speak our protocol.
pub(crate) fn parse(json: &[u8]) -> Result<Incoming, serde_json::Error> {
    let error = match serde_json::from_slice(json) {
        Ok(request) => return Ok(Incoming::Request(request)),
        Err(error) => error,
    };
    let message: Value = serde_json::from_slice(json)?;
    let Some(seq) = message.get("seq").and_then(Value::as_u64) else {
        return Err(error);
    };
    let Some(call) = message.get("call").and_then(name) else {
        return Err(error);
    };
    let failure = if KNOWN.contains(&call) {
        Failure {
            kind: FailureKind::InvalidArgument,
            message: format!("read call {call}: {error}"),
        }
    } else {
        Failure {
            kind: FailureKind::Unsupported,
            message: format!(
                "call {call} is not known to this shim, which speaks protocol {}",
                skiff_shim_proto::PROTOCOL
            ),
        }
    };
    Ok(Incoming::Refused { seq, failure })
}

/// A call is a word, or an object with one field named after it.
fn name(call: &Value) -> Option<&str> {
    match call {
        Value::String(name) => Some(name),
        Value::Object(fields) if fields.len() == 1 => fields.keys().next().map(String::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skiff_shim_proto::message::Call;

    fn refused(json: &str) -> Failure {
        match parse(json.as_bytes()).unwrap() {
            Incoming::Refused { seq: 7, failure } => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_of_a_newer_protocol_is_answered() {
        for json in [
            r#"{"seq":7,"call":"pause"}"#,
            r#"{"seq":7,"call":{"checkpoint":{"id":"c"}},"more":1}"#,
        ] {
            let failure = refused(json);
            assert_eq!(failure.kind, FailureKind::Unsupported, "{failure}");
        }
    }

    #[test]
    fn a_known_call_with_a_bad_field_is_the_senders_fault() {
        let failure = refused(r#"{"seq":7,"call":{"kill":{"id":"c","signal":"TERM","all":true}}}"#);
        assert_eq!(failure.kind, FailureKind::InvalidArgument);
        assert!(failure.message.starts_with("read call kill: "), "{failure}");
        assert!(failure.message.contains("TERM"), "{failure}");
    }

    #[test]
    fn what_has_no_number_is_no_message() {
        for json in [
            "",
            "{",
            "[]",
            "null",
            r#"{"call":"state"}"#,
            r#"{"seq":7,"call":3}"#,
        ] {
            assert!(parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let json = br#"{"seq":7,"call":{"start":{"id":"c","later":[1]}},"more":{}}"#;
        let Incoming::Request(request) = parse(json).unwrap() else {
            panic!()
        };
        assert!(matches!(request.call, Call::Start { id } if id == "c"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
