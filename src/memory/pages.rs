//! How the process's memory is backed.

/// What a large page has on the architectures that have io_uring and users.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// From Linux 6.18 on; `linux/prctl.h`.
const PR_THP_DISABLE_EXCEPT_ADVISED: libc::c_ulong = 1 << 1;

/// Asks for pages of 4 KiB from now on, but where 2 MiB are asked for (`PR_SET_THP_DISABLE`); an older kernel
/// gives none of those then. False when the kernel refuses both, which costs memory and nothing else.
///
/// With large pages everywhere every table grows by 2 MiB at a time.
#[must_use]
pub fn only_asked_huge_pages() -> bool {
    let disable = |flags: libc::c_ulong| {
        // SAFETY: this prctl takes plain integers, of which the unused ones must be 0, and changes no
        // memory that Rust knows of.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, flags, 0, 0) == 0 }
    };
    disable(PR_THP_DISABLE_EXCEPT_ADVISED) || disable(0)
}
