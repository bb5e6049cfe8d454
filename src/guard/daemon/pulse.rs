//! What systemd hears of the guard: that it is not hung.

use crate::host::notify::{notify, watchdog};
use std::time::{Duration, Instant};

/// How often systemd hears of it where nothing says how often it has to.
const TICK: Duration = Duration::from_secs(5);

/// When systemd heard of it last.
pub struct Pulse {
    every: Duration,
    pub(super) last: Option<Instant>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { every: watchdog().map_or(TICK, |limit| limit / 3), last: None }
    }
}

impl Pulse {
    /// How often it has to hear.
    pub fn tick(&self) -> Duration {
        self.every
    }

    /// Tells it, where it is time.
    pub fn beat(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= self.every) {
            notify("WATCHDOG=1");
            self.last = Some(Instant::now());
        }
    }
}
