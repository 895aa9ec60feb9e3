//! The JSON documents of an image: index, manifest and configuration, in their OCI and Docker
//! (schema 2) forms, which differ in media types only.

use serde::Deserialize;
use skiff_reference::Digest;

use crate::image::ImageConfig;

/// The documents that we ask a registry for, most wanted first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// Longest manifest, index or configuration, in bytes.
pub const MAX_DOCUMENT: u64 = 8 << 20;
/// Most layers of an image; an overlay takes no more than 500.
pub const MAX_LAYERS: usize = 500;

/// A document that describes no image we can run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the right shape.
    #[error("{document}: {source}")]
    Json {
        /// Which document.
        document: &'static str,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A form of manifest, configuration or layer that we do not read.
    #[error("{what} of media type {media_type:?} is not supported")]
    Unsupported {
        /// What was met.
        what: &'static str,
        /// Its media type.
        media_type: String,
    },
    /// An index without an image for this machine.
    #[error("no image for {wanted}; there are: {found}")]
    Platform {
        /// Our operating system and architecture.
        wanted: String,
        /// Those of the index.
        found: String,
    },
    /// Parts that contradict each other or exceed what is reasonable.
    #[error("{0}")]
    Inconsistent(String),
}

/// A pointer to content.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is; may be empty.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Where the image runs, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// What an index says about one of its manifests.
#[derive(Debug, Clone, Deserialize)]
pub struct Platform {
    /// Operating system, in Go's words.
    #[serde(default)]
    pub os: String,
    /// Processor, in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// Kind of processor.
    #[serde(default)]
    pub variant: Option<String>,
}

/// An image's parts.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// Layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a registry answers to a request for a manifest.
#[derive(Debug)]
pub enum Document {
    /// One image for each of several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// An image's configuration.
#[derive(Debug, Deserialize)]
pub struct ConfigFile {
    /// Operating system, in Go's words; empty means any.
    #[serde(default)]
    pub os: String,
    /// Processor, in Go's words; empty means any.
    #[serde(default)]
    pub architecture: String,
    /// How its containers run.
    #[serde(default, deserialize_with = "crate::image::null_is_empty")]
    pub config: ImageConfig,
    /// Its layers.
    pub rootfs: RootFs,
}

/// The layers of a configuration.
#[derive(Debug, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed archives, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Reads a manifest or index. The members tell which it is; one that has those of both is
/// refused, for other clients may read it the other way.
pub fn parse_document(json: &[u8]) -> Result<Document, ManifestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Any {
        schema_version: u32,
        #[serde(default)]
        media_type: String,
        #[serde(default)]
        manifests: Option<Vec<Descriptor>>,
        #[serde(default)]
        config: Option<Descriptor>,
        #[serde(default)]
        layers: Option<Vec<Descriptor>>,
    }
    let any: Any = serde_json::from_slice(json).map_err(|source| ManifestError::Json {
        document: "manifest",
        source,
    })?;
    if any.schema_version != 2 {
        return Err(ManifestError::Unsupported {
            what: "manifest",
            media_type: format!("{} (schema version {})", any.media_type, any.schema_version),
        });
    }
    match (any.manifests, any.config, any.layers) {
        (Some(manifests), None, None) => Ok(Document::Index(manifests)),
        (None, Some(config), Some(layers)) => {
            let manifest = Manifest { config, layers };
            check(&manifest)?;
            Ok(Document::Manifest(manifest))
        }
        _ => Err(ManifestError::Inconsistent(
            "manifest: expected either manifests, or config and layers".into(),
        )),
    }
}

fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    let config = &manifest.config;
    let image = matches!(
        config.media_type.as_str(),
        "" | "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
            | "application/octet-stream"
    );
    if !image {
        let media_type = config.media_type.clone();
        return Err(ManifestError::Unsupported {
            what: "artifact: configuration",
            media_type,
        });
    }
    if config.size > MAX_DOCUMENT {
        return Err(ManifestError::Inconsistent(format!(
            "configuration of {} bytes, the limit is {MAX_DOCUMENT}",
            config.size
        )));
    }
    if manifest.layers.len() > MAX_LAYERS {
        return Err(ManifestError::Inconsistent(format!(
            "{} layers, the limit is {MAX_LAYERS}",
            manifest.layers.len()
        )));
    }
    for layer in &manifest.layers {
        let kind = layer.media_type.as_str();
        if !kind.contains("layer") && !kind.contains("rootfs.diff") && !kind.is_empty()
            || kind.ends_with("+encrypted")
        {
            return Err(ManifestError::Unsupported {
                what: "layer",
                media_type: kind.into(),
            });
        }
    }
    Ok(())
}

/// Reads a configuration and checks that it belongs to `manifest`.
pub fn parse_config(json: &[u8], layers: usize) -> Result<ConfigFile, ManifestError> {
    let file: ConfigFile = serde_json::from_slice(json).map_err(|source| ManifestError::Json {
        document: "image configuration",
        source,
    })?;
    if file.rootfs.diff_ids.len() != layers {
        return Err(ManifestError::Inconsistent(format!(
            "the manifest has {layers} layers, the configuration {}",
            file.rootfs.diff_ids.len()
        )));
    }
    let (os, architecture) = host();
    if !file.os.is_empty() && file.os != os
        || !file.architecture.is_empty() && normal(&file.architecture) != architecture
    {
        return Err(ManifestError::Platform {
            wanted: format!("{os}/{architecture}"),
            found: format!("{}/{}", file.os, file.architecture),
        });
    }
    Ok(file)
}

/// Chooses the manifest for this machine. Among several that fit, one without a variant is
/// preferred: a variant may ask for a newer processor.
pub fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, ManifestError> {
    let (os, architecture) = host();
    let variant = |d: &Descriptor| d.platform.as_ref().and_then(|p| p.variant.clone());
    let baseline = if architecture == "arm64" { "v8" } else { "v1" };
    let rank = |d: &Descriptor| match variant(d).as_deref() {
        None | Some("") => 0,
        Some(v) if v == baseline => 1,
        Some(_) => 2,
    };
    let fits = |d: &&Descriptor| {
        d.platform
            .as_ref()
            .is_some_and(|p| p.os == os && normal(&p.architecture) == architecture)
    };
    manifests
        .iter()
        .filter(fits)
        .min_by_key(|d| rank(d))
        .ok_or_else(|| {
            let names = manifests.iter().filter_map(|d| d.platform.as_ref());
            let names: Vec<_> = names
                .take(20)
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            ManifestError::Platform {
                wanted: format!("{os}/{architecture}"),
                found: if names.is_empty() {
                    "none with a platform".into()
                } else {
                    names.join(", ")
                },
            }
        })
}

/// Some builders write the kernel's names of architectures.
fn normal(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// This machine in the words of image documents, which are Go's.
fn host() -> (&'static str, &'static str) {
    ("linux", normal(std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(architecture: &str, variant: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(format!("{architecture}{variant:?}").as_bytes()),
            size: 1,
            platform: Some(Platform {
                os: "linux".into(),
                architecture: architecture.into(),
                variant: variant.map(Into::into),
            }),
        }
    }

    #[test]
    fn the_plainest_variant_of_our_platform() {
        let ours = host().1;
        let all = [
            entry("s390x", None),
            entry(ours, Some("v99")),
            entry(ours, None),
            Descriptor {
                platform: None,
                ..entry(ours, None)
            },
        ];
        assert_eq!(choose(&all).unwrap().digest, all[2].digest);
        assert_eq!(choose(&all[..2]).unwrap().digest, all[1].digest);
        let error = choose(&all[..1]).unwrap_err().to_string();
        assert!(error.contains("linux/s390x"), "{error}");
        assert!(
            choose(&[])
                .unwrap_err()
                .to_string()
                .contains("none with a platform")
        );
    }

    #[test]
    fn documents_that_are_no_images_are_refused() {
        let digest = Digest::of(b"x");
        let blob = |kind: &str, size: u64| {
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let image = "application/vnd.oci.image.config.v1+json";
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let manifest = |config: &str, layer: &str| {
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#)
        };
        assert!(parse_document(manifest(&blob(image, 1), &blob(layer, 1)).as_bytes()).is_ok());
        for bad in [
            "".to_owned(),
            "{}".into(),
            r#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#.into(),
            r#"{"schemaVersion":2}"#.into(),
            manifest(&blob(image, 1), &blob("application/vnd.cncf.helm.chart", 1)),
            manifest(&blob(image, 1), &blob(&format!("{layer}+encrypted"), 1)),
            manifest(
                &blob("application/vnd.cncf.helm.config.v1+json", 1),
                &blob(layer, 1),
            ),
            manifest(&blob(image, MAX_DOCUMENT + 1), &blob(layer, 1)),
            manifest(
                &blob(image, 1),
                &vec![blob(layer, 1); MAX_LAYERS + 1].join(","),
            ),
            manifest(&blob(image, 1), r#"{"digest":"md5:1","size":1}"#),
            manifest(&blob(image, 1), "").replace('{', r#"{"manifests":[],"#),
        ] {
            assert!(parse_document(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configuration_must_fit_its_manifest() {
        let of = |layers: usize, architecture: &str| {
            let json = format!(
                r#"{{"architecture":"{architecture}","os":"linux","config":null,"rootfs":{{"diff_ids":["{}"]}}}}"#,
                Digest::of(b"x")
            );
            parse_config(json.as_bytes(), layers)
        };
        assert!(of(1, std::env::consts::ARCH).is_ok());
        assert!(of(1, "").is_ok());
        assert!(matches!(of(2, ""), Err(ManifestError::Inconsistent(_))));
        assert!(matches!(
            of(1, "s390x"),
            Err(ManifestError::Platform { .. })
        ));
        assert!(matches!(
            parse_config(b"{}", 0),
            Err(ManifestError::Json { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[{}\\[\\]\":,a-z0-9]{0,60}") {
            let _ = parse_document(text.as_bytes());
            let _ = parse_config(text.as_bytes(), 1);
        }
    }
}
