//! Memory that several threads fill at once, and what the kernel and the allocator are told about memory.
//! All `unsafe` code of the reader is in this file.
#![expect(unsafe_code, reason = "threads write disjoint parts of one array; no library has malloc_trim")]

use std::mem::{ManuallyDrop, MaybeUninit};

use bytes::Bytes;
use rustix::mm::{Advice, madvise};
use unsafe_cell_slice::UnsafeCellSlice;
use zarrs::array::{ArrayBytesFixedDisjointView, ArraySubset};
use zarrs_codec::ArrayBytesFixedDisjointViewCreateError as ViewError;

const PAGE_BYTES: usize = 4096;
const HUGE_FROM_BYTES: usize = 4 << 20;

/// Newly allocated memory of which threads may write disjoint parts at once: `Output`, its only user, writes the pieces of
/// a selection, which never overlap. Nobody reads before [`Self::into_bytes`] owns it alone.
///
/// `T` is a byte: `MaybeUninit<u8>` is not touched before it is written, `u8` is zero until then, as whoever makes
/// references to it must be able to rely on. Everything goes through `cells`, which are made once: a reference to all of
/// the memory would be exclusive, and end those that other threads hold.
pub struct Shared<T: 'static> {
    memory: *mut [T],
    /// The same bytes, for as long as `memory` is not freed: nothing of them leaves this type for longer.
    cells: UnsafeCellSlice<'static, T>,
}

// SAFETY: it owns its memory, as a box does.
unsafe impl<T: Send + 'static> Send for Shared<T> {}
// SAFETY: by the rule above no byte is written by two threads, or read while one writes.
unsafe impl<T: Send + Sync + 'static> Sync for Shared<T> {}

impl Shared<MaybeUninit<u8>> {
    pub fn new(bytes: usize) -> Self {
        let mut memory = Box::new_uninit_slice(bytes);
        ask_for_huge_pages(&mut memory);
        Self::over(memory)
    }
}

impl Shared<u8> {
    pub fn zeroed(bytes: usize) -> Self {
        let mut memory = Box::new_zeroed_slice(bytes);
        ask_for_huge_pages(&mut memory);
        // SAFETY: zero is a byte.
        Self::over(unsafe { memory.assume_init() })
    }

    /// A view of `subset` of the array of `shape` that this memory holds, for zarrs to decode into.
    ///
    /// # Errors
    /// When shape, element and memory do not fit each other.
    pub fn view<'a>(
        &'a self,
        element: usize,
        shape: &'a [u64],
        subset: ArraySubset,
    ) -> Result<ArrayBytesFixedDisjointView<'a>, ViewError> {
        // SAFETY: by the rule of this type nobody else uses the bytes of `subset` now, and the view touches no others.
        unsafe { ArrayBytesFixedDisjointView::new(self.cells, element, shape, subset) }
    }
}

impl<T: 'static> Shared<T> {
    fn over(memory: Box<[T]>) -> Self {
        let memory = Box::into_raw(memory);
        // SAFETY: it was a box until now, and nobody uses `memory` before it is one again, in `into_box`.
        let cells = UnsafeCellSlice::new(unsafe { &mut *memory });
        Self { memory, cells }
    }

    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.len()), "a piece reaches beyond the array");
        // SAFETY: by the rule of this type nobody else uses these bytes now.
        let to = unsafe { self.cells.index_mut(at..at + bytes.len()) };
        // SAFETY: `T` is a byte, of which `to` holds as many; both are references, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_mut_ptr().cast(), bytes.len()) };
    }

    /// All bytes, of which `written` were written.
    ///
    /// # Panics
    /// When some were not.
    pub fn into_bytes(self, written: u64) -> Bytes {
        assert_eq!(written, self.len() as u64, "bytes were not written");
        let memory = ManuallyDrop::new(self).memory as *mut [u8];
        // SAFETY: the box of `over`, whose bytes were all written; the cells are not used any more.
        unsafe { Box::from_raw(memory) }.into()
    }
}

impl<T: 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the box of `over`; the cells are not used any more.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

/// Asks for 2 MiB pages where the memory is large, as numpy does for its arrays: a page fault each 4 KiB costs more than
/// some codecs do. Where the kernel has none nothing changes.
pub fn ask_for_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let range = memory.as_mut_ptr_range();
    let begin = range.start.addr().next_multiple_of(PAGE_BYTES);
    let end = range.end.addr() / PAGE_BYTES * PAGE_BYTES;
    if size_of_val(memory) >= HUGE_FROM_BYTES {
        // SAFETY: whole pages of memory that is ours alone; the advice changes none of its bytes.
        unsafe { madvise(range.start.with_addr(begin).cast(), end - begin, Advice::LinuxHugepage) }.ok();
    }
}

/// Gives free memory back to the kernel.
pub fn trim() {
    // SAFETY: always allowed; it only returns free pages.
    unsafe { libc::malloc_trim(0) };
}

/// Has threads share the allocator's arenas, as long as none has one: an arena for four cores.
///
/// What one thread allocates and another frees leaves holes in the arena of the first, and each arena has its own.
pub fn share_arenas() {
    let arenas = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(4);
    // SAFETY: always allowed; it only bounds how many arenas are made.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas as i32) };
}

/// The kernel's other account of this process's CPU time, in microseconds.
#[cfg(test)]
pub fn cpu_time_by_rusage() -> std::time::Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for the answer, and zeros are a valid one.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    [usage.ru_utime, usage.ru_stime]
        .map(|time| std::time::Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec.unsigned_abs() as u32 * 1000))
        .iter()
        .sum()
}
