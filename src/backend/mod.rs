//! A backend says which steps a Spec needs; it changes nothing itself.

pub mod foreground;
pub mod native;
pub mod preflight;
