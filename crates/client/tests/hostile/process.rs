//! What this process is told of itself: panics of any task, and its memory.

use std::{
    fmt, panic,
    sync::{Arc, Mutex, PoisonError},
};

/// Every panic from here on, also those in tasks that nobody joins.
pub(crate) struct Panics(Arc<Mutex<Vec<String>>>);

impl Panics {
    pub(crate) fn watch() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            told.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
            before(info);
        }));
        Self(seen)
    }

    pub(crate) fn check(&self) {
        // Let go of before the assertion: its own panic is seen too.
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(seen.is_empty(), "{} panics: {seen:#?}", seen.len());
    }
}

/// What the system says of this process' memory, in bytes.
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
    pub(crate) space: u64,
    pub(crate) peak_space: u64,
}

impl Memory {
    /// `None` where the system does not tell.
    pub(crate) fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 =
                line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()?;
            Some(kib << 10)
        };
        Some(Self {
            resident: field("VmRSS")?,
            peak: field("VmHWM")?,
            space: field("VmSize")?,
            peak_space: field("VmPeak")?,
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "{} MiB (peak {}, address space {}, its peak {})",
            mib(self.resident),
            mib(self.peak),
            mib(self.space),
            mib(self.peak_space)
        )
    }
}
