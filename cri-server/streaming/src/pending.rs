//! Jobs that wait for whoever was given their URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::command::{Command, Streams};
use crate::forward::Ports;

/// How long a URL is good.
const LIFE: Duration = Duration::from_secs(60);
/// Most jobs that wait at the same time.
const MOST: usize = 1000;
/// Random bytes of a token.
const TOKEN: usize = 32;

/// What is to be done for whoever comes to a URL.
pub enum Job {
    /// A command is run, or a container attached to.
    Command {
        /// Streams that the caller asked for.
        streams: Streams,
        /// Bytes of output that may wait for a client that is slower than the command; then the
        /// command's pipe fills.
        burst: usize,
        /// What to do with them.
        command: Command,
    },
    /// Connections to ports of a pod are made.
    Forward {
        /// Who makes them.
        ports: Arc<dyn Ports>,
        /// Those that a client without a way to say them means.
        listed: Vec<u16>,
    },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command { .. } => "Command",
            Self::Forward { .. } => "Forward",
        })
    }
}

/// So many URLs were given out that nobody came to. The caller may try again later.
#[derive(Debug, thiserror::Error)]
#[error("{MOST} streaming requests wait for their client already; try again in a minute")]
pub struct TooMany;

/// The jobs by token. The lock is held for map operations only.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<String, (Instant, Job)>>);

impl Pending {
    /// Keeps a job and gives the token for it.
    pub(crate) fn put(&self, job: Job, now: Instant) -> Result<String, TooMany> {
        let mut jobs = self.lock();
        if jobs.len() >= MOST {
            jobs.retain(|_, (until, _)| *until > now);
        }
        if jobs.len() >= MOST {
            return Err(TooMany);
        }
        let token = token();
        jobs.insert(token.clone(), (now + LIFE, job));
        Ok(token)
    }

    /// Takes the job of a token, which is good for nothing afterwards.
    pub(crate) fn take(&self, token: &str, now: Instant) -> Option<Job> {
        let (until, job) = self.lock().remove(token)?;
        (until > now).then_some(job)
    }

    /// Forgets jobs that nobody has come for.
    pub(crate) fn expire(&self, now: Instant) {
        self.lock().retain(|_, (until, _)| *until > now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, Job)>> {
        // Every operation leaves the map whole, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often to call [`Pending::expire`].
pub(crate) const EXPIRE_EVERY: Duration = LIFE;

fn token() -> String {
    use base64::Engine;
    let mut bytes = [0; TOKEN];
    // The kernel's generator does not fail once the machine is up.
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Exit;

    fn job() -> Job {
        Job::Command {
            streams: Streams::default(),
            burst: 0,
            command: Box::new(|_| Box::pin(async { Exit::Ended })),
        }
    }

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (pending, now) = (Pending::default(), Instant::now());
        let token = pending.put(job(), now).unwrap();
        assert_eq!(token.len(), 43);
        assert!(pending.take("guess", now).is_none());
        assert!(pending.take(&token, now).is_some());
        assert!(pending.take(&token, now).is_none());
        let token = pending.put(job(), now).unwrap();
        assert!(pending.take(&token, now + LIFE).is_none());
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let (pending, now) = (Pending::default(), Instant::now());
        let mut tokens: Vec<_> = (0..MOST)
            .map(|_| pending.put(job(), now).unwrap())
            .collect();
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), MOST);
        assert!(pending.put(job(), now).is_err());
        assert!(pending.take(&tokens[0], now).is_some());
        pending.put(job(), now).unwrap();
        assert!(pending.put(job(), now + LIFE).is_ok());
        pending.expire(now + LIFE);
        assert_eq!(pending.lock().len(), 1);
    }
}
