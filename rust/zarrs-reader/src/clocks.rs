//! What an execution costs this process: CPU time and memory, as the kernel counts them.

use std::fs;
use std::time::Duration;

/// CPU time of this process, all threads.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

/// The machine's monotonic clock, which Python calls `time.monotonic_ns`.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> u64 {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::gettid() }.unsigned_abs().into()
}

/// Sets the peak of resident memory back to what is resident now; false where the kernel refuses.
pub fn reset_peak_rss() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Largest resident memory since the reset, in bytes.
pub fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Gives memory that another workload needed back: it is not this one's peak.
pub fn release_memory() {
    // SAFETY: always allowed; it only returns free pages.
    unsafe { libc::malloc_trim(0) };
}

/// Has the kernel end this process when its parent does; false when the expected parent is gone already.
pub fn die_with_parent(parent: Option<u32>) -> bool {
    // SAFETY: a request without pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    parent.is_none_or(|expected| expected == std::os::unix::process::parent_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's other account of the same time, in microseconds.
    fn cpu_time_by_rusage() -> Duration {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is a valid place for the answer, and zeros are a valid one.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        [usage.ru_utime, usage.ru_stime]
            .map(|time| Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec.unsigned_abs() as u32 * 1000))
            .iter()
            .sum()
    }

    /// Other tests of this process use CPU time too, so that no amount can be asserted, only that two accounts agree.
    #[test]
    fn cpu_time_is_what_the_process_used() {
        let begin = cpu_time();
        let mut sum = 0u64;
        while cpu_time() < begin + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        let rounding = Duration::from_micros(20);
        let before = cpu_time();
        let used = cpu_time_by_rusage();
        let after = cpu_time();
        assert!(before <= used + rounding && used <= after + rounding, "{before:?} {used:?} {after:?}");
    }

    #[test]
    fn the_peak_follows_what_is_allocated() {
        if !reset_peak_rss() {
            return;
        }
        let before = peak_rss().expect("Linux tells it");
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_rss().expect("Linux tells it") >= before + (60 << 20));
        drop(held);
    }
}
