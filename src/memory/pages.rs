//! How the process's memory is backed.

/// Asks for pages of 4 KiB instead of 2 MiB from now on (`PR_SET_THP_DISABLE`); false when the kernel
/// refuses, which costs memory and nothing else.
///
/// With huge pages, which the allocator asks for, every table grows by 2 MiB at a time.
#[must_use]
pub fn disable_huge_pages() -> bool {
    // SAFETY: this prctl takes plain integers, of which the unused ones must be 0, and changes no
    // memory that Rust knows of.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    result == 0
}
