//! The `WWW-Authenticate` header: how a registry wants to be asked.

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token that another server gives out.
    Bearer {
        /// URL of that server.
        realm: String,
        /// Name of the registry there.
        service: Option<String>,
        /// What the token has to allow.
        scope: Option<String>,
    },
}

/// The challenge to answer among those of a response's headers: a bearer token if one is asked
/// for, since it reveals the password to fewer.
pub fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = all.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

/// Reads `scheme name=value, name="value", scheme ...`; schemes we do not know are left out.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut scheme = String::new();
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let word_end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            // A '=' without a name: skip it, lest we stand still.
            Some(after) => rest = after,
            None => {
                challenges.extend(challenge(&scheme, &parameters));
                scheme = word.to_ascii_lowercase();
                parameters.clear();
                rest = after;
                if word.is_empty() {
                    return challenges;
                }
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[i + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| {
        let found = parameters.iter().find(|(n, _)| n == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: get("realm")?,
            service: get("service"),
            scope: get("scope"),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn what_registries_send() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                Some(bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )),
            ),
            (r#"Basic realm="x y""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"BEARER Realm=https://r/t, scope="a \"b\"""#,
                Some(bearer("https://r/t", None, Some("a \"b\""))),
            ),
            (
                r#"Basic realm="a", Bearer realm="b""#,
                Some(bearer("b", None, None)),
            ),
            (r#"Negotiate, Basic realm="a""#, Some(Challenge::Basic)),
            (r#"Bearer service="no realm""#, None),
            ("", None),
            ("= = =", None),
        ] {
            assert_eq!(choose([header].into_iter()), expected, "{header}");
        }
        let two = [r#"Basic realm="a""#, r#"Bearer realm="b""#];
        assert_eq!(choose(two.into_iter()), Some(bearer("b", None, None)));
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in "[ -~]{0,60}") {
            choose([header.as_str()].into_iter());
        }
    }
}
