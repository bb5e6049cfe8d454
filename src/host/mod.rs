//! The only place that writes files, changes owners or starts programs.

pub mod account;
pub mod beneath;
pub mod chamber;
pub mod clock;
pub mod credential;
pub mod draft;
pub mod file;
pub mod kept;
pub mod lock;
pub mod network;
pub mod notify;
pub mod process;
pub mod program;
pub mod rights;
pub mod snapshot;
pub mod sysctl;
pub mod terminal;
pub mod tree;
pub mod user;
pub mod way;
pub mod xattrs;
