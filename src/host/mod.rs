//! The only place that writes files, changes owners or starts programs.

pub mod draft;
pub mod file;
pub mod lock;
pub mod program;
pub mod tree;
pub mod user;
