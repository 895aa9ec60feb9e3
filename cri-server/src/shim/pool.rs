//! Spare shims, started before a pod needs them.
//!
//! Taking one is a channel receive. Spares for pods with a user namespace are another kind ([`Kind`]),
//! of which there are some once such a pod was asked for. A keeper task fills the pool again a little later, so that
//! the pod that has just taken a spare does not share its processor with the next spare's start.
//! A spare nobody takes dies with the daemon: its channel closes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use skiff_shim_proto::message::Event;
use tokio::sync::{mpsc, oneshot, watch};

use super::spawn::{Spawn, start};
use super::{Shim, ShimError, ShimEvent, last_words};
use crate::id::Id;

/// How long the pool rests after a spare was taken before it starts another.
const REST: Duration = Duration::from_millis(60);
/// How long a shim may take to become ready.
const READY: Duration = Duration::from_secs(10);
/// How long the pool rests after a spare could not be started.
const RETRY: Duration = Duration::from_secs(5);

/// What pods a spare is for: in what it makes ahead of time they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those in the host's user namespace.
    Plain,
    /// Those with one of their own.
    UserNamespace,
}

/// The pool. Clones share it.
#[derive(Clone)]
pub struct Pool {
    wanted: mpsc::UnboundedSender<Request>,
    size: Arc<watch::Sender<usize>>,
    spares: Arc<AtomicUsize>,
}

/// Somebody who waits for a shim.
struct Request {
    kind: Kind,
    answer: oneshot::Sender<Result<Shim, ShimError>>,
}

impl Pool {
    /// Keeps `size` spares under `shims`, and as many for pods with a user namespace from the
    /// first of those on. Needs a tokio runtime.
    pub fn new(spawner: Arc<dyn Spawn>, shims: PathBuf, size: usize) -> Self {
        let (wanted, requests) = mpsc::unbounded_channel();
        let (resize, resized) = watch::channel(size);
        let spares = Arc::default();
        let keeper = Keeper {
            starter: Arc::new(Starter { spawner, shims }),
            size,
            plain: Stock::new(Kind::Plain, size),
            user_namespace: Stock::new(Kind::UserNamespace, 0),
            count: Arc::clone(&spares),
            starting: FuturesUnordered::new(),
            rest: Duration::ZERO,
        };
        tokio::spawn(keep(keeper, requests, resized));
        Self {
            wanted,
            size: Arc::new(resize),
            spares,
        }
    }

    /// How many spares there are.
    pub fn spares(&self) -> usize {
        self.spares.load(Ordering::Relaxed)
    }

    /// Keeps another number of spares from now on.
    pub fn resize(&self, size: usize) {
        self.size.send_replace(size);
    }

    /// A shim for a pod of this kind to adopt: a spare, or without one a new one.
    pub async fn take(&self, kind: Kind) -> Result<Shim, ShimError> {
        let stopped = || ShimError::Gone {
            shim: "spare".into(),
        };
        let (answer, shim) = oneshot::channel();
        let request = Request { kind, answer };
        self.wanted.send(request).map_err(|_| stopped())?;
        shim.await.map_err(|_| stopped())?
    }
}

struct Starter {
    spawner: Arc<dyn Spawn>,
    shims: PathBuf,
}

impl Starter {
    async fn start(&self, kind: Kind) -> Result<Shim, ShimError> {
        let id = Id::random().map_err(|e| ShimError::Spawn {
            shim: "spare".into(),
            source: std::io::Error::other(e),
        })?;
        let run_dir = self.shims.join(id.short());
        let mut shim = start(&*self.spawner, id.short(), &run_dir, kind)?;
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
        Some(ShimEvent::Event(Event::Ready { protocol, .. })) => shim.client.speaks(protocol),
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

type Starting = Pin<Box<dyn Future<Output = (Kind, Result<Shim, ShimError>)> + Send>>;

/// What there is of one kind.
struct Stock {
    kind: Kind,
    /// How many spares there should be.
    size: usize,
    spares: Vec<Shim>,
    starting: usize,
    /// Those who came when there was no spare.
    waiting: VecDeque<Request>,
}

impl Stock {
    fn new(kind: Kind, size: usize) -> Self {
        Self {
            kind,
            size,
            spares: Vec::with_capacity(size),
            starting: 0,
            waiting: VecDeque::new(),
        }
    }

    fn is_short(&self) -> bool {
        self.spares.len() + self.starting < self.size + self.waiting.len()
    }

    fn hand_over(&mut self, request: Request, shim: Shim) {
        // One who has gone meanwhile leaves it to the next.
        if let Err(Ok(shim)) = request.answer.send(Ok(shim)) {
            self.spares.push(shim);
        }
    }
}

/// The keeper's books.
struct Keeper {
    starter: Arc<Starter>,
    /// Spares of a kind that was asked for.
    size: usize,
    plain: Stock,
    user_namespace: Stock,
    /// The number of all spares, for others.
    count: Arc<AtomicUsize>,
    starting: FuturesUnordered<Starting>,
    /// How long to rest before the next spare is started.
    rest: Duration,
}

/// Serves requests from spares and keeps their number up.
async fn keep(
    mut keeper: Keeper,
    mut requests: mpsc::UnboundedReceiver<Request>,
    mut size: watch::Receiver<usize>,
) {
    loop {
        keeper.count();
        let short = keeper.short();
        tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => keeper.serve(request),
                None => return,
            },
            Ok(()) = size.changed() => keeper.resize(*size.borrow_and_update()),
            Some((kind, started)) = keeper.starting.next() => keeper.started(kind, started),
            () = tokio::time::sleep(keeper.rest), if short.is_some() => {
                short.into_iter().for_each(|kind| keeper.start(kind));
            }
        }
    }
}

impl Keeper {
    /// Lets others know how many spares there are.
    fn count(&self) {
        let spares = self.plain.spares.len() + self.user_namespace.spares.len();
        self.count.store(spares, Ordering::Relaxed);
    }

    /// Another number of spares is to be kept; those that are too many end.
    fn resize(&mut self, size: usize) {
        self.size = size;
        for stock in [&mut self.plain, &mut self.user_namespace] {
            // Of a kind that nobody has asked for there are none.
            if stock.kind == Kind::Plain || stock.size > 0 {
                stock.size = size;
            }
            let kept = stock.spares.len().min(stock.size);
            stock.spares.drain(kept..).for_each(end);
        }
        self.rest = Duration::ZERO;
    }

    /// A kind of which there is too little.
    fn short(&self) -> Option<Kind> {
        let mut stocks = [&self.plain, &self.user_namespace].into_iter();
        stocks
            .find(|stock| stock.is_short())
            .map(|stock| stock.kind)
    }

    fn stock(&mut self, kind: Kind) -> &mut Stock {
        match kind {
            Kind::Plain => &mut self.plain,
            Kind::UserNamespace => &mut self.user_namespace,
        }
    }

    fn start(&mut self, kind: Kind) {
        self.stock(kind).starting += 1;
        let starter = Arc::clone(&self.starter);
        self.starting
            .push(Box::pin(async move { (kind, starter.start(kind).await) }));
    }

    fn serve(&mut self, request: Request) {
        self.rest = REST;
        let (kind, size) = (request.kind, self.size);
        let stock = self.stock(kind);
        stock.size = size;
        match living(&mut stock.spares) {
            Some(shim) => stock.hand_over(request, shim),
            None => {
                stock.waiting.push_back(request);
                if stock.starting < stock.waiting.len() {
                    self.start(kind);
                }
            }
        }
    }

    fn started(&mut self, kind: Kind, started: Result<Shim, ShimError>) {
        let stock = self.stock(kind);
        stock.starting -= 1;
        match (started, stock.waiting.pop_front()) {
            (Ok(shim), Some(request)) => stock.hand_over(request, shim),
            (Ok(shim), None) => {
                stock.spares.push(shim);
                self.rest = Duration::ZERO;
            }
            (Err(error), Some(request)) => {
                self.rest = RETRY;
                let _ = request.answer.send(Err(error));
            }
            (Err(error), None) => {
                tracing::error!(error = crate::telemetry::chain(&error), "no spare shim");
                self.rest = RETRY;
            }
        }
    }
}

/// A spare whose connection still stands: it may have been killed while it waited.
fn living(spares: &mut Vec<Shim>) -> Option<Shim> {
    while let Some(mut shim) = spares.pop() {
        match shim.events.try_recv() {
            Err(mpsc::error::TryRecvError::Empty) => return Some(shim),
            _ => end(shim),
        }
    }
    None
}

/// Makes an end to a spare.
fn end(mut shim: Shim) {
    tokio::spawn(async move {
        let _ = std::fs::remove_dir_all(&shim.run_dir);
        shim.process.kill();
        shim.process.ended().await;
    });
}
