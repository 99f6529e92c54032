//! What an execution costs this process: CPU time and memory, as the kernel counts them.

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::sys;

/// CPU time of this process, all threads.
pub fn cpu_time() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// The machine's monotonic clock, which Python calls `time.monotonic_ns`.
pub fn now_ns() -> u64 {
    duration(clock_gettime(ClockId::Monotonic)).as_nanos() as u64
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> u64 {
    rustix::thread::gettid().as_raw_pid().unsigned_abs().into()
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

/// A quarter of the machine's memory, in bytes: what a workload's arrays, or one answer, may take.
pub fn memory_share() -> u64 {
    let machine = rustix::system::sysinfo();
    machine.totalram * u64::from(machine.mem_unit) / 4
}

/// Gives memory that another workload needed back: it is not this one's peak.
pub fn release_memory() {
    sys::trim();
}

/// Has the kernel end this process when its parent does; false when the expected parent is gone already.
pub fn die_with_parent(parent: Option<u32>) -> bool {
    set_parent_process_death_signal(Some(Signal::KILL)).ok();
    parent.is_none_or(|expected| expected == std::os::unix::process::parent_id())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let used = sys::cpu_time_by_rusage();
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
