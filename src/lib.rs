//! `lsm`, the Lightning Security Module: turns a bare Linux host into a Lightning remote signer, and keeps it one.
//!
//! lnd can be split in two. A *watch-only* node has the peers, the channels and the chain; a *signer* on another machine has
//! the keys and answers the watch-only node's requests to sign, on one port. lsm makes the signer, hands the other side its
//! *bundle* (account xpubs, certificate, macaroon), and proves that a signature comes through. Other words that stand for one
//! thing throughout: an *instance* is one signer of a host; its *spec* is what the operator wants of it; a *pin* is the hash
//! that an official file has; the *door* is the way to lnd's own socket on the signer's host.
//!
//! # How a verb goes
//!
//! `lsm install` shows all of it; other verbs use parts:
//!
//! 1. [`cli`] turns arguments into a Spec ([`spec`]). Bad input ends here, before anything was touched.
//! 2. [`release`] gets lnd's archive and proves it. What comes out has a type of its own, and only that can be installed.
//! 3. A [`backend`] (systemd units, a container, or a process in the foreground) says which Steps such a signer needs, with
//!    the texts that [`render`] makes of the Spec.
//! 4. [`facts`] looks at the machine once; [`plan`] leaves out the Steps that are done already, and shows the rest, or applies
//!    them, journalled before and after each. The same journal undoes them.
//! 5. Steps that speak to lnd (wallet, macaroons, the proof) do so through [`signer`], over one pinned channel.
//! 6. lnd itself is started by `lsm launch` in the fences of [`sandbox`]; systemd or the container engine adds its own.
//!
//! With a [`guard`] lnd asks before it answers: a daemon under a user of its own judges each call by what it would move.
//!
//! What a signer is to be is kept in `/etc/lsm/I.toml`, and what was done to the machine in `/var/lib/lsm/journal/I.jsonl` (of a user
//! without root both are below `~/.lnget/.lsm`); there is no other state of lsm's own. `lsm launch`, `lsm ready`, `lsm guard run` and `lsm guard proxy`
//! are lsm itself as the units run it.
//!
//! On the other machine [`watch_only`] takes the [`bundle`]. [`harden`] judges the same facts as the planner and more, and
//! changes nothing unless told to, and then by a plan like any other.
//!
//! # Principles, in the order in which they win
//!
//! 1. What the operator wants ([`spec`]) and what the machine is give a plan; one interpreter applies it, journalled
//!    before and after every step. Nothing else changes the machine.
//! 2. Secrets travel as references; a value that was checked has its own type.
//! 3. An error has a code, one line of cause, one of hint ([`error`]).
//! 4. Only [`host`] writes files, changes owners or starts programs; `unsafe` lives there and in [`sandbox`] alone.
//!
//! docs/architecture.md says why the parts are as they are.

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
