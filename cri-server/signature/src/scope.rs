//! Scopes: what a policy's requirements are for, from one tag to all of a domain.
//!
//! For `a.example.com:5000/team/app:1` these are looked for, and the first that is there counts:
//!
//! ```text
//! a.example.com:5000/team/app:1      or ...@sha256:<hex>
//! a.example.com:5000/team/app
//! a.example.com:5000/team
//! a.example.com:5000
//! *.example.com
//! *.com
//! ```
//!
//! Host names have no case, so a scope's and an image's are compared in lower case. A port is part
//! of the name.

use skiff_reference::Reference;

/// The scopes of an image, the narrowest first.
pub(crate) fn scopes(image: &Reference) -> Vec<String> {
    let host = image.registry().to_ascii_lowercase();
    let repository = image.repository();
    let mut name = format!("{host}/{repository}");
    let mut scopes = Vec::new();
    scopes.extend(match (image.digest(), image.tag()) {
        (Some(digest), _) => Some(format!("{name}@{digest}")),
        (None, Some(tag)) => Some(format!("{name}:{tag}")),
        (None, None) => None,
    });
    while let Some((parent, _)) = name.rsplit_once('/') {
        let parent = parent.len();
        scopes.push(name.clone());
        name.truncate(parent);
    }
    scopes.push(name);
    let mut domain = host.split(':').next().unwrap_or_default();
    while let Some((_, parent)) = domain.split_once('.') {
        scopes.push(format!("*.{parent}"));
        domain = parent;
    }
    scopes
}

/// A policy's scope as it is compared. One that no image has is an error: what was meant to be
/// guarded would not be.
pub(crate) fn normal(scope: &str) -> Result<String, String> {
    if scope.is_empty() {
        return Ok(String::new());
    }
    let (host, rest) = match scope.find('/') {
        Some(slash) => scope.split_at(slash),
        None => (scope, ""),
    };
    let name = host.to_ascii_lowercase();
    if let Some(domain) = name.strip_prefix("*.") {
        return match rest.is_empty() && !domain.is_empty() && !domain.contains(['*', ':']) {
            true => Ok(name),
            false => Err("a wildcard stands for the beginning of a host name alone".into()),
        };
    }
    // An image that is in this scope, if any can be.
    let image = match rest {
        "" => format!("{host}/x"),
        rest => format!("{host}{rest}"),
    };
    let known = image
        .parse::<Reference>()
        .is_ok_and(|image| image.registry() == host);
    match known {
        true => Ok(format!("{name}{rest}")),
        false => Err(
            "no image has this scope; write registry, repository and tag in full, as in \
             docker.io/library/busybox"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_narrowest_first() {
        let digest = skiff_reference::Digest::of(b"x");
        for (image, expected) in [
            (
                "A.example.com:5000/team/app:1".to_owned(),
                vec![
                    "a.example.com:5000/team/app:1",
                    "a.example.com:5000/team/app",
                    "a.example.com:5000/team",
                    "a.example.com:5000",
                    "*.example.com",
                    "*.com",
                ],
            ),
            (
                "busybox".to_owned(),
                vec![
                    "docker.io/library/busybox:latest",
                    "docker.io/library/busybox",
                    "docker.io/library",
                    "docker.io",
                    "*.io",
                ],
            ),
            (
                format!("localhost/x:tag@{digest}"),
                vec![&format!("localhost/x@{digest}"), "localhost/x", "localhost"],
            ),
        ] {
            assert_eq!(scopes(&image.parse().unwrap()), expected);
        }
    }

    #[test]
    fn scopes_that_no_image_has_are_refused() {
        for good in [
            "",
            "quay.io",
            "Quay.io/a/b",
            "quay.io/a:v1",
            "*.example.com",
            "localhost:5000",
            "localhost:5000/a",
            "docker.io/library",
        ] {
            assert!(normal(good).is_ok(), "{good}");
        }
        for bad in [
            "busybox",
            "library/busybox",
            "https://quay.io",
            "*",
            "*.",
            "*.io/a",
            "a.*.io",
            "*.*.io",
            "*.io:5000",
            "quay.io/",
            "quay.io/A",
            "docker.io/busybox/",
        ] {
            assert!(normal(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Every scope of every image can be written in a policy.
        #[test]
        fn all_scopes_of_images_are_scopes(
            text in "[a-zA-Z0-9]{1,4}(\\.[a-zA-Z]{1,3}){1,2}(:[0-9]{1,4})?/[a-z]{1,4}(/[a-z]{1,4}){0,2}(:[a-z]{1,3})?"
        ) {
            if let Ok(image) = text.parse::<Reference>() {
                for scope in scopes(&image) {
                    prop_assert_eq!(normal(&scope), Ok(scope));
                }
            }
        }
    }
}
