//! Counts the uploads that are being given up. The end of a program waits for them.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// How many uploads the process `OWNER` is giving up now. Not a lock: a fork could copy it locked by an I/O thread.
static GIVING_UP: AtomicUsize = AtomicUsize::new(0);
static OWNER: AtomicU32 = AtomicU32::new(0);

/// One upload that is being given up, until it is dropped.
#[derive(Debug)]
pub struct GivingUp(());

impl GivingUp {
    /// Counts one more.
    #[must_use]
    pub fn begin() -> Self {
        let process = std::process::id();
        if OWNER.swap(process, Ordering::Relaxed) != process {
            // What a parent was giving up when it forked is not done here.
            GIVING_UP.store(0, Ordering::Relaxed);
        }
        GIVING_UP.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether this process is giving up any.
    pub fn any() -> bool {
        OWNER.load(Ordering::Relaxed) == std::process::id() && GIVING_UP.load(Ordering::Relaxed) > 0
    }
}

impl Drop for GivingUp {
    fn drop(&mut self) {
        GIVING_UP.fetch_sub(1, Ordering::Relaxed);
    }
}
