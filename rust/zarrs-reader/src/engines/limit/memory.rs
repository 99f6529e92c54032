//! Where the network limit keeps what it fetches.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::sys::ask_for_huge_pages;

const BLOCK_BYTES: usize = 64 << 20;
/// A thread's part of a block: four pages of 2 MiB. Where a thread's would be less than one it has none.
const PART_BYTES: usize = 8 << 20;
const LEAST_PART_BYTES: usize = 2 << 20;
/// Asked for once: the answer comes from files, and a workload may have many reads.
static THREADS: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

/// Newly allocated memory for the bodies of one read, in blocks: as large as a reader's final array, and like it in
/// 2 MiB pages where the kernel has them.
///
/// Each thread takes from a part of its own. Threads that first touch a page at the same moment each clear one, and all
/// but one of these are thrown away: with bodies dealt out in turn some 60 % more pages were cleared by two threads.
pub struct Memory {
    block_bytes: usize,
    part_bytes: usize,
    block: Mutex<BytesMut>,
    parts: Vec<Part>,
}

/// Far enough from the next one for no two to share a line of the cache.
#[derive(Default)]
#[repr(align(128))]
struct Part(Mutex<BytesMut>);

impl Memory {
    pub fn new(expected_bytes: usize) -> Self {
        Self::of_threads(expected_bytes, *THREADS)
    }

    fn of_threads(expected_bytes: usize, threads: usize) -> Self {
        let block_bytes = expected_bytes.min(BLOCK_BYTES);
        let part_bytes = (block_bytes / threads).min(PART_BYTES);
        let parts = if part_bytes < LEAST_PART_BYTES { 0 } else { threads };
        let parts = (0..parts).map(|_| Part::default()).collect();
        Self { block_bytes, part_bytes, block: Mutex::default(), parts }
    }

    /// An empty buffer with room for `bytes`.
    pub fn take(&self, bytes: usize) -> BytesMut {
        self.take_for(thread_number(), bytes)
    }

    fn take_for(&self, thread: usize, bytes: usize) -> BytesMut {
        let own = self.parts.get(thread % self.parts.len().max(1));
        match own.filter(|_| bytes < self.part_bytes) {
            Some(Part(part)) => {
                let mut part = part.lock();
                if part.capacity() < bytes {
                    *part = self.of_block(self.part_bytes);
                }
                split(&mut part, bytes)
            }
            None => self.of_block(bytes),
        }
    }

    fn of_block(&self, bytes: usize) -> BytesMut {
        let mut block = self.block.lock();
        if block.capacity() < bytes {
            *block = BytesMut::with_capacity(bytes.max(self.block_bytes));
            ask_for_huge_pages(block.spare_capacity_mut());
        }
        split(&mut block, bytes)
    }
}

/// The first `bytes` of some memory.
fn split(memory: &mut BytesMut, bytes: usize) -> BytesMut {
    let rest = memory.split_off(bytes);
    std::mem::replace(memory, rest)
}

/// Threads in the order in which they first asked.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Relaxed));
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_get_disjoint_memory_of_one_block() {
        let memory = Memory::new(100);
        let bodies = [memory.take(60), memory.take(40), memory.take(200)];
        assert_eq!(bodies.each_ref().map(BytesMut::capacity), [60, 40, 200]);
        assert_eq!(bodies[0].as_ptr().wrapping_add(60), bodies[1].as_ptr());
    }

    #[test]
    fn each_thread_has_a_part_of_the_block() {
        let memory = Memory::of_threads(1 << 30, 2);
        let (first, large) = (memory.take_for(0, 60), memory.take_for(0, PART_BYTES));
        let (other, second) = (memory.take_for(3, 60), memory.take_for(2, 40));
        let after = |bytes: usize| first.as_ptr().wrapping_add(bytes);
        assert_eq!([second.as_ptr(), large.as_ptr()], [after(60), after(PART_BYTES)]);
        assert_eq!(other.as_ptr(), after(2 * PART_BYTES));
        assert_eq!([first, second, other, large].each_ref().map(BytesMut::capacity), [60, 40, 60, PART_BYTES]);
    }

    #[test]
    fn what_does_not_fit_into_a_part_comes_from_the_next() {
        let memory = Memory::of_threads(1 << 30, 1);
        let bodies = [memory.take(PART_BYTES - 1), memory.take(2)];
        assert_eq!(bodies.each_ref().map(BytesMut::capacity), [PART_BYTES - 1, 2]);
        assert_eq!(bodies[0].as_ptr().wrapping_add(PART_BYTES), bodies[1].as_ptr());
    }
}
