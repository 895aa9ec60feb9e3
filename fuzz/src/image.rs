//! What users and registries say about images.

use skiff_image::manifest::{self, Document};
use skiff_image::registry::challenge::{self, Challenge};
use skiff_image::registry::hosts;
use skiff_image::{Digest, Reference};

/// An image reference: its full form is a reference to the same image.
pub fn image_reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    let full = reference.to_string();
    assert_eq!(full.parse().as_ref(), Ok(&reference), "{text:?} is {full}");
    assert!(full.bytes().all(|byte| byte.is_ascii_graphic()), "{full:?}");
    assert!(
        reference.tag().is_some() || reference.digest().is_some(),
        "{full}"
    );
    let path = reference.repository();
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    assert!(path.split('/').all(plain), "{path}");
    assert!(!reference.registry().contains('/'), "{full}");
    if let Some(tagged) = reference.tagged() {
        assert_eq!(tagged, full);
    }
    let named = reference.with_digest(Digest::of(data));
    let named: Reference = named.parse().expect("a name with a digest is a reference");
    assert_eq!(named.name(), reference.name());
}

/// A manifest or an index.
pub fn image_manifest(data: &[u8]) {
    match manifest::parse_document(data) {
        Ok(Document::Manifest(image)) => {
            assert!(image.layers.len() <= manifest::MAX_LAYERS);
            assert!(image.config.size <= manifest::MAX_DOCUMENT);
        }
        Ok(Document::Index(images)) => match manifest::choose(&images) {
            Ok(chosen) => {
                let platform = chosen.platform.as_ref().expect("chosen by its platform");
                assert_eq!(platform.os, "linux");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An image's configuration, for a manifest with as many layers as it names and with one more.
pub fn image_config(data: &[u8]) {
    for layers in 0..4 {
        if let Ok(config) = manifest::parse_config(data, layers) {
            assert_eq!(config.rootfs.diff_ids.len(), layers);
            assert!(matches!(config.os.as_str(), "" | "linux"));
            let more = manifest::parse_config(data, layers + 1);
            assert!(more.is_err(), "layers are counted");
        }
    }
}

/// `WWW-Authenticate` headers, one a line: what is understood can be said again.
pub fn auth_challenge(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let chosen = challenge::choose(text.lines());
    let Some(Challenge::Bearer {
        realm,
        service,
        scope,
    }) = &chosen
    else {
        return;
    };
    assert!(!realm.is_empty());
    let mut header = format!("Bearer realm={}", quoted(realm));
    for (name, value) in [("service", service), ("scope", scope)] {
        if let Some(value) = value {
            header.push_str(&format!(",{name}={}", quoted(value)));
        }
    }
    assert_eq!(
        challenge::choose([header.as_str()].into_iter()),
        chosen,
        "{header}"
    );
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// Sections: a registry, its hosts.toml.
pub fn hosts_file(data: &[u8]) {
    let [registry, file] = crate::sections(data);
    let registry = String::from_utf8_lossy(registry);
    let Ok(reference) = format!("{registry}/image").parse::<Reference>() else {
        return;
    };
    let dir = crate::scratch();
    let default = dir.path().join("_default");
    std::fs::create_dir(&default).expect("make a directory");
    std::fs::write(default.join("hosts.toml"), file).expect("write hosts.toml");
    let hosts = match hosts::load(dir.path(), reference.registry()) {
        Ok(hosts) => hosts,
        Err(error) => {
            assert!(error.to_string().contains("hosts.toml"), "{error}");
            return;
        }
    };
    assert!(!hosts.is_empty(), "there is always the registry itself");
    for host in &hosts {
        let rest = host
            .base
            .strip_prefix("https://")
            .or(host.base.strip_prefix("http://"));
        let rest = rest.expect("a URL of HTTP");
        assert!(
            rest.starts_with(&host.name) && !host.name.is_empty(),
            "{host:?}"
        );
        assert!(
            !rest.ends_with('/') && !host.name.contains(['@', '/']),
            "{host:?}"
        );
        assert!(
            host.ca
                .iter()
                .chain(&host.client)
                .all(|path| path.is_absolute()),
            "{host:?}"
        );
    }
}
