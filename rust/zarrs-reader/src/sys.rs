//! Memory that several threads fill at once, and what the kernel and the allocator are told about memory.
//! All `unsafe` code of the reader is in this file.
#![expect(unsafe_code, reason = "threads write disjoint parts of one array; no library has malloc_trim")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use bytes::Bytes;
use rustix::mm::{Advice, madvise};
use unsafe_cell_slice::UnsafeCellSlice;
use zarrs::array::{ArrayBytesFixedDisjointView, ArraySubset};
use zarrs_codec::ArrayBytesFixedDisjointViewCreateError as ViewError;

const PAGE_BYTES: usize = 4096;
const HUGE_FROM_BYTES: usize = 4 << 20;

/// Newly allocated memory, not touched before it is written.
///
/// Threads may write to it at once as long as what they write is disjoint and nothing is written twice: `Output`, its only
/// user, writes the pieces of a selection, which never overlap. Nobody reads before [`Self::into_bytes`] owns it alone.
#[derive(Debug)]
pub struct Shared(Box<[MaybeUninit<UnsafeCell<u8>>]>);

// SAFETY: by the rule above no byte is written by two threads, or read while one writes.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(bytes: usize) -> Self {
        let mut memory = Box::new_uninit_slice(bytes);
        ask_for_huge_pages(&mut memory);
        Self(memory)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn start(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.0.as_ptr().cast())
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len(), "a piece reaches beyond the array");
        // SAFETY: in bounds by the assertion, and by the rule of this type nobody else uses these bytes now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start().add(at), bytes.len()) };
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
        // SAFETY: the memory is there as long as `self`. Codecs write to it and never read.
        let all = UnsafeCellSlice::new(unsafe { std::slice::from_raw_parts_mut(self.start(), self.len()) });
        // SAFETY: by the rule of this type nobody else uses the bytes of `subset` now, and the view touches no others.
        unsafe { ArrayBytesFixedDisjointView::new(all, element, shape, subset) }
    }

    /// All bytes, of which `written` were written.
    ///
    /// # Panics
    /// When some were not.
    pub fn into_bytes(self, written: u64) -> Bytes {
        assert_eq!(written, self.len() as u64, "bytes were not written");
        let memory = Box::into_raw(self.0) as *mut [u8];
        // SAFETY: the same memory by another name, whose bytes were all written.
        unsafe { Box::from_raw(memory) }.into()
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
