//! The only place that writes files, changes owners or starts programs.

pub mod credential;
pub mod file;
pub mod process;
pub mod program;
pub mod user;
