//! What a signature is over: "simple signing" JSON, which names a repository and a digest.

use serde::Deserialize;
use serde::de::IgnoredAny;
use skiff_reference::Digest;

/// What cosign writes as the payload's type.
const TYPE: &str = "cosign container image signature";

/// A signature's claims. They are the signer's only once the signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The name that was signed, as the signer wrote it.
    pub reference: String,
    /// The manifest or index that was signed.
    pub digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    critical: Critical,
    #[serde(default)]
    #[expect(dead_code, reason = "signers may write what they like there")]
    optional: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

impl Payload {
    /// Reads a payload. Members that are critical and not known make it unreadable, as their name
    /// asks for.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let Document { critical, .. } = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if critical.r#type != TYPE {
            return Err(format!(
                "its type is {:?}, expected {TYPE:?}",
                critical.r#type
            ));
        }
        Ok(Self {
            reference: critical.identity.docker_reference,
            digest: critical.image.docker_manifest_digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cosign_writes() {
        let digest = Digest::of(b"manifest");
        let good = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"quay.io/a/b"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{TYPE}"}},"optional":null}}"#
        );
        let payload = Payload::parse(good.as_bytes()).unwrap();
        assert_eq!(
            (payload.reference.as_str(), payload.digest),
            ("quay.io/a/b", digest)
        );
        let creator = good.replace("null", r#"{"creator":"x","timestamp":1}"#);
        assert_eq!(Payload::parse(creator.as_bytes()), Ok(payload));
        for (what, bad) in [
            (
                "another type",
                good.replace(TYPE, "atomic container signature"),
            ),
            ("not JSON", good.replace('}', "")),
            ("no identity", good.replace("identity", "identitat")),
            (
                "an unknown critical member",
                good.replace(r#""type""#, r#""x":1,"type""#),
            ),
            (
                "two digests",
                good.replace(
                    r#""image":{"#,
                    &format!(r#""image":{{"docker-manifest-digest":"{digest}","#),
                ),
            ),
            ("an unverifiable digest", good.replace("sha256:", "md5:")),
        ] {
            assert!(Payload::parse(bad.as_bytes()).is_err(), "{what}");
        }
    }
}
