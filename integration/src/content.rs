//! A registry of fixed content: plain HTTP, one request a connection, with a password where wanted.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Context;

use crate::footprint::digest;
use crate::registry::reply;

/// What a registry serves.
#[derive(Debug, Default)]
pub struct Content {
    /// Media type and bytes by path.
    served: BTreeMap<String, (String, Arc<[u8]>)>,
    /// Value of `Authorization` by repository.
    passwords: BTreeMap<String, String>,
}

impl Content {
    /// Serves a blob; returns its digest.
    pub fn blob(&mut self, repository: &str, content: &[u8]) -> String {
        let digest = digest(content);
        self.known_blob(repository, &digest, &content.into());
        digest
    }

    /// Serves a blob whose digest is known.
    pub fn known_blob(&mut self, repository: &str, digest: &str, content: &Arc<[u8]>) {
        let served = ("application/octet-stream".into(), Arc::clone(content));
        self.served
            .insert(format!("/v2/{repository}/blobs/{digest}"), served);
    }

    /// Serves a manifest or index under a tag and its digest; returns that.
    pub fn manifest(&mut self, repository: &str, tag: &str, kind: &str, json: &str) -> String {
        let digest = digest(json.as_bytes());
        for name in [tag, &digest] {
            let served = (kind.to_owned(), json.as_bytes().into());
            self.served
                .insert(format!("/v2/{repository}/manifests/{name}"), served);
        }
        digest
    }

    /// Demands an `Authorization` for a repository.
    pub fn demand(&mut self, repository: &str, authorization: String) {
        self.passwords.insert(repository.into(), authorization);
    }

    /// Serves on `address` until the program ends.
    pub fn serve(self, address: &str) -> anyhow::Result<()> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
        let content = Arc::new(self);
        for stream in listener.incoming().flatten() {
            let content = Arc::clone(&content);
            // a client that goes away is no error of the registry's
            std::thread::spawn(move || content.answer(stream).ok());
        }
        Ok(())
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut authorization = None;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
            if name.eq_ignore_ascii_case("authorization") {
                authorization = Some(value.to_owned());
            }
        }
        let mut words = request.split(' ');
        let body = words.next() != Some("HEAD");
        let path = words.next().unwrap_or_default();
        let wanted = repository(path).and_then(|name| self.passwords.get(name));
        if wanted.is_some() && wanted != authorization.as_ref() {
            return reply(&mut stream, 401, "text/plain", b"", body);
        }
        match self.served.get(path) {
            Some((kind, content)) => reply(&mut stream, 200, kind, content, body),
            None => reply(&mut stream, 404, "text/plain", b"", body),
        }
    }
}

fn repository(path: &str) -> Option<&str> {
    let path = path.strip_prefix("/v2/")?;
    let (path, _) = path.rsplit_once('/')?;
    path.rsplit_once('/').map(|(name, _)| name)
}
