//! A progress line on standard error, only where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// One thing under way. Dropped, its line goes away.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins a line with `title`; `total` is the number of parts where it is known.
    pub fn new(title: &str, total: Option<u64>) -> Self {
        let seen = std::io::stderr().is_terminal() && !super::voice().quiet;
        let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), "{prefix} {wide_bar} {pos} of {len} {msg}"),
            None => (ProgressBar::new_spinner(), "{spinner} {prefix} {msg} ({elapsed})"),
        };
        bar.set_draw_target(target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Says that `done` parts are done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Shows a few words at the end of the line.
    pub fn say(&self, words: &str) {
        self.0.set_message(words.to_owned());
    }

    /// Takes the line away while `talk` has the terminal.
    pub fn suspend<T>(&self, talk: impl FnOnce() -> T) -> T {
        self.0.suspend(talk)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
