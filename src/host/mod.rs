//! The only place that writes files, changes owners or starts programs.

pub mod file;
pub mod program;
pub mod user;
