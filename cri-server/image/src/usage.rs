//! Who uses what: the only reason an image or a layer that no name leads to stays on disk.
//!
//! Two kinds. A *hold* keeps an image for a container and lives in memory; after a restart the
//! containers' records say it again. A *lease* keeps layers for a pull that found them here.
//!
//! A hold or a lease is taken first and the thing looked up afterwards; the keeper takes a thing
//! out of sight first and looks for uses afterwards. So one of the two always notices the other,
//! though neither waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_reference::Digest;

/// All holds and leases. The lock is held for a map operation, never across I/O.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By holder (a container's id).
    holds: HashMap<String, Hold>,
    /// Number of pulls by chain id.
    leases: HashMap<Digest, usize>,
}

#[derive(Debug)]
struct Hold {
    image: Digest,
    /// Of a container that an earlier daemon made.
    earlier: bool,
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every operation leaves the maps whole, so a panic elsewhere spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `image` for `holder`, instead of what it held before.
    pub(crate) fn hold(&self, holder: &str, image: Digest) {
        self.insert(holder, image, false);
    }

    /// Keeps `image` for a container of an earlier daemon.
    pub(crate) fn restore(&self, holder: &str, image: Digest) {
        self.insert(holder, image, true);
    }

    fn insert(&self, holder: &str, image: Digest, earlier: bool) {
        let hold = Hold { image, earlier };
        self.lock().holds.insert(holder.to_owned(), hold);
    }

    /// Ends a hold, and those whose holders are named after it (`<holder>/...`); says whether there
    /// was one.
    pub(crate) fn release(&self, holder: &str) -> bool {
        let mut inner = self.lock();
        let before = inner.holds.len();
        inner.holds.retain(|name, _| {
            let rest = name.strip_prefix(holder);
            rest.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
        });
        inner.holds.len() < before
    }

    pub(crate) fn is_held(&self, image: Digest) -> bool {
        self.lock().holds.values().any(|held| held.image == image)
    }

    /// All images that are held.
    pub(crate) fn held(&self) -> BTreeSet<Digest> {
        self.lock().holds.values().map(|hold| hold.image).collect()
    }

    /// The images of containers of an earlier daemon.
    pub(crate) fn held_from_earlier(&self) -> BTreeSet<Digest> {
        let inner = self.lock();
        let earlier = inner.holds.values().filter(|hold| hold.earlier);
        earlier.map(|hold| hold.image).collect()
    }

    /// Keeps a layer until the lease is dropped.
    pub(crate) fn lease(self: &Arc<Self>, chain_id: Digest) -> Lease {
        *self.lock().leases.entry(chain_id).or_default() += 1;
        Lease {
            uses: self.clone(),
            chain_id,
        }
    }

    pub(crate) fn is_leased(&self, chain_id: Digest) -> bool {
        self.lock().leases.contains_key(&chain_id)
    }
}

/// A pull's use of a layer.
#[derive(Debug)]
pub(crate) struct Lease {
    uses: Arc<Uses>,
    chain_id: Digest,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut inner = self.uses.lock();
        if let Some(count) = inner.leases.get_mut(&self.chain_id) {
            *count -= 1;
            if *count == 0 {
                inner.leases.remove(&self.chain_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_as_long_as_its_last_copy() {
        let uses = Arc::new(Uses::default());
        let layer = Digest::of(b"layer");
        let (a, b) = (uses.lease(layer), uses.lease(layer));
        drop(a);
        assert!(uses.is_leased(layer));
        drop(b);
        assert!(!uses.is_leased(layer));
    }

    #[test]
    fn a_hold_ends_once() {
        let uses = Uses::default();
        let image = Digest::of(b"image");
        uses.hold("c1", image);
        uses.hold("c2", image);
        let volume = Digest::of(b"volume");
        uses.hold("c1/0", volume);
        uses.hold("c10", image);
        assert!(uses.release("c1"));
        assert!(!uses.release("c1"));
        assert!(!uses.is_held(volume));
        assert!(uses.release("c10"));
        assert!(uses.is_held(image));
        assert!(uses.release("c2"));
        assert!(!uses.is_held(image));
    }
}
