//! What a command writes, collected from its pipes.
//!
//! Most commands are a kubelet's probes: they write little or nothing and have ended in a moment. So
//! nobody is told of what is in the pipes at first, which spares a probe some fifteen system calls and two
//! wake-ups; those that run longer are followed.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::time::Duration;

use rustix::io::{ioctl_fionbio, ioctl_fionread};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;

/// Most bytes kept of each of the two streams; what follows is discarded.
const LIMIT: usize = 16 * 1024 * 1024;
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// How long nobody looks at the pipes. A command that fills one, 64 KiB, before, waits for it once.
const UNWATCHED: Duration = Duration::from_millis(10);

/// What a command left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// At most 16 MiB of its standard output.
    pub stdout: Vec<u8>,
    /// At most 16 MiB of its standard error.
    pub stderr: Vec<u8>,
    /// 0-255; 128 + signal for a signalled process; as a shell gives it for a command that cannot
    /// be executed.
    pub exit_code: i32,
}

/// The ends that are read.
pub(super) struct Pipes {
    stdout: Stream,
    stderr: Stream,
}

impl Pipes {
    /// The ends that are read, and those that the command writes to: output and errors.
    pub(super) fn open() -> io::Result<(Self, [OwnedFd; 2])> {
        let ((stdout, out), (stderr, err)) = (Stream::open()?, Stream::open()?);
        Ok((Self { stdout, stderr }, [out, err]))
    }

    /// Reads both streams until the command ends, and then what is left in the pipes: a descendant
    /// that still holds them open must not hold the call. Fails when the pipes cannot be watched.
    pub(super) async fn collect<E>(
        mut self,
        exit: impl Future<Output = Result<i32, E>>,
    ) -> io::Result<Result<Output, E>> {
        let mut exit = pin!(exit);
        let exit = match tokio::time::timeout(UNWATCHED, &mut exit).await {
            Ok(exit) => exit,
            Err(_) => self.follow(exit).await?,
        };
        Ok(exit.map(|exit_code| Output {
            stdout: self.stdout.rest(),
            stderr: self.stderr.rest(),
            exit_code,
        }))
    }

    /// Reads both streams until the command ends.
    async fn follow<T>(&mut self, mut exit: Pin<&mut impl Future<Output = T>>) -> io::Result<T> {
        let (stdout, stderr) = (self.stdout.watch()?, self.stderr.watch()?);
        loop {
            tokio::select! {
                exit = &mut exit => return Ok(exit),
                ready = stdout.readable(), if self.stdout.open => {
                    ready?;
                    self.stdout.read(&stdout);
                }
                ready = stderr.readable(), if self.stderr.open => {
                    ready?;
                    self.stderr.read(&stderr);
                }
            }
        }
    }
}

/// One stream of output.
struct Stream {
    pipe: OwnedFd,
    kept: Vec<u8>,
    open: bool,
}

impl Stream {
    /// A stream, and the end that the command writes to.
    fn open() -> io::Result<(Self, OwnedFd)> {
        let (pipe, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (kept, open) = (Vec::new(), true);
        Ok((Self { pipe, kept, open }, write))
    }

    /// What tells when there is something to read.
    fn watch(&self) -> io::Result<Receiver> {
        Receiver::from_owned_fd(self.pipe.try_clone()?)
    }

    /// All that is kept, with what is in the pipe now and no more: somebody may go on writing. Asks
    /// the pipe itself: who watches it may not have heard yet of what was written last.
    fn rest(mut self) -> Vec<u8> {
        let left = ioctl_fionread(&self.pipe).unwrap_or(0);
        let left = usize::try_from(left).unwrap_or(LIMIT);
        let mut len = self.kept.len();
        self.kept.resize(LIMIT.min(len.saturating_add(left)), 0);
        // Never waits: a process of the container can open its end for reading, and be faster.
        if left > 0 && ioctl_fionbio(&self.pipe, true).is_ok() {
            // One packet at a time, if the command asked for O_DIRECT.
            while len < self.kept.len() {
                match rustix::io::read(&self.pipe, &mut self.kept[len..]) {
                    Ok(read) if read > 0 => len += read,
                    Ok(_) | Err(_) => break,
                }
            }
        }
        self.kept.truncate(len);
        self.kept
    }

    /// Reads once and keeps what fits. Not async, so that its buffer is not part of anybody's future.
    fn read(&mut self, watched: &Receiver) {
        let mut chunk = [0; CHUNK];
        match watched.try_read(&mut chunk) {
            Ok(read) if read > 0 => {
                let room = LIMIT - self.kept.len();
                self.kept.extend_from_slice(&chunk[..read.min(room)]);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::OFlags;

    use super::*;

    fn pipes() -> (Pipes, File, File) {
        let (pipes, [out, err]) = Pipes::open().unwrap();
        (pipes, out.into(), err.into())
    }

    async fn collect(pipes: Pipes, exit: impl Future<Output = i32>) -> Output {
        let exit = async { Ok::<_, Infallible>(exit.await) };
        pipes.collect(exit).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_descendant_that_holds_the_pipe_does_not_hold_the_call() {
        let (pipes, mut out, _err) = pipes();
        out.write_all(b"hello").unwrap();
        let output = collect(pipes, std::future::ready(3)).await;
        assert_eq!(
            (output.stdout.as_slice(), output.exit_code),
            (&b"hello"[..], 3)
        );
    }

    #[tokio::test]
    async fn what_a_quick_command_left_in_a_full_pipe_is_collected() {
        let (pipes, mut out, mut err) = pipes();
        out.write_all(&[1; CHUNK]).unwrap();
        err.write_all(&[2; CHUNK - 1]).unwrap();
        let output = collect(pipes, std::future::ready(0)).await;
        assert_eq!(output.stdout, [1; CHUNK]);
        assert_eq!(output.stderr, [2; CHUNK - 1]);
    }

    #[tokio::test]
    async fn all_packets_of_a_command_that_writes_packets_are_collected() {
        let (pipes, mut out, _err) = pipes();
        rustix::fs::fcntl_setfl(&out, OFlags::DIRECT).unwrap();
        out.write_all(b"one ").unwrap();
        out.write_all(b"two").unwrap();
        let output = collect(pipes, std::future::ready(0)).await;
        assert_eq!(output.stdout, b"one two");
    }

    #[tokio::test]
    async fn a_command_that_takes_its_time_is_followed() {
        let (pipes, mut out, err) = pipes();
        drop(err);
        // One that is not followed is told so, instead of waiting.
        rustix::io::ioctl_fionbio(&out, true).unwrap();
        let exit = async {
            for _ in 0..10 {
                // A pipe has room for one of them.
                out.write_all(&[1; CHUNK]).unwrap();
                tokio::time::sleep(UNWATCHED * 2).await;
            }
            drop(out);
            tokio::time::sleep(UNWATCHED).await;
            7
        };
        let output = collect(pipes, exit).await;
        assert_eq!(output.stdout, [1; 10 * CHUNK]);
        assert_eq!((output.stderr, output.exit_code), (Vec::new(), 7));
    }

    #[tokio::test]
    async fn output_over_the_limit_is_discarded_and_does_not_block_the_writer() {
        let (pipes, mut out, _err) = pipes();
        let (done, exit) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            for _ in 0..(LIMIT / CHUNK + 3) {
                out.write_all(&[7; CHUNK]).unwrap();
            }
            done.send(0).unwrap();
        });
        let output = collect(pipes, async { exit.await.unwrap() }).await;
        assert_eq!(output.stdout.len(), LIMIT);
    }
}
