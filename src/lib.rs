//! `lsm`, the Lightning Security Module: turns a bare Linux host into a Lightning remote signer, and keeps it one.
//!
//! Principles, in the order in which they win:
//! 1. What the operator wants ([`spec`]) and what the machine is give a plan; one interpreter applies it, journalled
//!    before and after every step. Nothing else changes the machine.
//! 2. Secrets travel as references; a value that was checked has its own type.
//! 3. An error has a code, one line of cause, one of hint ([`error`]).
//! 4. Only [`host`] writes files, changes owners or starts programs; `unsafe` lives there and in [`sandbox`] alone.

pub mod age;
pub mod archive;
pub mod backend;
pub mod bundle;
pub mod engine;
pub mod error;
pub mod facts;
pub mod guard;
pub mod harden;
pub mod host;
pub mod plan;
pub mod release;
pub mod render;
pub mod sandbox;
pub mod secret;
pub mod signer;
pub mod spec;
pub mod ui;
pub mod watch_only;

pub mod cli;
