//! URLs and requests.

use skiff_streaming::{Exit, Server, ServerError, Settings, Timeouts};

use crate::client::{ALL, job, request, server};

const UPGRADE: [(&str, &str); 3] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
];

#[tokio::test]
async fn a_url_is_good_once() {
    let server = server();
    let url = server.url(job(ALL, |_| async { Exit::Ended })).unwrap();
    assert_eq!(request(&url, &UPGRADE).await.status, 101);
    assert_eq!(request(&url, &UPGRADE).await.status, 404);
    let (base, _) = url.rsplit_once('/').unwrap();
    assert_eq!(
        request(&format!("{base}/guess"), &UPGRADE).await.status,
        404
    );
    assert_eq!(request(&format!("{base}/"), &UPGRADE).await.status, 404);
}

#[tokio::test]
async fn a_request_that_is_refused_uses_its_url_up() {
    let server = server();
    let url = server.url(job(ALL, |_| async { Exit::Ended })).unwrap();
    assert_eq!(request(&url, &[]).await.status, 400);
    assert_eq!(request(&url, &UPGRADE).await.status, 404);
    let url = server.url(job(ALL, |_| async { Exit::Ended })).unwrap();
    let mut other = UPGRADE;
    other[2].1 = "v9.channel.k8s.io";
    let answer = request(&url, &other).await;
    assert_eq!(answer.status, 403);
    let accepted = "x-accepted-stream-protocol-versions: v4.channel.k8s.io";
    assert!(
        answer.head.to_lowercase().contains(accepted),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn without_tls_nobody_but_this_machine_is_served() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address = address.parse().unwrap();
        let started = Server::start(&Settings {
            address,
            tls: None,
            timeouts: Timeouts::default(),
        });
        assert!(
            matches!(started, Err(ServerError::Unprotected(_))),
            "{address}"
        );
    }
}
