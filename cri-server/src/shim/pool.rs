//! Spare shims, started before a pod needs them.
//!
//! Taking one is a channel receive. A keeper task fills the pool again a little later, so that
//! the pod that has just taken a spare does not share its processor with the next spare's start.
//! A spare nobody takes dies with the daemon: its channel closes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skiff_shim_proto::PROTOCOL;
use skiff_shim_proto::message::Event;
use tokio::sync::{mpsc, oneshot};

use super::spawn::{Spawn, start};
use super::{Shim, ShimError, ShimEvent, last_words};
use crate::id::Id;

/// How long the pool rests after a spare was taken before it starts another.
const REST: Duration = Duration::from_millis(60);
/// How long a shim may take to become ready.
const READY: Duration = Duration::from_secs(10);
/// How long the pool rests after a spare could not be started.
const RETRY: Duration = Duration::from_secs(5);

/// The pool. Clones share it.
#[derive(Clone)]
pub struct Pool {
    wanted: mpsc::UnboundedSender<oneshot::Sender<Result<Shim, ShimError>>>,
}

impl Pool {
    /// Keeps `size` spares under `shims`. Needs a tokio runtime.
    pub fn new(spawner: Arc<dyn Spawn>, shims: PathBuf, size: usize) -> Self {
        let (wanted, requests) = mpsc::unbounded_channel();
        tokio::spawn(keep(Starter { spawner, shims }, size, requests));
        Self { wanted }
    }

    /// A shim to adopt: a spare, or without one a new one.
    pub async fn take(&self) -> Result<Shim, ShimError> {
        let stopped = || ShimError::Gone { shim: "spare".into() };
        let (sender, shim) = oneshot::channel();
        self.wanted.send(sender).map_err(|_| stopped())?;
        shim.await.map_err(|_| stopped())?
    }
}

struct Starter {
    spawner: Arc<dyn Spawn>,
    shims: PathBuf,
}

impl Starter {
    async fn start(&self) -> Result<Shim, ShimError> {
        let id = Id::random().map_err(|e| ShimError::Spawn {
            shim: "spare".into(),
            source: std::io::Error::other(e),
        })?;
        let run_dir = self.shims.join(id.short());
        let mut shim = start(&*self.spawner, id.short(), &run_dir)?;
        match tokio::time::timeout(READY, ready(&mut shim)).await {
            Ok(Ok(())) => Ok(shim),
            Ok(Err(error)) => Err(discard(shim, error).await),
            Err(_) => {
                let error = not_ready(&shim, format!("no word after {} s", READY.as_secs()));
                Err(discard(shim, error).await)
            }
        }
    }
}

async fn ready(shim: &mut Shim) -> Result<(), ShimError> {
    match shim.events.recv().await {
        Some(ShimEvent::Event(Event::Ready { protocol, .. })) if protocol > PROTOCOL => {
            Err(ShimError::Newer { shim: shim.id.clone(), found: protocol, known: PROTOCOL })
        }
        Some(ShimEvent::Event(Event::Ready { .. })) => Ok(()),
        Some(ShimEvent::Closed) | None => Err(not_ready(shim, "it ended".into())),
        Some(ShimEvent::Event(event)) => {
            Err(not_ready(shim, format!("its first word was {event:?}")))
        }
    }
}

fn not_ready(shim: &Shim, reason: String) -> ShimError {
    let words = last_words(&shim.run_dir);
    let reason = if words.is_empty() { reason } else { format!("{reason}: {words}") };
    ShimError::NotReady { shim: shim.id.clone(), reason }
}

async fn discard(mut shim: Shim, error: ShimError) -> ShimError {
    shim.process.kill();
    shim.process.ended().await;
    let _ = std::fs::remove_dir_all(&shim.run_dir);
    error
}

/// Serves requests from spares and keeps their number up.
async fn keep(
    starter: Starter,
    size: usize,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Result<Shim, ShimError>>>,
) {
    let mut spares: Vec<Shim> = Vec::with_capacity(size);
    let mut rest = Duration::ZERO;
    loop {
        let refill = spares.len() < size;
        tokio::select! {
            biased;
            request = requests.recv() => {
                let Some(request) = request else { return };
                let shim = match living(&mut spares) {
                    Some(shim) => Ok(shim),
                    None => starter.start().await,
                };
                rest = REST;
                if let Err(Ok(unwanted)) = request.send(shim) {
                    spares.push(unwanted);
                }
            }
            () = tokio::time::sleep(rest), if refill => match starter.start().await {
                Ok(shim) => {
                    spares.push(shim);
                    rest = Duration::ZERO;
                }
                Err(error) => {
                    tracing::error!(error = crate::telemetry::chain(&error), "no spare shim");
                    rest = RETRY;
                }
            },
        }
    }
}

/// A spare whose connection still stands: it may have been killed while it waited.
fn living(spares: &mut Vec<Shim>) -> Option<Shim> {
    while let Some(mut shim) = spares.pop() {
        match shim.events.try_recv() {
            Err(mpsc::error::TryRecvError::Empty) => return Some(shim),
            _ => {
                tokio::spawn(async move {
                    let _ = std::fs::remove_dir_all(&shim.run_dir);
                    shim.process.kill();
                    shim.process.ended().await;
                });
            }
        }
    }
    None
}
