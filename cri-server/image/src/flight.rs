//! Work that several callers want at the same time and that is done once.
//!
//! A flight is a future shared by all who wait for it. It stops when the last of them is gone,
//! so cancelling one pull never harms another.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::task::JoinHandle;

/// What all who wait for a flight hold.
pub(crate) type Flight<T> = Shared<BoxFuture<'static, T>>;

/// Flights by what they fetch. The lock is held for map operations only.
pub(crate) struct Flights<K, T: Clone> {
    flights: Mutex<HashMap<K, WeakShared<BoxFuture<'static, T>>>>,
}

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self {
            flights: Mutex::default(),
        }
    }
}

impl<K, T: Clone> std::fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flights")
    }
}

impl<K: Hash + Eq, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The flight for `key` that is under way (`true`), or the one that `start` gives (`false`),
    /// which runs as a task of its own.
    pub(crate) fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> (Flight<T>, bool)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = |flight: &Flight<T>| flight.peek().is_none();
        if let Some(flight) = flights
            .get(&key)
            .and_then(WeakShared::upgrade)
            .filter(under_way)
        {
            return (flight, true);
        }
        flights.retain(|_, flight| flight.upgrade().is_some_and(|f| under_way(&f)));
        let flight = Task(tokio::spawn(start())).boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        (flight, false)
    }
}

/// A task that ends with its handle.
struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.0.poll_unpin(context).map(|outcome| match outcome {
            Ok(value) => value,
            Err(e) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only this handle aborts the task, and it does so when it is dropped.
                Err(e) => unreachable!("a task is aborted by its handle alone: {e}"),
            },
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::{Notify, oneshot};

    #[tokio::test]
    async fn flights_of_one_key_are_one() {
        let flights = Flights::default();
        let go = Arc::new(Notify::new());
        let wait = go.clone();
        let (first, joined) = flights.join("k", || async move {
            wait.notified().await;
            1
        });
        assert!(!joined);
        let (second, joined) = flights.join("k", || async { 2 });
        assert!(joined);
        let (other, joined) = flights.join("other", || async { 3 });
        assert!(!joined);
        go.notify_one();
        assert_eq!((first.await, second.await, other.await), (1, 1, 3));
        let (again, joined) = flights.join("k", || async { 4 });
        assert!(!joined, "a flight that has landed is not joined");
        assert_eq!(again.await, 4);
    }

    #[tokio::test]
    async fn a_flight_ends_with_its_last_passenger() {
        struct Landed(Option<oneshot::Sender<()>>);
        impl Drop for Landed {
            fn drop(&mut self) {
                let _ = self.0.take().map(|sender| sender.send(()));
            }
        }
        let flights = Flights::default();
        let (sender, ended) = oneshot::channel();
        let landed = Landed(Some(sender));
        let (first, _) = flights.join("k", || async move {
            let _landed = landed;
            std::future::pending::<()>().await;
        });
        let (second, joined) = flights.join("k", || async {});
        assert!(joined);
        drop(first);
        assert!(second.peek().is_none());
        drop(second);
        ended.await.unwrap();
    }
}
