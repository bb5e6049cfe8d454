//! The MuSig2 sessions that began with this guard asked: what else there is of them in lnd began while nobody was.

use std::collections::{HashSet, VecDeque};

/// How many are remembered: of more the oldest is forgotten. A node signs in a session soon after it began.
const ROOM: usize = 100_000;

/// Their numbers, as lnd has told them.
#[derive(Debug, Default)]
pub struct Sessions {
    known: HashSet<Vec<u8>>,
    /// The oldest first.
    order: VecDeque<Vec<u8>>,
}

impl Sessions {
    /// lnd has told of another one.
    pub fn note(&mut self, id: Vec<u8>) {
        if self.known.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > ROOM
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// True of one that began so.
    pub fn has(&self, id: &[u8]) -> bool {
        self.known.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_where_there_are_too_many() {
        let mut sessions = Sessions::default();
        let id = |number: usize| number.to_be_bytes().to_vec();
        (0..ROOM).for_each(|number| sessions.note(id(number)));
        sessions.note(id(0));
        assert!(sessions.has(&id(0)) && !sessions.has(&id(ROOM)));
        sessions.note(id(ROOM));
        assert!(!sessions.has(&id(0)) && sessions.has(&id(1)) && sessions.has(&id(ROOM)));
    }
}
