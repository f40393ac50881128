//! A command set or a piece of a data set in, presentation data values out (PS3.8 Annex E).

use bytes::Bytes;

use crate::codec::PDV_HEADER_LENGTH;
use crate::pdu::{Fragment, Pdv};

/// Cuts what is to be sent to the length that the peer accepts.
#[derive(Debug, Clone, Copy)]
pub struct Fragmenter {
    fragment_length_max: usize,
}

impl Fragmenter {
    /// `peer_length_max`: longest P-DATA-TF that the peer accepts, 0 for unlimited. `own_length_max`: longest that we send.
    /// Both count as the PDU-length field does.
    pub fn new(peer_length_max: u32, own_length_max: u32) -> Self {
        let pdu_length = if peer_length_max == 0 { own_length_max } else { peer_length_max.min(own_length_max) };
        // Even ("each fragment of a message shall consist of an even number of bytes"), and at least something.
        let fragment_length_max = (pdu_length as usize).saturating_sub(PDV_HEADER_LENGTH) & !1;
        Fragmenter { fragment_length_max: fragment_length_max.max(2) }
    }

    /// Most bytes of one fragment; even.
    pub fn fragment_length_max(self) -> usize {
        self.fragment_length_max
    }

    /// The fragments of `data`, one for each P-DATA-TF; slices, nothing is copied. `last`: nothing follows `data`, so the
    /// last fragment is marked; if `data` is empty it is an empty one.
    pub fn fragments(self, context_id: u8, kind: Fragment, mut data: Bytes, last: bool) -> impl Iterator<Item = Pdv> {
        let mut done = data.is_empty() && !last;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let fragment = data.split_to(data.len().min(self.fragment_length_max));
            done = data.is_empty();
            Some(Pdv { context_id, kind, last: last && done, data: fragment })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(peer: u32, own: u32, bytes: usize, last: bool) -> Vec<(usize, bool)> {
        let fragmenter = Fragmenter::new(peer, own);
        fragmenter.fragments(1, Fragment::Data, vec![0; bytes].into(), last).map(|pdv| (pdv.data.len(), pdv.last)).collect()
    }

    #[test]
    fn fragments_fill_the_pdus_that_the_peer_accepts_and_only_the_end_is_last() {
        assert_eq!(lengths(106, 1000, 250, true), [(100, false), (100, false), (50, true)]);
        assert_eq!(lengths(106, 1000, 200, true), [(100, false), (100, true)]);
        assert_eq!(lengths(106, 1000, 200, false), [(100, false), (100, false)]);
    }

    #[test]
    fn a_peer_without_a_maximum_gets_our_own() {
        assert_eq!(lengths(0, 106, 150, true), [(100, false), (50, true)]);
    }

    #[test]
    fn our_own_maximum_holds_although_the_peer_would_take_more() {
        assert_eq!(lengths(u32::MAX, 106, 150, true), [(100, false), (50, true)]);
    }

    #[test]
    fn an_odd_maximum_gives_even_fragments() {
        assert_eq!(lengths(107, 1000, 150, true), [(100, false), (50, true)]);
    }

    #[test]
    fn an_empty_end_is_one_empty_fragment_and_an_empty_piece_is_none() {
        assert_eq!(lengths(106, 1000, 0, true), [(0, true)]);
        assert_eq!(lengths(106, 1000, 0, false), []);
    }
}
