//! The urgent lane and the other one (profile 10 §12; 03 §2 asks for the longest due first, in each).
//!
//! What is urgent goes first. So that an urgent stream without end does not keep the others waiting for ever, after so many of it in
//! a row (`centre.urgent_in_a_row_max`) one of the others has its turn. [`Turns`] has no clock: a turn is a request, or a manifest.
//!
//! What makes a study urgent is not in the profile: the inbound row that it came by (`priority = "urgent"`), or an operator
//! ([`super::priority`]).

use crate::spool::Lane;

/// Both lanes, the first to look at first.
pub(super) const LANES: [Lane; 2] = [Lane::Urgent, Lane::Normal];

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    in_a_row_max: u32,
    /// Turns of the urgent lane since one of the other, while both wanted one.
    in_a_row: u32,
}

impl Turns {
    pub fn new(in_a_row_max: u32) -> Self {
        Self { in_a_row_max, in_a_row: 0 }
    }

    /// The lane that goes next, of those that have something to do.
    pub fn next(&mut self, urgent: bool, normal: bool) -> Option<Lane> {
        let lane = match (urgent, normal) {
            (false, false) => return None,
            (true, false) => return Some(Lane::Urgent),
            (false, true) => Lane::Normal,
            (true, true) => Lane::of(self.in_a_row < self.in_a_row_max),
        };
        self.in_a_row = if lane == Lane::Urgent { self.in_a_row + 1 } else { 0 };
        Some(lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_urgent_goes_first_and_the_others_have_their_share_however_long_it_lasts() {
        let mut turns = Turns::new(3);
        let taken: Vec<Lane> = (0..400).filter_map(|_| turns.next(true, true)).collect();
        assert_eq!(taken[..4], [Lane::Urgent, Lane::Urgent, Lane::Urgent, Lane::Normal]);
        assert_eq!(taken.iter().filter(|lane| **lane == Lane::Normal).count(), 100, "one of four, for ever");
    }

    #[test]
    fn a_lane_without_work_takes_no_turn_and_saves_none_up() {
        let mut turns = Turns::new(2);
        assert_eq!(turns.next(false, false), None);
        // Alone for long: the next normal one does not wait less, nor more.
        for _ in 0..100 {
            assert_eq!(turns.next(true, false), Some(Lane::Urgent));
        }
        assert_eq!([(); 3].map(|()| turns.next(true, true)), [Some(Lane::Urgent), Some(Lane::Urgent), Some(Lane::Normal)]);
        for _ in 0..100 {
            assert_eq!(turns.next(false, true), Some(Lane::Normal));
        }
        assert_eq!(turns.next(true, true), Some(Lane::Urgent), "it waits for none that are owed");
    }
}
