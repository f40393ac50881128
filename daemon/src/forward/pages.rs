//! Receipts of a study at the centre, a page at a time (profile 11 §3).
//!
//! A study may have more receipts than one answer holds. The centre says after which one the next page begins; each page is
//! used before the next is asked for: what of it stays in memory is for the caller to bound.
//!
//! # Bounds
//! [`PAGES_MAX`] pages of a study; a page is an answer like any other ([`super::https`]).

use idr_profile::outcome::{Context, Decided, Event, ReceiptAnswer, Signal};
use idr_profile::receipt::Carried;
use uuid::Uuid;

use super::Forward;
use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::peer::{Heard, ReceiptsBody};

/// Pages of a study. With the smallest page that a centre makes, 100 receipts, they hold an R3 and an R4 for each of 100 000
/// instances: more is beyond any study, and a centre that goes on is not followed.
const PAGES_MAX: usize = 2_500;

/// What came when a page was asked for.
pub(super) enum Page {
    /// Receipts, not yet verified.
    Some(Vec<Carried>),
    /// There are no more.
    End,
    /// No request may be made now.
    Stopped,
    /// This instead of an answer.
    Not(Decided),
}

/// The pages of a study, in order.
pub(super) struct Pages<'a> {
    forward: &'a Forward,
    pass: &'a Pass<'a>,
    study_uid: &'a str,
    bearing: &'a Bearing,
    /// For the breaker.
    item: u64,
    asked: usize,
    next: Next,
}

enum Next {
    First,
    After(Uuid),
    End,
}

impl Forward {
    /// The receipts of a study. `item` is what they are asked for.
    pub(super) fn pages<'a>(&'a self, pass: &'a Pass<'a>, study_uid: &'a str, bearing: &'a Bearing, item: u64) -> Pages<'a> {
        Pages { forward: self, pass, study_uid, bearing, item, asked: 0, next: Next::First }
    }
}

impl Pages<'_> {
    /// Asks for the next page; the breaker is told of the answer.
    pub(super) async fn next(&mut self) -> Page {
        let after = match self.next {
            Next::First => None,
            Next::After(id) => Some(id),
            Next::End => return Page::End,
        };
        if !self.pass.holds() {
            return Page::Stopped;
        }
        let (forward, context) = (self.forward, Context::default());
        // Each request bears an assertion of its own: many pages may take longer than one lives.
        let link = forward.link();
        let authorization = match link.credentials.authorization(self.bearing, forward.clock.now(), forward.random()) {
            Ok(authorization) => authorization,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                return self.not(Signal::Event(Event::Key), None);
            }
        };
        self.asked += 1;
        let (signal, retry_after) = match link.peer.receipts(self.study_uid, after, &authorization).await {
            Heard::Nothing(failure) => (failure.signal(), None),
            Heard::Answer { status, retry_after, ahead, body } => {
                forward.heard_clock(ahead);
                match (status, body) {
                    (200, ReceiptsBody::Some { next, .. }) if next.is_some() && (next <= after || self.asked == PAGES_MAX) => {
                        tracing::error!(
                            pages = self.asked,
                            "the centre's list of receipts of a study has no end; the rest of it is not read"
                        );
                        (Signal::Event(Event::HttpCut), None)
                    }
                    (200, ReceiptsBody::Some { receipts, next }) => {
                        // The peer works, whatever the receipts say; without this a probe would stay without its result.
                        let answered = forward.outcomes.decide(Signal::Receipt(ReceiptAnswer::Status(200)), &context);
                        forward.record(Channel::Stow, self.item, &answered, None);
                        self.next = next.map_or(Next::End, Next::After);
                        return Page::Some(receipts);
                    }
                    (200, ReceiptsBody::None) => (Signal::Event(Event::HttpCut), retry_after),
                    (status, _) => (Signal::Receipt(ReceiptAnswer::Status(status)), retry_after),
                }
            }
        };
        self.not(signal, retry_after.as_deref())
    }

    fn not(&self, signal: Signal<'_>, retry_after: Option<&str>) -> Page {
        let decided = self.forward.outcomes.decide(signal, &Context::default());
        self.forward.record(Channel::Stow, self.item, &decided, retry_after);
        Page::Not(decided)
    }
}
