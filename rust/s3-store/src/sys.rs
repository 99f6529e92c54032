//! The system calls that neither the standard library nor tokio offers, most of them by rustix.
//! All `unsafe` code of the store is in this file.
#![expect(unsafe_code, reason = "a mapped file, a socket option that no library has, and a descriptor for tokio")]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use memmap2::{Mmap, MmapOptions};
use rustix::io::ReadWriteFlags;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::GetRandomFlags;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many cores this process may use; 1 when the system does not tell.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of every time stamp the store reports.
pub fn monotonic_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// CPU time of this process (user and system, all threads) in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    clock_ns(ClockId::ProcessCPUTime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads at `offset`, but only what the page cache holds; returns how many bytes that was.
///
/// # Errors
/// `WouldBlock` when the bytes would have to come from the disk.
pub fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)?)
}

/// The first `len` bytes of a file as memory. Nothing is read until somebody looks, and nobody has to: see `zero_copy`.
///
/// # Errors
/// When the process has too many mappings.
pub fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: the bytes stay as they are: objects are replaced, never written to.
    unsafe { MmapOptions::new().len(len).map(file) }
}

/// Sends bytes of a file without copying them through this process; returns how many.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing more, or what the kernel reports.
pub fn send_file(socket: BorrowedFd<'_>, file: &File, mut offset: u64, len: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), len)?)
}

/// Sends bytes of memory; returns how many. With `more` the kernel waits for what follows to fill a packet.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing more, or what the kernel reports.
pub fn send_slices(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    Ok(rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
}

/// Caps what the kernel sends on one socket, in bytes per second.
///
/// # Errors
/// Whatever `setsockopt` reports.
pub fn set_max_pacing_rate(socket: BorrowedFd<'_>, bytes_per_second: u64) -> io::Result<()> {
    // Kernels before 5.0 know the 32-bit form only; the 64-bit one is for rates above 4 GB/s.
    match u32::try_from(bytes_per_second) {
        Ok(rate) => set_socket_option(socket, libc::SO_MAX_PACING_RATE, &rate.to_ne_bytes()),
        Err(_) => set_socket_option(socket, libc::SO_MAX_PACING_RATE, &bytes_per_second.to_ne_bytes()),
    }
}

/// Lets the kernel end a connection whose other side has taken nothing of what it was sent for so long.
///
/// # Errors
/// Whatever `setsockopt` reports.
pub fn give_up_after(socket: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(i32::MAX as u32);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(socket, milliseconds)?)
}

fn set_socket_option(socket: BorrowedFd<'_>, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let (socket, len) = (socket.as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit on open files to what the system allows and returns it; `None` is no limit.
pub fn raise_open_files_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(Resource::Nofile, wanted).is_ok() { limit.maximum } else { limit.current }
}

/// Random bytes for a name.
///
/// # Errors
/// Never in practice: the kernel always has so few.
pub fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

/// A one-shot timer on `CLOCK_MONOTONIC` that wakes the runtime it was made in.
pub type Timer = AsyncFd<OwnedFd>;

/// Creates a timer in the current runtime.
///
/// # Errors
/// When the process is out of file descriptors.
pub fn timer() -> io::Result<Timer> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    // SAFETY: an `OwnedFd` names the same descriptor as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Lets `timer` expire at `deadline_ns` of the monotonic clock.
///
/// # Errors
/// Never for a timer made by [`timer`].
pub fn arm(timer: &OwnedFd, deadline_ns: u64) -> io::Result<()> {
    let deadline = Timespec::try_from(Duration::from_nanos(deadline_ns)).map_err(io::Error::other)?;
    let once = Itimerspec { it_interval: Timespec::default(), it_value: deadline };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &once)?;
    Ok(())
}

/// Takes the expiry of `timer`.
///
/// # Errors
/// `WouldBlock` while it has not expired.
pub fn take_expiry(timer: &OwnedFd) -> io::Result<()> {
    rustix::io::read(timer, &mut [0; size_of::<u64>()])?;
    Ok(())
}
