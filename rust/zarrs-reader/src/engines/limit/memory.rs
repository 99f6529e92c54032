//! Where the network limit keeps what it fetches.

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::sys::ask_for_huge_pages;

const BLOCK_BYTES: usize = 64 << 20;

/// Newly allocated memory for the bodies of one read, in blocks: as large as a reader's final array, and like it in
/// 2 MiB pages where the kernel has them.
pub struct Memory {
    block_bytes: usize,
    free: Mutex<BytesMut>,
}

impl Memory {
    pub fn new(expected_bytes: usize) -> Self {
        Self { block_bytes: expected_bytes.min(BLOCK_BYTES), free: Mutex::default() }
    }

    /// An empty buffer with room for `bytes`.
    pub fn take(&self, bytes: usize) -> BytesMut {
        let mut free = self.free.lock();
        if free.capacity() < bytes {
            *free = BytesMut::with_capacity(bytes.max(self.block_bytes));
            ask_for_huge_pages(free.spare_capacity_mut());
        }
        let rest = free.split_off(bytes);
        std::mem::replace(&mut free, rest)
    }
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
}
