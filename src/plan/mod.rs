//! The one way in which the machine is changed: a Plan of Steps, applied by one interpreter, journalled around each.

pub mod apply;
mod door;
pub mod event;
pub mod history;
pub mod journal;
pub mod ledger;
mod parts;
mod perform;
pub mod planner;
pub mod prior;
pub mod register;
pub mod step;
pub mod undo;

pub use apply::{apply, apply_all, carry_out, carry_out_all};
pub use door::{open, open_as_admin};
pub use event::About;
pub use history::History;
pub use journal::Journal;
pub use perform::{
    GivenSeed, Machine, Receipt, Remote, Told, check_snapshot, export_remote, make_certificate, prove_outside,
    read_password, read_receipt, stop, systemctl, wait_until_active,
};
pub use planner::{Plan, make_plan, observe};
pub use register::Register;
pub use step::{Access, Door, Port, Runner, SeedSink, Step};
