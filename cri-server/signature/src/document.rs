//! The text of a policy: containers-policy.json(5), read strictly.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::identity::SignedIdentity;
use crate::scope;

/// A policy file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// For what no scope is there.
    default: Requirements,
    #[serde(default)]
    transports: Transports,
}

/// By transport and scope. Images of a node come by the first; what is said of the others is read
/// and never used.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Transports {
    docker: Unique<Scope, Requirements>,
    #[serde(rename = "atomic")]
    _atomic: Others,
    #[serde(rename = "containers-storage")]
    _containers_storage: Others,
    #[serde(rename = "dir")]
    _dir: Others,
    #[serde(rename = "docker-archive")]
    _docker_archive: Others,
    #[serde(rename = "docker-daemon")]
    _docker_daemon: Others,
    #[serde(rename = "oci")]
    _oci: Others,
    #[serde(rename = "oci-archive")]
    _oci_archive: Others,
    #[serde(rename = "ostree")]
    _ostree: Others,
    #[serde(rename = "sif")]
    _sif: Others,
    #[serde(rename = "tarball")]
    _tarball: Others,
}

type Others = Unique<String, Requirements>;

impl Document {
    /// Requirements of images in registries by scope; the empty scope is all of them.
    pub(crate) fn registries(self) -> (Requirements, impl Iterator<Item = (String, Requirements)>) {
        let scopes = self.transports.docker.0.into_iter();
        (
            self.default,
            scopes.map(|(Scope(scope), requirements)| (scope, requirements)),
        )
    }
}

/// What an image needs, all of it; at least one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<Requirement>")]
pub(crate) struct Requirements(pub(crate) Vec<Requirement>);

impl TryFrom<Vec<Requirement>> for Requirements {
    type Error = &'static str;

    fn try_from(requirements: Vec<Requirement>) -> Result<Self, Self::Error> {
        if requirements.is_empty() {
            return Err("an empty list of requirements; write insecureAcceptAnything or reject");
        }
        Ok(Self(requirements))
    }
}

/// One requirement.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Requirement {
    /// None.
    InsecureAcceptAnything {},
    /// Never met.
    Reject {},
    /// A signature as cosign makes them.
    SigstoreSigned(Box<SigstoreSigned>),
    /// A GPG signature, which is refused.
    SignedBy(Unsupported),
}

/// A requirement that is known and not offered: reading one fails.
#[derive(Debug)]
pub(crate) enum Unsupported {}

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Err(de::Error::custom(
            "signedBy (GPG signatures) is not supported, sigstoreSigned is",
        ))
    }
}

/// Who must have signed, and what.
#[derive(Debug, Deserialize)]
#[serde(try_from = "SigstoreText")]
pub(crate) struct SigstoreSigned {
    pub(crate) signer: Signer,
    /// Keys of the transparency log; none: it is not asked for.
    pub(crate) rekor: Vec<Source>,
    pub(crate) identity: SignedIdentity,
}

/// Whose signatures count.
#[derive(Debug)]
pub(crate) enum Signer {
    /// Any of these keys'.
    Keys(Vec<Source>),
    /// That of the key in a certificate.
    Fulcio(Fulcio),
}

/// Whose certificates count, and whom for.
#[derive(Debug, Deserialize)]
#[serde(try_from = "FulcioText")]
pub(crate) struct Fulcio {
    pub(crate) roots: Source,
    pub(crate) oidc_issuer: String,
    pub(crate) subject_email: String,
}

/// Where a key or certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// In a file.
    File(PathBuf),
    /// In the policy.
    Data(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SigstoreText {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<Base64>,
    key_datas: Option<Vec<Base64>>,
    fulcio: Option<Fulcio>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    rekor_public_key_data: Option<Base64>,
    rekor_public_key_datas: Option<Vec<Base64>>,
    signed_identity: Option<SignedIdentity>,
}

impl TryFrom<SigstoreText> for SigstoreSigned {
    type Error = String;

    fn try_from(text: SigstoreText) -> Result<Self, String> {
        let keys = sources(text.key_path, text.key_paths, text.key_data, text.key_datas)
            .map_err(|e| format!("keyPath, keyPaths, keyData, keyDatas: {e}"))?;
        let rekor = sources(
            text.rekor_public_key_path,
            text.rekor_public_key_paths,
            text.rekor_public_key_data,
            text.rekor_public_key_datas,
        )
        .map_err(|e| format!("rekorPublicKeyPath, -Paths, -Data, -Datas: {e}"))?;
        let signer = match (keys, text.fulcio) {
            (Some(keys), None) => Signer::Keys(keys),
            (None, Some(_)) if rekor.is_none() => {
                return Err("fulcio needs a rekorPublicKeyPath, -Paths, -Data or -Datas: the log says when a certificate was used".into());
            }
            (None, Some(fulcio)) => Signer::Fulcio(fulcio),
            (Some(_), Some(_)) => return Err("a key and fulcio exclude each other".into()),
            (None, None) => {
                return Err("needs one of keyPath, keyPaths, keyData, keyDatas and fulcio".into());
            }
        };
        let identity = text.signed_identity.unwrap_or_default();
        identity
            .check()
            .map_err(|e| format!("signedIdentity: {e}"))?;
        Ok(Self {
            signer,
            rekor: rekor.unwrap_or_default(),
            identity,
        })
    }
}

/// The one way out of four in which keys are given; `None` when none is.
fn sources(
    path: Option<PathBuf>,
    paths: Option<Vec<PathBuf>>,
    data: Option<Base64>,
    datas: Option<Vec<Base64>>,
) -> Result<Option<Vec<Source>>, &'static str> {
    let given = [
        path.map(|path| vec![Source::File(path)]),
        paths.map(|paths| paths.into_iter().map(Source::File).collect()),
        data.map(|Base64(data)| vec![Source::Data(data)]),
        datas.map(|datas| {
            datas
                .into_iter()
                .map(|Base64(data)| Source::Data(data))
                .collect()
        }),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(_), Some(_)) => Err("more than one is given"),
        (Some(sources), None) if sources.is_empty() => Err("the list is empty"),
        (sources, _) => absolute(sources),
    }
}

/// Relative to what would depend on who reads the policy.
fn absolute(sources: Option<Vec<Source>>) -> Result<Option<Vec<Source>>, &'static str> {
    let relative = |source: &Source| matches!(source, Source::File(path) if !path.is_absolute());
    match sources.iter().flatten().any(relative) {
        true => Err("a path must be absolute"),
        false => Ok(sources),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FulcioText {
    #[serde(rename = "caPath")]
    ca_path: Option<PathBuf>,
    #[serde(rename = "caData")]
    ca_data: Option<Base64>,
    #[serde(rename = "oidcIssuer")]
    oidc_issuer: String,
    #[serde(rename = "subjectEmail")]
    subject_email: String,
}

impl TryFrom<FulcioText> for Fulcio {
    type Error = String;

    fn try_from(text: FulcioText) -> Result<Self, String> {
        let roots = sources(text.ca_path, None, text.ca_data, None);
        let roots = roots.map_err(|e| format!("fulcio: caPath, caData: {e}"))?;
        let [roots] = <[Source; 1]>::try_from(roots.unwrap_or_default())
            .map_err(|_| "fulcio: needs caPath or caData")?;
        for (name, value) in [
            ("oidcIssuer", &text.oidc_issuer),
            ("subjectEmail", &text.subject_email),
        ] {
            if value.is_empty() {
                return Err(format!("fulcio: {name} is empty"));
            }
        }
        Ok(Self {
            roots,
            oidc_issuer: text.oidc_issuer,
            subject_email: text.subject_email,
        })
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let data = BASE64_STANDARD.decode(text);
        data.map(Self)
            .map_err(|e| de::Error::custom(format!("not base64: {e}")))
    }
}

/// A scope of images in registries.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Scope(String);

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let scope = scope::normal(&text);
        scope.map(Self).map_err(|e| format!("scope {text:?}: {e}"))
    }
}

/// An object whose keys are all different. Of two that are the same, readers differ in which
/// counts.
#[derive(Debug)]
struct Unique<K, V>(BTreeMap<K, V>);

impl<K, V> Default for Unique<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Unique<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Keys<K, V> {
            type Value = Unique<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(key) = map.next_key::<K>()? {
                    match all.entry(key) {
                        Entry::Vacant(entry) => {
                            entry.insert(map.next_value()?);
                        }
                        Entry::Occupied(_) => {
                            return Err(de::Error::custom("the same key a second time"));
                        }
                    }
                }
                Ok(Unique(all))
            }
        }
        deserializer.deserialize_map(Keys(PhantomData))
    }
}
