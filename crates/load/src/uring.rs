//! Reads that the system does while a thread goes on: io_uring.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

/// Reads that are queued. Dropped, it waits for all of them: they write to memory that is not its own.
pub(crate) struct Queue {
    ring: IoUring,
    in_flight: u32,
    most: u32,
}

/// A read that is done.
pub(crate) struct Completion {
    /// The number that it was queued with.
    pub token: u64,
    /// How many bytes were read.
    pub read: io::Result<u32>,
}

impl Queue {
    /// Room for `most` reads at a time.
    ///
    /// # Errors
    /// The system has no io_uring, or lets this process have none.
    pub fn new(most: u32) -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(most)?, in_flight: 0, most })
    }

    /// How many reads are not done.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Queues a read of `length` bytes of a file, from `offset` on.
    ///
    /// # Safety
    /// `length` bytes from `to` on are there and used by nobody until the completion with this token has come, or this value is gone. The
    /// file stays open as long.
    pub unsafe fn read(&mut self, file: &File, offset: u64, to: *mut u8, length: u32, token: u64) -> io::Result<()> {
        if self.in_flight >= self.most {
            return Err(io::Error::other("more reads than there is room for"));
        }
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), to, length).offset(offset).build().user_data(token);
        // SAFETY: as the caller promises.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        // Counted before anything can fail: once it is in the ring, the system may take it.
        self.in_flight += 1;
        submitted(|| self.ring.submit()).map(drop)
    }

    /// Waits for a read, of which there is one at least.
    pub fn wait(&mut self) -> io::Result<Completion> {
        loop {
            if let Some(entry) = self.ring.completion().next() {
                self.in_flight -= 1;
                let read = u32::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()));
                return Ok(Completion { token: entry.user_data(), read });
            }
            submitted(|| self.ring.submit_and_wait(1))?;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.wait().is_err() {
                // The system goes on to write to memory that is about to be someone else's.
                eprintln!("io_uring does not say when its reads are done");
                std::process::abort();
            }
        }
    }
}

/// Calls again what a signal has interrupted, and what the system has no memory or no room for just now: it has by and by, and until then
/// nothing that is queued can be taken back.
fn submitted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match retried(&mut call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::yield_now()
            }
            done => return done,
        }
    }
}

/// Calls again what a signal has interrupted.
pub(crate) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_system_has_no_room_for_is_asked_again() {
        let mut answers = [libc::EAGAIN, libc::EINTR, libc::EBUSY, 0, libc::EIO].into_iter();
        let mut call = || match answers.next().unwrap() {
            0 => Ok(1),
            error => Err(io::Error::from_raw_os_error(error)),
        };
        assert_eq!(submitted(&mut call).unwrap(), 1);
        assert_eq!(submitted(&mut call).unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn reads_come_back_with_their_tokens() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"weights and biases").unwrap();
        // Where the system has none, there is nothing to test.
        let Ok(mut queue) = Queue::new(4) else { return };
        let mut rooms = [[0_u8; 7], [0; 7], [0; 7]];
        for (token, (room, offset)) in rooms.iter_mut().zip([0, 11, 100]).enumerate() {
            // SAFETY: the rooms outlive the completions.
            unsafe { queue.read(&file, offset, room.as_mut_ptr(), 7, token as u64) }.unwrap();
        }
        let mut read = [0; 3];
        for _ in 0..3 {
            let Completion { token, read: length } = queue.wait().unwrap();
            read[token as usize] = length.unwrap();
        }
        assert_eq!(queue.in_flight(), 0);
        assert_eq!(read, [7, 7, 0]);
        assert_eq!((&rooms[0], &rooms[1]), (b"weights", b" biases"[..7].try_into().unwrap()));
        let file = File::open("/").unwrap();
        // SAFETY: as above.
        unsafe { queue.read(&file, 0, rooms[0].as_mut_ptr(), 7, 9) }.unwrap();
        assert!(queue.wait().unwrap().read.is_err());
    }

    #[test]
    fn a_queue_that_goes_waits_for_its_reads() {
        let Ok(mut queue) = Queue::new(2) else { return };
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = File::from(OwnedFd::from(reader));
        let mut rooms = [[0_u8; 3], [0; 3], [0; 3]];
        for (token, room) in (0..2).zip(&mut rooms) {
            // SAFETY: the rooms outlive the queue.
            unsafe { queue.read(&reader, 0, room.as_mut_ptr(), 3, token) }.unwrap();
        }
        // SAFETY: as above.
        assert!(unsafe { queue.read(&reader, 0, rooms[2].as_mut_ptr(), 3, 2) }.is_err(), "there is room for two");
        assert_eq!(queue.in_flight(), 2);
        thread::scope(|scope| {
            scope.spawn(move || {
                for bytes in [b"abc", b"def"] {
                    thread::sleep(Duration::from_millis(50));
                    writer.write_all(bytes).unwrap();
                }
            });
            drop(queue);
            rooms.sort_unstable();
            assert_eq!(rooms, [[0; 3], *b"abc", *b"def"]);
        });
    }
}
