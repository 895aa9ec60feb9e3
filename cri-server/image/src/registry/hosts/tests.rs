//! hosts.toml files as people write them, and as nobody should.

use super::*;
use proptest::prelude::*;

fn bases(text: &str, registry: &str) -> Vec<String> {
    let hosts = parse(Path::new("/c/x/hosts.toml"), text, registry).unwrap();
    hosts.into_iter().map(|host| host.base).collect()
}

#[test]
fn without_a_file_the_registry_is_asked() {
    for (registry, base) in [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("127.0.0.1:443", "https://127.0.0.1/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        (
            "localhost.example:5000",
            "https://localhost.example:5000/v2",
        ),
    ] {
        let hosts = parse(Path::new("/c/hosts.toml"), "", registry).unwrap();
        assert_eq!(hosts.len(), 1);
        assert_eq!(hosts[0].base, base);
        assert!(
            hosts[0].origin && hosts[0].pull && hosts[0].resolve,
            "{registry}"
        );
    }
}

#[test]
fn hosts_come_in_the_files_order_and_the_server_last() {
    let text = r#"
        server = "https://upstream.example"
        [host."https://z.example/prefix"]
        capabilities = ["pull"]
        [host."a.example:5000"]
        override_path = true
        [host."http://m.example/v2/cache"]
        override_path = true
        [host."http://v.example/v2"]
    "#;
    assert_eq!(
        bases(text, "quay.io"),
        [
            "https://z.example/prefix/v2",
            "https://a.example:5000",
            "http://m.example/v2/cache",
            "http://v.example/v2",
            "https://upstream.example/v2",
        ]
    );
    let hosts = parse(Path::new("/c/x/hosts.toml"), text, "quay.io").unwrap();
    assert!(!hosts[0].resolve && hosts[0].pull);
    assert!(hosts.iter().all(|host| !host.origin));
}

#[test]
fn every_setting_is_read() {
    let text = r#"
        [host."https://m.example"]
        ca = ["a.pem", "/abs/b.pem"]
        client = [["c.pem", "k.pem"]]
        skip_verify = true
        dial_timeout = "1500ms"
        [host."https://m.example".header]
        x-one = "1"
        x-two = ["2", "3"]
    "#;
    let hosts = parse(Path::new("/c/x/hosts.toml"), text, "quay.io").unwrap();
    let host = &hosts[0];
    assert_eq!(host.ca, [Path::new("/c/x/a.pem"), Path::new("/abs/b.pem")]);
    assert_eq!(
        host.client,
        [Path::new("/c/x/c.pem"), Path::new("/c/x/k.pem")]
    );
    assert!(host.skip_verify);
    assert_eq!(host.dial_timeout, Duration::from_millis(1500));
    assert_eq!(host.headers.len(), 3);
    assert_eq!((hosts.len(), hosts[1].name.as_str()), (2, "quay.io"));
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, expected) in [
        ("[host.\"https://m\"]\nskip_verfy = true", "line 2"),
        ("server = 1", "line 1"),
        ("server = \"ftp://x\"", "scheme \"ftp\""),
        (
            "[host.\"https://m\"]\ndial_timeout = \"soon\"",
            "dial_timeout \"soon\"",
        ),
        ("[host.\"https://u:p@m\"]", "scheme, host, port and path"),
        (
            "[host.\"https://m\"]\nclient = [\"a\", \"b\"]",
            "one certificate",
        ),
        ("[host.\"https://m\"]\ncapabilities = [\"fly\"]", "line 2"),
    ] {
        let e = parse(Path::new("/c/x/hosts.toml"), text, "quay.io")
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("/c/x/hosts.toml") && e.contains(expected),
            "{text}: {e}"
        );
    }
}

#[test]
fn looked_for_in_containerds_places() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, server: &str| {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        let text = format!("server = \"https://{server}\"");
        std::fs::write(dir.path().join(name).join("hosts.toml"), text).unwrap();
    };
    let server = |registry: &str| load(dir.path(), registry).unwrap().remove(0).name;
    assert_eq!(server("a.example:5000"), "a.example:5000");
    write("_default", "default");
    assert_eq!(server("a.example:5000"), "default");
    write("a.example:5000", "colon");
    assert_eq!(server("a.example:5000"), "colon");
    write("a.example_5000_", "underscore");
    assert_eq!(server("a.example:5000"), "underscore");
    assert_eq!(server("b.example"), "default");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(server|host|ca|=|\"|\\[|\\]|\\.|x|\n| ){0,30}") {
        let _ = parse(Path::new("/c/hosts.toml"), &text, "quay.io");
    }
}
