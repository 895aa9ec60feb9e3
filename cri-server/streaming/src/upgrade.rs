//! What a request is upgraded to.
//!
//! | client asks for | version of the protocol |
//! |---|---|
//! | `Upgrade: SPDY/3.1` | `X-Stream-Protocol-Version`; none means the first |
//! | `Upgrade: websocket` | `Sec-WebSocket-Protocol`; none means channels as they first were |
//!
//! Of what a client offers, its first that we speak is taken.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::websocket::{Channels, Framing};

const SPDY: &str = "SPDY/3.1";
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY within WebSocket messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Versions of the remote command protocol over SPDY, best first.
const COMMANDS: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

/// Version of the remote command protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Clients wait for our half of stdin to close.
    V1,
    /// That is mended.
    V2,
    /// Terminals can be resized.
    V3,
    /// The error stream has a `Status`.
    V4,
}

/// What a request for a command is upgraded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandUpgrade {
    Spdy(Version),
    WebSocket(Channels, Version),
}

/// What a request for port forwarding is upgraded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardUpgrade {
    Spdy,
    Tunnel,
    WebSocket(Channels),
}

/// Something chosen, and the headers that say so.
pub(crate) type Chosen<T> = (T, HeaderMap);

/// Why a request is not upgraded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            headers: Vec::new(),
        }
    }
}

/// Chooses for a command.
pub(crate) fn command(request: &HeaderMap) -> Result<Chosen<CommandUpgrade>, Refusal> {
    if asks_for(request, "websocket") {
        let binary = channels(Framing::Binary, false);
        let base64 = channels(Framing::Base64, false);
        let (chosen, headers) = websocket(
            request,
            &[
                (
                    "v5.channel.k8s.io",
                    (channels(Framing::Binary, true), Version::V4),
                ),
                ("v4.channel.k8s.io", (binary, Version::V4)),
                ("v4.base64.channel.k8s.io", (base64, Version::V4)),
                ("channel.k8s.io", (binary, Version::V3)),
                ("base64.channel.k8s.io", (base64, Version::V3)),
            ],
            (binary, Version::V3),
        )?;
        return Ok((CommandUpgrade::WebSocket(chosen.0, chosen.1), headers));
    }
    let (version, headers) = spdy(request, &COMMANDS, Version::V1)?;
    Ok((CommandUpgrade::Spdy(version), headers))
}

/// Chooses for port forwarding.
pub(crate) fn forward(request: &HeaderMap) -> Result<Chosen<ForwardUpgrade>, Refusal> {
    if asks_for(request, "websocket") {
        let of = |framing| ForwardUpgrade::WebSocket(channels(framing, false));
        return websocket(
            request,
            &[
                (TUNNEL, ForwardUpgrade::Tunnel),
                ("v4.channel.k8s.io", of(Framing::Binary)),
                ("v4.base64.channel.k8s.io", of(Framing::Base64)),
            ],
            of(Framing::Binary),
        );
    }
    let known = [(PORT_FORWARD, ForwardUpgrade::Spdy)];
    spdy(request, &known, ForwardUpgrade::Spdy)
}

fn channels(framing: Framing, half_close: bool) -> Channels {
    Channels {
        framing,
        half_close,
    }
}

fn spdy<T: Copy>(request: &HeaderMap, known: &[(&str, T)], none: T) -> Result<Chosen<T>, Refusal> {
    if !asks_for(request, SPDY) {
        let reason = format!("this URL is for an upgrade to {SPDY} or WebSocket");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
    }
    let mut headers = upgraded(HeaderValue::from_static(SPDY));
    let chosen = choose(request, &VERSION, known, none).map_err(|mut refusal| {
        for (name, _) in known {
            refusal.headers.push((ACCEPTED, value(name)));
        }
        refusal
    })?;
    headers.extend(chosen.0.map(|name| (VERSION, value(name))));
    Ok((chosen.1, headers))
}

fn websocket<T: Copy>(
    request: &HeaderMap,
    known: &[(&str, T)],
    none: T,
) -> Result<Chosen<T>, Refusal> {
    if words(request, &SEC_WEBSOCKET_VERSION).next() != Some("13") {
        let reason = "Sec-WebSocket-Version must be 13";
        let mut refusal = Refusal::new(StatusCode::UPGRADE_REQUIRED, reason);
        let version = HeaderValue::from_static("13");
        refusal.headers.push((SEC_WEBSOCKET_VERSION, version));
        return Err(refusal);
    }
    let key = request
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing"))?;
    let (name, chosen) = choose(request, &SEC_WEBSOCKET_PROTOCOL, known, none)?;
    let mut headers = upgraded(HeaderValue::from_static("websocket"));
    headers.insert(
        SEC_WEBSOCKET_ACCEPT,
        value(&derive_accept_key(key.as_bytes())),
    );
    headers.extend(name.map(|name| (SEC_WEBSOCKET_PROTOCOL, value(name))));
    Ok((chosen, headers))
}

/// The first protocol offered that is known; `none` for a client that offers none.
fn choose<'a, T: Copy>(
    request: &HeaderMap,
    header: &HeaderName,
    known: &[(&'a str, T)],
    none: T,
) -> Result<(Option<&'a str>, T), Refusal> {
    let mut offered = words(request, header).peekable();
    if offered.peek().is_none() {
        return Ok((None, none));
    }
    offered
        .find_map(|offer| known.iter().find(|(name, _)| *name == offer))
        .map(|(name, chosen)| (Some(*name), *chosen))
        .ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            let reason = format!("{header}: none is spoken here, but {}", names.join(", "));
            Refusal::new(StatusCode::FORBIDDEN, reason)
        })
}

fn asks_for(request: &HeaderMap, protocol: &str) -> bool {
    let has = |header, word: &str| words(request, header).any(|w| w.eq_ignore_ascii_case(word));
    has(&CONNECTION, "upgrade") && has(&UPGRADE, protocol)
}

/// The comma-separated words of all headers of a name.
fn words<'a>(request: &'a HeaderMap, header: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = request.get_all(header).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn upgraded(to: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, to),
    ])
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names of protocols and base64 are header values")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    fn spdy_request(versions: &[&str]) -> HeaderMap {
        let mut headers = vec![("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
        headers.extend(versions.iter().map(|v| ("X-Stream-Protocol-Version", *v)));
        request(&headers)
    }

    fn websocket_request(protocols: &[&str]) -> HeaderMap {
        let mut headers = vec![
            ("Connection", "keep-alive, upgrade"),
            ("Upgrade", "WebSocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.extend(protocols.iter().map(|p| ("Sec-WebSocket-Protocol", *p)));
        request(&headers)
    }

    #[test]
    fn the_clients_first_choice_that_is_spoken() {
        for (versions, expected, said) in [
            (
                &["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"][..],
                Version::V4,
                "v4.channel.k8s.io",
            ),
            (
                &["v2.channel.k8s.io, v3.channel.k8s.io"],
                Version::V2,
                "v2.channel.k8s.io",
            ),
            (&["channel.k8s.io"], Version::V1, "channel.k8s.io"),
        ] {
            let (chosen, headers) = command(&spdy_request(versions)).unwrap();
            assert_eq!(chosen, CommandUpgrade::Spdy(expected));
            assert_eq!(headers[&VERSION], said);
            assert_eq!(headers[UPGRADE], "SPDY/3.1");
        }
        let (chosen, headers) = command(&spdy_request(&[])).unwrap();
        assert_eq!(chosen, CommandUpgrade::Spdy(Version::V1));
        assert!(!headers.contains_key(&VERSION));
        let refusal = command(&spdy_request(&["v9.channel.k8s.io"])).unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert_eq!(refusal.headers.len(), 4);
        assert!(refusal.headers.iter().all(|(name, _)| name == ACCEPTED));
    }

    #[test]
    fn websocket_protocols() {
        let (chosen, headers) = command(&websocket_request(&[
            "v5.channel.k8s.io, v4.channel.k8s.io",
        ]))
        .unwrap();
        let CommandUpgrade::WebSocket(channels, Version::V4) = chosen else {
            panic!("{chosen:?}");
        };
        assert!(channels.half_close);
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        // The example of RFC 6455, section 1.3.
        assert_eq!(
            headers[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let (chosen, headers) = command(&websocket_request(&[])).unwrap();
        assert!(matches!(chosen, CommandUpgrade::WebSocket(c, Version::V3) if !c.half_close));
        assert!(!headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
        let tunnel = ["SPDY/3.1+portforward.k8s.io"];
        let (chosen, _) = forward(&websocket_request(&tunnel)).unwrap();
        assert_eq!(chosen, ForwardUpgrade::Tunnel);
        let refused = forward(&websocket_request(&["v5.channel.k8s.io"]));
        assert_eq!(refused.unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn requests_without_an_upgrade_are_refused() {
        for headers in [
            request(&[]),
            request(&[("Upgrade", "SPDY/3.1")]),
            request(&[("Connection", "Upgrade"), ("Upgrade", "h2c")]),
        ] {
            let status = command(&headers).unwrap_err().status;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(forward(&headers).unwrap_err().status, status);
        }
        let mut old = websocket_request(&[]);
        old.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert_eq!(
            command(&old).unwrap_err().status,
            StatusCode::UPGRADE_REQUIRED
        );
        let mut keyless = websocket_request(&[]);
        keyless.remove(SEC_WEBSOCKET_KEY);
        assert_eq!(
            command(&keyless).unwrap_err().status,
            StatusCode::BAD_REQUEST
        );
    }
}
