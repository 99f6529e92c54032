//! The few system calls that neither the standard library nor tokio offers, behind safe functions.
//! All `unsafe` code of the store is in this file.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of every time stamp the store reports.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of this process (user and system, all threads) in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads up to `len` bytes at `offset` into the empty `buffer`, but only what the page cache holds.
///
/// # Errors
/// `WouldBlock` when the bytes would have to come from the disk.
pub fn read_cached(file: &File, buffer: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
    read_into(file, buffer, len, offset, libc::RWF_NOWAIT)
}

/// Reads up to `len` bytes at `offset` into the empty `buffer`, waiting for the disk if need be.
///
/// # Errors
/// Whatever the file system reports.
pub fn read_waiting(file: &File, buffer: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
    read_into(file, buffer, len, offset, 0)
}

fn read_into(file: &File, buffer: &mut Vec<u8>, len: usize, offset: u64, flags: libc::c_int) -> io::Result<usize> {
    buffer.clear();
    buffer.reserve(len);
    let target = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len };
    // SAFETY: `target` covers `len` bytes of reserved capacity that nothing else refers to.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &target, 1, offset as libc::off_t, flags) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has just initialised the first `read` bytes.
    unsafe { buffer.set_len(read) };
    Ok(read)
}

/// The bytes of a file as memory. Nothing is read until somebody looks, and nobody has to: see `zero_copy`.
pub struct Mapping {
    address: *mut libc::c_void,
    len: usize,
}

// SAFETY: the memory is only ever read, and stays until the mapping is dropped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Errors
    /// When the file is empty or the process has too many mappings.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        let (prot, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, len }) }
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the kernel has mapped `len` readable bytes here, and objects are replaced, never written to.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` has mapped, and every reference to it has ended.
        unsafe { libc::munmap(self.address, self.len) };
    }
}

/// Sends bytes of a file without copying them through this process; returns how many.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing more, or what the kernel reports.
pub fn send_file(socket: BorrowedFd<'_>, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    let mut offset = offset as libc::off_t;
    // SAFETY: both descriptors are open, and `offset` is a valid place for the new offset.
    let sent = unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &mut offset, len) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends bytes of memory; returns how many. With `more` the kernel waits for what follows to fill a packet.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing more, or what the kernel reports.
pub fn send_slices(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: all zeros is a valid message header without address and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is documented to be a `struct iovec`; sending only reads it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len();
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: the header names slices that outlive the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Caps what the kernel sends on one socket, in bytes per second.
///
/// # Errors
/// Whatever `setsockopt` reports.
pub fn set_max_pacing_rate(socket: BorrowedFd<'_>, bytes_per_second: u64) -> io::Result<()> {
    // Kernels before 5.0 know the 32-bit form only; the 64-bit one is for rates above 4 GB/s.
    match u32::try_from(bytes_per_second) {
        Ok(rate) => set_socket_option(socket, libc::SO_MAX_PACING_RATE, &rate),
        Err(_) => set_socket_option(socket, libc::SO_MAX_PACING_RATE, &bytes_per_second),
    }
}

fn set_socket_option<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, an integer that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit on open files to what the system allows and returns it.
pub fn raise_open_files_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 1024;
        }
        let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) == 0 { wanted.rlim_cur } else { limit.rlim_cur }
    }
}

/// Fills a small array with random bytes.
///
/// # Errors
/// Never in practice: `getrandom` does not fail for so few bytes.
pub fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the pointer and the length describe `bytes`.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// A one-shot timer on `CLOCK_MONOTONIC` that wakes the runtime it was made in.
pub type Timer = AsyncFd<OwnedFd>;

/// Creates a timer in the current runtime.
///
/// # Errors
/// When the process is out of file descriptors.
pub fn timer() -> io::Result<Timer> {
    // SAFETY: plain call; a non-negative result is a new descriptor that we own.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: see above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an `OwnedFd` names the same descriptor as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Lets `timer` expire at `deadline_ns` of the monotonic clock.
///
/// # Errors
/// Never for a timer made by [`timer`].
pub fn arm(timer: &OwnedFd, deadline_ns: u64) -> io::Result<()> {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let deadline = libc::timespec {
        tv_sec: (deadline_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (deadline_ns % 1_000_000_000) as libc::c_long,
    };
    let setting = libc::itimerspec { it_interval: never, it_value: deadline };
    // SAFETY: `setting` is valid for the call; the old setting is not asked for.
    let result =
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &setting, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the expiry of `timer`.
///
/// # Errors
/// `WouldBlock` while it has not expired.
pub fn take_expiry(timer: &OwnedFd) -> io::Result<()> {
    let mut expirations = 0_u64;
    // SAFETY: a timer reads as one u64, for which there is room.
    let read = unsafe { libc::read(timer.as_raw_fd(), std::ptr::from_mut(&mut expirations).cast(), 8) };
    if read == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
