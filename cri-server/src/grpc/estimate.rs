//! The answer to a client's estimate of its connection.
//!
//! grpc-go, and with it a kubelet, sends a PING after an answer, to learn how much the connection carries
//! until that is answered, and opens its window accordingly. On a unix socket that is at once, so the next
//! answer brings the next PING: as many wakes of the daemon as there are calls. A client has one such PING
//! under way at a time. So its answer waits for some writes, and the client learns how much they carried.
//!
//! What is written comes from h2, each time whole frames or the rest of what could not be written before. An
//! answer that h2 writes together with other frames goes with them.

/// What it is: a PING frame that acknowledges (RFC 9113, section 6.7) what grpc-go has in its own
/// (`bdpPing`, internal/transport/bdp_estimator.go, the same since 2017). Other PINGs, such as those of
/// a keepalive, have other contents, and are answered at once.
const ANSWER: [u8; 17] = [0, 0, 8, 6, 1, 0, 0, 0, 0, 2, 4, 16, 16, 9, 14, 7, 7];
/// The type of a frame that goes on with the headers of the one before: nothing may come between them (RFC
/// 9113, section 6.10).
const CONTINUATION: u8 = 9;
/// How many writes go first.
const WRITES: u8 = 100;

/// The answer, as long as it is not sent.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    /// How many more writes go first, when one waits.
    waits: Option<u8>,
    /// What is left of one that is due.
    due: &'static [u8],
    /// Whether the last write ended within a frame.
    within: bool,
}

impl Estimate {
    /// Takes it from somebody who is about to write `bytes`, and says whether that was all of them.
    pub(super) fn takes(&mut self, bytes: &[u8]) -> bool {
        let takes = bytes == ANSWER && !self.within && self.waits.is_none() && self.due.is_empty();
        if takes {
            self.waits = Some(WRITES);
        }
        takes
    }

    /// What has to be written before `next` is.
    pub(super) fn due(&self, next: &[u8]) -> &'static [u8] {
        let begun = self.due.len() < ANSWER.len();
        let fits = !self.within && next.get(3) != Some(&CONTINUATION);
        if begun || fits { self.due } else { &[] }
    }

    /// So many bytes of what is due have been written.
    pub(super) fn sent(&mut self, count: usize) {
        self.due = &self.due[count..];
    }

    /// Something else has been written, frames as they are or not all of them.
    pub(super) fn written(&mut self, all: bool) {
        self.within = !all;
        match self.waits.map(|more| more.saturating_sub(1)) {
            Some(0) => (self.waits, self.due) = (None, &ANSWER),
            waits => self.waits = waits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a frame begins that anything may come before.
    const DATA: &[u8] = &[0, 0, 1, 0, 0];

    #[test]
    fn it_waits_for_so_many_writes_and_is_due_once() {
        let mut estimate = Estimate::default();
        assert!(estimate.takes(&ANSWER));
        for _ in 0..WRITES {
            assert!(estimate.due(DATA).is_empty());
            estimate.written(true);
        }
        assert_eq!(estimate.due(DATA), ANSWER);
        assert!(estimate.due(&[0, 0, 1, CONTINUATION, 0]).is_empty());
        estimate.written(false);
        assert!(estimate.due(DATA).is_empty(), "not within a frame");
        estimate.written(true);
        estimate.sent(3);
        assert_eq!(estimate.due(DATA), &ANSWER[3..]);
        estimate.sent(ANSWER.len() - 3);
        assert!(estimate.due(DATA).is_empty());
        estimate.written(true);
        assert!(estimate.due(DATA).is_empty());
        assert!(estimate.takes(&ANSWER));
    }

    #[test]
    fn a_second_one_is_not_lost() {
        let mut estimate = Estimate::default();
        assert!(estimate.takes(&ANSWER));
        assert!(!estimate.takes(&ANSWER));
    }

    #[test]
    fn nothing_else_is_taken() {
        let mut estimate = Estimate::default();
        let keepalive = [0, 0, 8, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let two = [ANSWER, ANSWER].concat();
        for bytes in [&keepalive[..], &two, &ANSWER[..16], &[]] {
            assert!(!estimate.takes(bytes));
        }
        // Part of a message may look like it.
        estimate.written(false);
        assert!(!estimate.takes(&ANSWER));
        estimate.written(true);
        assert!(estimate.takes(&ANSWER));
    }
}
