//! Credentials, redirects and mirrors: who gets to know what.

use skiff_image::Auth;

use crate::fake::{Fake, Fault, archive};
use crate::node::{Node, layers, noise};

/// Demands a bearer token, which the registry's own token server gives for some credentials.
fn demand_token(fake: &Fake, give: impl Fn(&crate::fake::Request) -> bool + Send + 'static) {
    let challenge = format!(
        "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:a:pull\"\r\n",
        fake.address
    );
    fake.guard(move |request| {
        if request.path.starts_with("/token") {
            let answer = if give(request) {
                (200, r#"{"token":"opensesame"}"#)
            } else {
                (401, "no")
            };
            return Some(Fault::Status(answer.0, String::new(), answer.1.into()));
        }
        let ok = request.header("authorization") == Some("Bearer opensesame");
        (!ok).then(|| Fault::Status(401, challenge.clone(), String::new()))
    });
}

fn user(name: &str) -> Option<Auth> {
    Some(Auth {
        username: name.into(),
        password: "secret".into(),
        ..Auth::default()
    })
}

#[tokio::test]
async fn bearer_tokens_anonymous_and_with_credentials() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    demand_token(&fake, |_| true);
    node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    let tokens = fake.seen("/token");
    assert_eq!(tokens.len(), 1, "one token for the whole pull");
    assert!(
        tokens[0].path.contains("service=s")
            && tokens[0].path.contains("scope=repository%3Aa%3Apull")
    );
    assert_eq!(tokens[0].header("authorization"), None);

    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    // user:secret
    demand_token(&fake, |r| {
        r.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=")
    });
    let reference = format!("{}/a:v1", fake.address);
    let error = node.pull_as(&reference, user("other")).await.unwrap_err();
    assert!(
        error.is_denied() && !error.to_string().contains("secret"),
        "{error}"
    );
    let error = node.pull(&reference).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    node.pull_as(&reference, user("user")).await.unwrap();
}

#[tokio::test]
async fn identity_and_registry_tokens() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    demand_token(&fake, |r| {
        r.method == "POST"
            && r.body
                .contains("grant_type=refresh_token&refresh_token=id%2F1")
    });
    let identity = Auth {
        identity_token: "id/1".into(),
        ..Auth::default()
    };
    node.pull_as(&format!("{}/a:v1", fake.address), Some(identity))
        .await
        .unwrap();

    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    demand_token(&fake, |_| false);
    let token = Auth {
        registry_token: "opensesame".into(),
        ..Auth::default()
    };
    node.pull_as(&format!("{}/a:v1", fake.address), Some(token))
        .await
        .unwrap();
    assert!(fake.seen("/token").is_empty());
}

#[tokio::test]
async fn basic_authentication() {
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    fake.guard(|request| {
        let ok = request.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=");
        let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned();
        (!ok).then(|| Fault::Status(401, challenge, String::new()))
    });
    let reference = format!("{}/a:v1", fake.address);
    let error = node.pull(&reference).await.unwrap_err();
    assert!(
        error.is_denied() && error.to_string().contains("none were given"),
        "{error}"
    );
    assert!(
        node.pull_as(&reference, user("other"))
            .await
            .unwrap_err()
            .is_denied()
    );
    node.pull_as(&reference, user("user")).await.unwrap();
    let elsewhere = Auth {
        server_address: "other.example".into(),
        ..user("user").unwrap()
    };
    let fresh = Node::new();
    assert!(
        fresh
            .pull_as(&reference, Some(elsewhere))
            .await
            .unwrap_err()
            .is_denied()
    );
}

#[tokio::test]
async fn redirects_do_not_carry_what_is_ours() {
    let (fake, cdn, node) = (Fake::start().await, Fake::start().await, Node::new());
    let served = fake.put_image("a", "v1", &layers());
    for (digest, blob) in served.layers.iter().zip(&served.blobs) {
        cdn.put(
            &format!("/storage/{digest}"),
            "application/octet-stream",
            blob.clone(),
        );
        let to = format!("http://{}/storage/{digest}?signature=x", cdn.address);
        fake.fault(&digest.to_string(), 1, Fault::Redirect(to));
    }
    demand_token(&fake, |_| true);
    node.hosts(
        &format!("{}_", fake.address.replace(':', "_")),
        &format!(
            "server = \"http://{}\"\n[header]\nx-ours = \"1\"\n",
            fake.address
        ),
    );
    node.pull(&format!("{}/a:v1", fake.address)).await.unwrap();
    let there = cdn.seen("/storage/");
    assert_eq!(there.len(), 2);
    for request in there {
        assert_eq!(
            (request.header("authorization"), request.header("x-ours")),
            (None, None)
        );
    }
    assert!(
        fake.seen("/v2/")
            .iter()
            .all(|request| request.header("x-ours") == Some("1"))
    );
    let (fake, node) = (Fake::start().await, Node::new());
    fake.put_image("a", "v1", &layers());
    fake.fault(
        "/manifests/",
        99,
        Fault::Redirect("/v2/a/manifests/v1".into()),
    );
    let error = node
        .pull(&format!("{}/a:v1", fake.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 10 redirects"), "{error}");
}

/// CVE-2020-15157: storage that the registry sends us to names a token server of its own.
#[tokio::test]
async fn a_redirect_target_that_asks_for_credentials_gets_none() {
    let tokens = Auth {
        identity_token: "id/1".into(),
        ..Auth::default()
    };
    for challenge in ["Bearer", "Basic"] {
        for auth in [user("user").unwrap(), tokens.clone()] {
            let (fake, storage, node) = (Fake::start().await, Fake::start().await, Node::new());
            let served = fake.put_image("a", "v1", &layers());
            demand_token(&fake, |_| true);
            let to = format!("http://{}/storage/x", storage.address);
            let layer = served.layers[0].to_string();
            fake.fault(&layer, 99, Fault::Redirect(to));
            let asks = format!(
                "WWW-Authenticate: {challenge} realm=\"http://{}/token\"\r\n",
                storage.address
            );
            storage.guard(move |request| match request.path.as_str() {
                "/storage/x" => Some(Fault::Status(401, asks.clone(), String::new())),
                _ => Some(Fault::Status(200, String::new(), r#"{"token":"x"}"#.into())),
            });
            let reference = format!("{}/a:v1", fake.address);
            let error = node.pull_as(&reference, Some(auth)).await.unwrap_err();
            assert!(
                storage.seen("/token").is_empty(),
                "credentials were given away"
            );
            assert!(error.is_denied(), "{error}");
            let told = error.to_string();
            assert!(told.contains(&storage.address), "{told}");
            let asked = storage.seen("/storage/x");
            assert!(asked.iter().all(|r| r.header("authorization").is_none()));
        }
    }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_fallen_back_from() {
    let (mirror, origin, node) = (Fake::start().await, Fake::start().await, Node::new());
    mirror.put_image("a", "v1", &layers());
    origin.put_image("a", "v1", &layers());
    let served = origin.put_image("a", "v2", &[archive(&[("only", b"origin")])]);
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        origin.address, mirror.address
    );
    node.hosts("registry.example", &toml);
    let image = node
        .pull_as("registry.example/a:v1", user("user"))
        .await
        .unwrap();
    assert_eq!(image.repo_tags, ["registry.example/a:v1"]);
    assert!(origin.seen("").is_empty());
    let asked = mirror.seen("/v2/");
    assert!(
        asked
            .iter()
            .all(|request| request.path.ends_with("?ns=registry.example"))
    );
    let image = node.pull("registry.example/a:v2").await.unwrap();
    assert_eq!(image.id, served.id);
    // A mirror that breaks in the middle of a layer: the origin gives the rest.
    let big = origin.put_image("a", "v3", &[archive(&[("big", &noise(100_000))])]);
    mirror.put_image("a", "v3", &[archive(&[("big", &noise(100_000))])]);
    let layer = big.layers[0].to_string();
    mirror.fault(&layer, 1, Fault::Cut(1000));
    mirror.fault(&layer, 99, Fault::Status(500, String::new(), String::new()));
    node.pull("registry.example/a:v3").await.unwrap();
    assert_eq!(origin.seen(&layer)[0].header("range"), Some("bytes=1000-"));
}

#[tokio::test]
async fn a_mirror_gets_no_credentials_of_the_registry() {
    let (mirror, node) = (Fake::start().await, Node::new());
    mirror.put_image("a", "v1", &layers());
    mirror.guard(|request| {
        let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned();
        request
            .header("authorization")
            .is_none()
            .then(|| Fault::Status(401, challenge, String::new()))
    });
    let toml = format!("server = \"http://{}\"\n", mirror.address);
    node.hosts("registry.example", &toml);
    let error = node
        .pull_as("registry.example/a:v1", user("user"))
        .await
        .unwrap_err();
    assert!(error.is_denied(), "{error}");
    let named = Auth {
        server_address: mirror.address.clone(),
        ..user("user").unwrap()
    };
    node.pull_as("registry.example/a:v1", Some(named))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bad_hosts_file_fails_the_pull() {
    let node = Node::new();
    node.hosts("registry.example", "server = 7");
    let error = node
        .pull("registry.example/a")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("registry.example/hosts.toml") && error.contains("line 1"),
        "{error}"
    );
}
