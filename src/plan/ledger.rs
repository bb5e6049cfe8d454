//! What lsm answers for, line by line of the journal: what each thing was before lsm, and how lsm left it.

use crate::plan::prior::{Prior, Thing};

/// A thing that lsm answers for.
#[derive(Debug, Clone)]
pub struct Touched {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What it was before.
    pub first: Prior,
    /// How lsm left it; `None` where a step was cut off.
    pub left: Option<Prior>,
}

/// What lsm answers for.
#[derive(Default)]
pub(super) struct Ledger {
    touched: Vec<Touched>,
}

impl Ledger {
    pub(super) fn into_touched(self) -> Vec<Touched> {
        self.touched
    }

    fn find(&mut self, thing: &Thing) -> Option<&mut Touched> {
        self.touched.iter_mut().find(|touched| touched.first.thing() == *thing)
    }

    /// A step is about to change the thing.
    pub(super) fn take(&mut self, since: u64, prior: &Prior) {
        match self.find(&prior.thing()) {
            Some(known) => known.left = None,
            // What is the operator's is not lsm's to answer for, what was before lsm is in no copy, and what is in the wallet's
            // folder goes or stays with that.
            None if matches!(prior.thing(), Thing::Given(_) | Thing::Database(_) | Thing::RootKey(_)) => {}
            None => self.touched.push(Touched { since, first: prior.clone(), left: None }),
        }
    }

    /// A step left it so; `None` where that is not known.
    pub(super) fn leave(&mut self, thing: &Thing, left: Option<Prior>) {
        if let Some(known) = self.find(thing) {
            known.left = left;
        }
    }

    /// An undoing put it back.
    pub(super) fn give_back(&mut self, to: &Prior) {
        let Some(known) = self.find(&to.thing()).filter(|known| known.first.is_same(to)) else { return };
        if to.comes_back() {
            // Whatever a boot before the end makes of it is lsm's doing.
            known.left = None;
        } else {
            self.forget(&to.thing());
        }
    }

    /// Another signer of this host hands it on. The older knowledge is the better one. The other signer may have changed the thing since this one did.
    pub(super) fn inherit(&mut self, since: u64, prior: &Prior) {
        if self.find(&prior.thing()).is_some_and(|known| known.since <= since) {
            self.leave(&prior.thing(), None);
            return;
        }
        self.forget(&prior.thing());
        self.touched.push(Touched { since, first: prior.clone(), left: None });
    }

    /// It is lsm's no more.
    pub(super) fn forget(&mut self, thing: &Thing) {
        self.touched.retain(|touched| touched.first.thing() != *thing);
    }
}
