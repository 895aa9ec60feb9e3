//! Spare shims, started before a pod needs them.
//!
//! Taking one is a channel receive. A keeper task fills the pool again a little later, so that
//! the pod that has just taken a spare does not share its processor with the next spare's start.
//! A spare nobody takes dies with the daemon: its channel closes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
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
    wanted: mpsc::UnboundedSender<Request>,
}

type Request = oneshot::Sender<Result<Shim, ShimError>>;

impl Pool {
    /// Keeps `size` spares under `shims`. Needs a tokio runtime.
    pub fn new(spawner: Arc<dyn Spawn>, shims: PathBuf, size: usize) -> Self {
        let (wanted, requests) = mpsc::unbounded_channel();
        tokio::spawn(keep(Starter { spawner, shims }, size, requests));
        Self { wanted }
    }

    /// A shim to adopt: a spare, or without one a new one.
    pub async fn take(&self) -> Result<Shim, ShimError> {
        let stopped = || ShimError::Gone {
            shim: "spare".into(),
        };
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
            Err(ShimError::Newer {
                shim: shim.id.clone(),
                found: protocol,
                known: PROTOCOL,
            })
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
    let reason = if words.is_empty() {
        reason
    } else {
        format!("{reason}: {words}")
    };
    ShimError::NotReady {
        shim: shim.id.clone(),
        reason,
    }
}

async fn discard(mut shim: Shim, error: ShimError) -> ShimError {
    shim.process.kill();
    shim.process.ended().await;
    let _ = std::fs::remove_dir_all(&shim.run_dir);
    error
}

type Starting = Pin<Box<dyn Future<Output = Result<Shim, ShimError>> + Send>>;

/// The keeper's books.
struct Keeper {
    starter: Arc<Starter>,
    spares: Vec<Shim>,
    starting: FuturesUnordered<Starting>,
    /// Those who came when there was no spare.
    waiting: VecDeque<Request>,
    /// How long to rest before the next spare is started.
    rest: Duration,
}

/// Serves requests from spares and keeps their number up.
async fn keep(starter: Starter, size: usize, mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut keeper = Keeper {
        starter: Arc::new(starter),
        spares: Vec::with_capacity(size),
        starting: FuturesUnordered::new(),
        waiting: VecDeque::new(),
        rest: Duration::ZERO,
    };
    loop {
        let short = keeper.spares.len() + keeper.starting.len() < size + keeper.waiting.len();
        tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => keeper.serve(request),
                None => return,
            },
            Some(started) = keeper.starting.next() => keeper.started(started),
            () = tokio::time::sleep(keeper.rest), if short => keeper.start(),
        }
    }
}

impl Keeper {
    fn start(&mut self) {
        let starter = Arc::clone(&self.starter);
        self.starting
            .push(Box::pin(async move { starter.start().await }));
    }

    fn serve(&mut self, request: Request) {
        self.rest = REST;
        match living(&mut self.spares) {
            Some(shim) => self.hand_over(request, shim),
            None => {
                self.waiting.push_back(request);
                if self.starting.len() < self.waiting.len() {
                    self.start();
                }
            }
        }
    }

    fn started(&mut self, started: Result<Shim, ShimError>) {
        match (started, self.waiting.pop_front()) {
            (Ok(shim), Some(request)) => self.hand_over(request, shim),
            (Ok(shim), None) => {
                self.spares.push(shim);
                self.rest = Duration::ZERO;
            }
            (Err(error), Some(request)) => {
                self.rest = RETRY;
                let _ = request.send(Err(error));
            }
            (Err(error), None) => {
                tracing::error!(error = crate::telemetry::chain(&error), "no spare shim");
                self.rest = RETRY;
            }
        }
    }

    fn hand_over(&mut self, request: Request, shim: Shim) {
        // One who has gone meanwhile leaves it to the next.
        if let Err(Ok(shim)) = request.send(Ok(shim)) {
            self.spares.push(shim);
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
