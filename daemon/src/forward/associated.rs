//! Instances by C-STORE: from `queued` to `sent`, on associations of one study and one patient each.
//!
//! A batch is one association; as many at once as the breaker of the channel allows. What each instance met is decided by the
//! outcome table and moved when the association is over; what it did not come to goes back unattempted, so that a crash or a
//! cut repeats at most one batch.
//!
//! # Failure
//! An answer to one instance says nothing of the others, unless its row ends the association or opens the breaker. What cannot
//! be read here ends the association where its bytes had begun, before their last fragment.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use idr_dimse::message::command_set::{CommandSet, Priority};
use idr_host::outbound::store::{Unstored, store};
use idr_profile::outcome::{Context, Decided, Effect, Event, Outcome, Signal};
use idr_profile::rules::row;

use super::archive::{Archive, CONTEXTS_MAX, signal};
use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::pacing::Paced;
use super::store::Way;
use super::storms::Met;
use super::{Forward, Link, unread};
use crate::outbound::{Bits, Session};
use crate::spool::{Commitment, Entry, Progress, SpoolError, SpoolId, State};

/// No instance begins on an association later than this: an assertion lives 240 s (`xua.toml`), and what comes after it is
/// refused (04 §10.4).
const LIFE: Duration = Duration::from_secs(180);
/// Instances that are remembered for having ended associations.
const ENDED_MAX: usize = 4096;
/// So many associations make an instance one that goes alone (03 A-POISON).
const POISON: u32 = 3;

/// Associations that instances have ended, while others succeeded between.
#[derive(Default)]
pub(super) struct Ended {
    stored: u64,
    by: HashMap<SpoolId, (u32, u64)>,
}

impl Ended {
    /// An instance was answered.
    fn answered(&mut self, id: SpoolId) {
        self.stored += 1;
        self.by.remove(&id);
    }

    /// An association ended under an instance; whether that is its own doing by now.
    fn ended(&mut self, id: SpoolId) -> bool {
        if self.by.len() >= ENDED_MAX {
            self.by.clear();
        }
        let stored = self.stored;
        let (times, since) = self.by.entry(id).or_insert((0, stored));
        *times += 1;
        *times >= POISON && stored > *since
    }

    /// Whether it goes alone.
    pub(super) fn goes_alone(&self, id: SpoolId) -> bool {
        self.by.get(&id).is_some_and(|(times, since)| *times >= POISON && self.stored > *since)
    }
}

impl Forward {
    /// Whether the peer works again: one C-ECHO in place of an item (03 §2.4.3).
    pub(super) async fn probe(&self, link: &Link) {
        let Some(archive) = &link.archive else { return };
        let (Ok(signal) | Err(signal)) = archive.echo().await;
        let decided = self.outcomes.decide(signal, &Context::default());
        self.record(Channel::Dimse, 0, &decided, None);
    }

    /// Sends a batch on one association.
    pub(super) async fn send_associated(
        &self,
        pass: &Pass<'_>,
        link: &Link,
        archive: &Archive,
        bearing: &Bearing,
        entries: Vec<Entry>,
    ) -> Result<(), SpoolError> {
        let now = self.clock.now();
        let first = entries.first().map_or(0, |entry| entry.id().0);
        let identity = match archive.identity(&link.credentials, bearing, now, self.random()) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                return self.all_alike(first, Signal::Event(Event::Key), entries).await;
            }
        };
        let kind = |entry: &Entry| (entry.record.announced.sop_class_uid.clone(), entry.record.announced.transfer_syntax_uid.clone());
        let kinds: BTreeSet<(String, String)> = entries.iter().map(kind).collect();
        let kinds: BTreeSet<(String, String)> = kinds.into_iter().take(CONTEXTS_MAX).collect();
        let mut request = archive.request(identity);
        for (sop_class, transfer_syntax) in &kinds {
            request.propose(sop_class, &[transfer_syntax]);
        }
        let session = match archive.open(request).await {
            Ok(session) => session,
            Err(signal) => return self.all_alike(first, signal, entries).await,
        };
        // Beyond 128 kinds the rest has no presentation context this time.
        let (entries, left): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| kinds.contains(&kind(entry)));
        left.iter().for_each(|entry| self.spool.give_back(entry.id()));
        let mut waiting = VecDeque::from(entries);
        let met = self.on_association(pass, archive, session, &mut waiting).await;
        waiting.iter().for_each(|entry| self.spool.give_back(entry.id()));
        // What each answer says of the peer, the breaker was told as it came.
        self.apply_met(Channel::Dimse, met, sent(), || {}, asked_for).await
    }

    /// Nothing of a batch was sent, for one reason.
    async fn all_alike(&self, first: u64, signal: Signal<'_>, entries: Vec<Entry>) -> Result<(), SpoolError> {
        let decided = self.outcomes.decide(signal, &Context::default());
        self.record(Channel::Dimse, first, &decided, None);
        self.apply_as(entries.into_iter().map(|entry| (entry, decided.clone())).collect(), sent(), asked_for).await
    }

    /// Sends what waits, until there is no more or the association is over; what each met. What stays was not attempted.
    async fn on_association(&self, pass: &Pass<'_>, archive: &Archive, mut session: Session, waiting: &mut VecDeque<Entry>) -> Vec<Met> {
        let began = self.clock.monotonic();
        let context = Context { dialect: archive.dialect.as_deref(), ..Context::default() };
        let mut met = Vec::new();
        while let Some(entry) = waiting.front()
            && pass.holds()
            && (entry.progress.urgent || self.pace.allowed().open)
            && self.clock.monotonic().saturating_sub(began) < LIFE
        {
            match self.is_still_claimed(entry).await {
                Ok(true) => {}
                // Somebody has decided about it since.
                Ok(false) => {
                    waiting.pop_front();
                    continue;
                }
                Err(error) => {
                    tracing::error!(cause = %error, remedy = error.remedy(), "the index cannot be read; the association ends");
                    break;
                }
            }
            let announced = &entry.record.announced;
            let result = session.result_of(&announced.sop_class_uid, &announced.transfer_syntax_uid);
            let (decided, said, over) = match result {
                Some(Ok(context_id)) => self.store_one(&mut session, context_id, entry, archive.receipts, &context).await,
                Some(Err(refused)) => (self.outcomes.decide(Signal::PresentationContext(refused as u8), &context), None, false),
                None => (self.outcomes.decide(Signal::Event(Event::ContextMissing), &context), None, false),
            };
            let blows = match said {
                Some((status, false)) => self.is_storm(status, &decided).await,
                _ => false,
            };
            if let Some(entry) = waiting.pop_front() {
                self.record(Channel::Dimse, entry.id().0, &decided, None);
                self.tell(&entry, &decided);
                met.push(Met { entry, decided, said });
            }
            if blows {
                // The others wait until it is over.
                break;
            }
            if over {
                session.abort().await;
                return met;
            }
        }
        session.release().await;
        met
    }

    /// Sends one instance; what it met, what the peer said ([`Met::said`]), and whether the association is of no use any more.
    async fn store_one(
        &self,
        session: &mut Session,
        context_id: u8,
        entry: &Entry,
        names_rules: bool,
        context: &Context<'_>,
    ) -> (Decided, Option<(u16, bool)>, bool) {
        let of_ours = |error: &SpoolError| {
            tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object cannot be read; the others go on");
            let event = if matches!(error, SpoolError::Damaged { .. }) { Event::DigestDiffers } else { unread(error) };
            self.outcomes.decide(Signal::Event(event), context)
        };
        let mut bits = match self.spool.read(entry.id()).await {
            // What is urgent is not held back (10 §12).
            Ok(stored) if entry.progress.urgent => Bits(stored),
            Ok(stored) => Bits(Box::new(Paced::new(stored, self.pace.clone()))),
            Err(error) => return (of_ours(&error), None, false),
        };
        let announced = &entry.record.announced;
        let (class, instance) = (&announced.sop_class_uid, &announced.sop_instance_uid);
        let priority = if entry.progress.urgent { Priority::High } else { Priority::Medium };
        let command = CommandSet::c_store_rq(session.next_message_id(), class, instance, priority);
        match store(session, context_id, &command, &mut bits).await {
            Ok(answer) => {
                self.ended().answered(entry.id());
                let decided = self.outcomes.decide(Signal::CStore(answer.status.0), context);
                if !answer.error_comment.is_empty() && decided.outcome != Outcome::Done {
                    tracing::warn!(object = %entry.id(), row = %decided.row, status = %answer.status, comment = comment(&answer.error_comment), "the destination says why");
                }
                let over = decided.effects.contains(&Effect::AbortAssociation);
                (decided, Some((answer.status.0, names_rules && names_rule(&answer.error_comment))), over)
            }
            Err(Unstored::Source { error, begun }) => (of_ours(&error), None, begun),
            Err(Unstored::Association(failure)) => {
                let ended = self.outcomes.decide(signal(&failure), context);
                tracing::warn!(object = %entry.id(), row = %ended.row, cause = %failure, "an association ended under an instance; it is sent again");
                let decided = match self.ended().ended(entry.id()) {
                    true => self.outcomes.decide(Signal::Event(Event::Poison), context),
                    false => ended,
                };
                (decided, None, true)
            }
        }
    }

    /// Findings on the peer itself.
    fn tell(&self, entry: &Entry, decided: &Decided) {
        if decided.effects.contains(&Effect::Page) {
            tracing::error!(object = %entry.id(), row = %decided.row, "the destination or this site needs somebody now; see `idr-site explain`");
        } else if decided.effects.contains(&Effect::Warn) {
            tracing::warn!(object = %entry.id(), row = %decided.row, "the destination altered an object, or says so; the copy here stays as it came");
        }
    }
}

/// Where an instance goes from `queued`.
fn sent() -> Way {
    Way { done: State::Sent, again: State::Queued, handed: true }
}

/// Storage commitment is to be asked for what was sent. What an earlier hand-over was committed by says nothing of this one.
fn asked_for(progress: &mut Progress, decided: &Decided) {
    let duplicate = decided.outcome == Outcome::DoneDuplicate;
    progress.commitment = (progress.state == State::Sent).then(|| Commitment { duplicate, ..Commitment::default() });
}

/// Whether an Error Comment begins with a rule of profile 01, as our centre's do.
fn names_rule(comment: &str) -> bool {
    comment.split(' ').next().is_some_and(|word| row(word).is_some())
}

/// An Error Comment for the journal: bounded, without control characters.
fn comment(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}
