//! Manifests: from `committed` to `registered` (profile 02 §2, §5, §7).
//!
//! Notes of the study in the spool's journal hold its life cycle: `pending` (content key of the revision that was kept
//! and perhaps sent), `published` (`<entryUUID> <content key> <instant>`), `hold` (row that an operator decides). A
//! pending revision is always answered before another is made.

use std::time::Duration;

use anyhow::Context as _;
use idr_ihe::transaction::iti_18;
use idr_profile::mapping::{self, ControllerRow, FolderUse, Member, Revision, Settings, Study as Described, value_type};
use idr_profile::outcome::{Class, Context, Decided, Effect, Event, Fault, Outcome, Response, Severity, Signal, Soap};
use idr_profile::receipt::{Carried, Commits, ReceiptHash, Statement};
use idr_profile::rules::Rules;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::credentials::Bearing;
use super::peer::{Heard, ReceiptsBody, Registered, Registration, SoapBody};
use super::revisions::Kept;
use super::{Channel, Forward, describe, uniform};
use crate::spool::{Cause, Claim, Entry, Move, Progress, SpoolError, SpoolId, State, Study, Tenant};

/// Note: a row of the outcome table that an operator has to decide about.
pub(super) const HOLD: &str = "hold";
const PENDING: &str = "pending";
const PUBLISHED: &str = "published";

/// What is published of a study.
struct Published {
    entry_uuid: String,
    content_key: String,
    at: Timestamp,
}

impl Published {
    fn read(note: Option<&String>) -> Option<Self> {
        let mut words = note?.split(' ');
        let published =
            Self { entry_uuid: words.next()?.to_owned(), content_key: words.next()?.to_owned(), at: words.next()?.parse().ok()? };
        Some(published)
    }

    fn note(&self) -> String {
        format!("{} {} {}", self.entry_uuid, self.content_key, self.at)
    }
}

/// What became of one look at a study.
enum Step {
    /// Nothing to do until something changes.
    Waits,
    /// Not before then.
    Until(Timestamp),
    /// An attempt failed: not before then, of this class, so often in a row.
    Again(Timestamp, Class, u32),
    /// A step was made.
    Made,
}

/// What stands in the registry under the uniqueId of a revision.
enum Standing {
    /// The revision, Approved.
    Approved,
    /// The revision, Deprecated.
    Deprecated,
    /// Another document.
    Other,
    /// Nothing.
    Absent,
}

/// When a study that waits for something that nobody tells of is found again.
const FOUND_AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// When a study is looked at again after an error of ours, or while its controller is not known.
const AFTER_TROUBLE: SignedDuration = SignedDuration::from_secs(60);

impl Forward {
    /// Looks at studies with committed instances. Says whether a step was made.
    pub(super) async fn register_round(&self, tenant: &Tenant) -> Result<bool, SpoolError> {
        let Some(pass) = self.admitted(Channel::Soap) else { return Ok(false) };
        let now = (self.clock)();
        // A claim only finds studies; when each is looked at stands on the agenda. The items stay leased, so that those of
        // studies that wait do not hide the others.
        let claim = Claim { tenant: tenant.clone(), state: "committed", now, lease_until: now + FOUND_AGAIN, limit: 2000 };
        let claimed = self.spool.claim(claim).await?;
        let due: Vec<String> = {
            let mut memory = self.memory();
            for entry in claimed {
                memory.agenda.entry((tenant.clone(), entry.record.facts.study_uid)).or_insert((now, Class::Net, 0));
            }
            let due = memory.agenda.iter().filter(|((whose, _), (due, ..))| whose == tenant && *due <= now);
            due.map(|((_, study_uid), _)| study_uid.clone()).collect()
        };
        let mut made = false;
        for study_uid in due {
            if !pass.holds() {
                break;
            }
            let step = self.register(tenant, &study_uid).await;
            let key = (tenant.clone(), study_uid);
            let next = match step {
                // What came while the revision was under way is looked for at once.
                Ok(Step::Made) => {
                    made = true;
                    Some((now, Class::Net, 0))
                }
                Ok(Step::Waits) => None,
                Ok(Step::Until(due)) => Some((due, Class::Net, 0)),
                Ok(Step::Again(due, class, failures)) => Some((due, class, failures)),
                Err(error) => {
                    tracing::error!(cause = %error, remedy = error.remedy(), "a manifest could not be dealt with; the other studies go on");
                    Some((now + AFTER_TROUBLE, Class::Net, 0))
                }
            };
            let mut memory = self.memory();
            match next {
                Some(next) => memory.agenda.insert(key, next),
                None => memory.agenda.remove(&key),
            };
        }
        Ok(made)
    }

    async fn register(&self, tenant: &Tenant, study_uid: &str) -> Result<Step, SpoolError> {
        let Some(study) = self.spool.study(tenant, study_uid).await? else { return Ok(Step::Waits) };
        if study.notes.contains_key(HOLD) {
            return Ok(Step::Waits);
        }
        let released = self.memory().reconsider.remove(&(tenant.clone(), study_uid.to_owned()));
        if let Some(content_key) = study.notes.get(PENDING) {
            let (revisions, kept_tenant, uid, key) = (self.revisions.clone(), tenant.clone(), study_uid.to_owned(), content_key.clone());
            let read =
                tokio::task::spawn_blocking(move || revisions.read(&kept_tenant, &uid, &key)).await.map_err(|_| SpoolError::Stopped)?;
            match read {
                Ok(kept) if released => return self.reconsider(&study, &kept).await,
                Ok(kept) => return self.submit(&study, kept).await,
                Err(error) => {
                    // It may have been registered, and what is built now may differ: two Approved entries would stand.
                    tracing::error!(cause = %error, "a kept manifest cannot be read; the registry is asked what it has of the study");
                    let (members, _) = self.members(&study).await?;
                    let Some(first) = members.first() else { return Ok(Step::Waits) };
                    let Some(bearing) = self.bearing(tenant, first).await? else { return Ok(self.undetermined()) };
                    return self.derive_target(&study, &bearing).await;
                }
            }
        }
        if !study.states.contains_key(State::Committed.name()) {
            return Ok(Step::Waits);
        }
        self.build(&study).await
    }

    fn undetermined(&self) -> Step {
        tracing::warn!("the controller map has no row for a study that is to be registered; add one");
        Step::Until((self.clock)() + AFTER_TROUBLE)
    }

    /// An operator has released a revision that was refused: unless the registry has it all the same, it is made again, from
    /// the maps as they are now.
    async fn reconsider(&self, study: &Study, kept: &Kept) -> Result<Step, SpoolError> {
        let Some(entry) = self.first_of(kept).await? else { return Ok(Step::Waits) };
        let Some(bearing) = self.bearing(&study.tenant, &entry).await? else { return Ok(self.undetermined()) };
        match self.standing(kept, &bearing).await {
            None => {
                self.memory().reconsider.insert((study.tenant.clone(), study.study_uid.clone()));
                Ok(self.later(study, Class::Net))
            }
            Some(Standing::Absent) => {
                self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
                Ok(Step::Until((self.clock)()))
            }
            Some(standing) => self.settle(study, kept, standing, &bearing).await,
        }
    }

    /// The object that says whose data a revision carries.
    async fn first_of(&self, kept: &Kept) -> Result<Option<Entry>, SpoolError> {
        match kept.members.first() {
            Some(first) => self.spool.entry(*first).await,
            None => Ok(None),
        }
    }

    /// Makes the next revision and keeps it, if one is due.
    async fn build(&self, study: &Study) -> Result<Step, SpoolError> {
        let (tenant, study_uid, now) = (&study.tenant, &study.study_uid, (self.clock)());
        let published = Published::read(study.notes.get(PUBLISHED));
        let interval = SignedDuration::from_secs(i64::try_from(self.config.manifest.min_interval_seconds).unwrap_or(i64::MAX));
        if let Some(due) = published.as_ref().and_then(|published| published.at.checked_add(interval).ok()).filter(|due| *due > now) {
            return Ok(Step::Until(due));
        }
        let (members, complete) = self.members(study).await?;
        let rules = self.rules.load();
        let Some(first) = members.first() else { return Ok(Step::Waits) };
        let since = members.iter().filter(|e| e.progress.state == State::Committed).map(|e| e.progress.since).min().unwrap_or(now);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let partial_after = Duration::from_secs(self.config.manifest.partial_after_minutes.saturating_mul(60));
        if !complete && (partial_after.is_zero() || waited < partial_after) {
            // Asked before the headers are read: a study on its way is looked at often.
            return Ok(Step::Until(now + SignedDuration::from_secs(1)));
        }
        let set_id = first.record.facts.rule_set.split('/').next().unwrap_or_default();
        let Some(set) = rules.set(set_id) else {
            return self.hold(study, &self.outcomes.decide(Signal::Event(Event::NotBuilt), &Context::default())).await;
        };
        let site_rules = set.rules_for(None).clone();
        let mut described = Vec::with_capacity(members.len());
        let mut service_event = None;
        let mut row = None;
        for entry in &members {
            let of_entry = match describe(self.spool.as_ref(), entry, &rules).await {
                Ok(of_entry) => of_entry,
                Err(error @ (SpoolError::Damaged { .. } | SpoolError::Disk { .. })) => {
                    tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object of a manifest cannot be read");
                    return self.hold(study, &self.outcomes.decide(Signal::Event(Event::SpoolRead), &Context::default())).await;
                }
                Err(error) => return Err(error),
            };
            row = row.or_else(|| self.maps.controlled(entry, &of_entry));
            service_event = service_event.or(of_entry.service_event);
            described.push(member(entry, of_entry.attributes, &site_rules));
        }
        if !mapping::is_publishable(&described, &|modality| registrable(&site_rules, modality), complete, waited, partial_after) {
            // No instance with a registrable modality yet.
            return Ok(Step::Until(now + SignedDuration::from_secs(60)));
        }
        let Some(row) = row else {
            return self.hold(study, &self.outcomes.decide(Signal::Event(Event::NotBuilt), &Context::default())).await;
        };
        let replaces = published.as_ref().map(|published| published.entry_uuid.as_str());
        let revision = match self.map(first, &described, service_event.as_deref(), row, replaces, &site_rules) {
            Ok(revision) => revision,
            Err(error) => {
                tracing::error!(cause = %error, "a manifest cannot be built");
                return self.hold(study, &self.outcomes.decide(Signal::Event(Event::NotBuilt), &Context::default())).await;
            }
        };
        if published.as_ref().is_some_and(|published| published.content_key == revision.content_key) {
            // What is committed again (an R3 that came twice) was registered before: only its state is behind.
            return self.registered(study, &members.iter().map(Entry::id).collect::<Vec<_>>()).await;
        }
        let kept = Kept::new(revision, members.iter().map(Entry::id).collect(), published.map(|published| published.entry_uuid));
        let (revisions, kept_tenant, uid, writing) = (self.revisions.clone(), tenant.clone(), study_uid.clone(), kept.clone());
        let written =
            tokio::task::spawn_blocking(move || revisions.keep(&kept_tenant, &uid, &writing)).await.map_err(|_| SpoolError::Stopped)?;
        if let Err(error) = written {
            tracing::error!(cause = %error, "a manifest cannot be kept; nothing is sent");
            return Ok(Step::Until(now + SignedDuration::from_secs(30)));
        }
        self.note(tenant, study_uid, PENDING, Some(kept.content_key.clone())).await?;
        self.submit(study, kept).await
    }

    /// The revision of these members. `first` names patient, inbound row and rule set.
    fn map(
        &self,
        first: &Entry,
        members: &[Member],
        service_event: Option<&str>,
        controlled: &ControllerRow,
        replaces: Option<&str>,
        rules: &Rules,
    ) -> anyhow::Result<Revision> {
        let facts = &first.record.facts;
        let patient = facts.patient_id.as_ref().context("the object has no patient id")?;
        let inbound = self.config.inbound.iter().find(|inbound| inbound.name == first.record.announced.inbound);
        let input = Described {
            study_instance_uid: &facts.study_uid,
            source: &self.config.site.source_oid,
            members,
            changed: None,
            source_patient: patient,
            patient,
            accession_issuer: inbound.and_then(|inbound| inbound.accession_issuer.as_deref()),
            language: inbound.and_then(|inbound| inbound.language.as_deref()),
            facility_type: None,
            service_event,
            controlled,
            map_revision: self.maps.controllers.revision,
            rule_set: &facts.rule_set,
            replaces,
            folder: FolderUse::None,
        };
        let settings = Settings {
            domain: &self.maps.domain,
            zone: &self.maps.zone,
            registrable: &|modality| registrable(rules, modality),
            study_codes: &|_| None,
            procedure_coding_schemes: &rules.parameters().procedure_coding_schemes,
        };
        Ok(Revision::map(&input, &settings)?)
    }

    /// M (profile 02 §2.1), and whether every instance of the study that was let go is in it.
    async fn members(&self, study: &Study) -> Result<(Vec<Entry>, bool), SpoolError> {
        let mut members = Vec::new();
        let mut complete = true;
        let mut after = None;
        loop {
            let page = self.spool.members(&study.tenant, &study.study_uid, after, 500).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for entry in page {
                match &entry.progress.state {
                    State::Committed | State::Registered | State::Released => members.push(entry),
                    State::Queued | State::Sending | State::Sent => complete = false,
                    State::Held(cause) => complete &= *cause == Cause::incomplete(),
                    State::Receiving | State::Quarantined(_) | State::Rejected | State::Superseded => {}
                }
            }
        }
        Ok((members, complete))
    }

    /// Sends a kept revision and deals with the answer.
    async fn submit(&self, study: &Study, kept: Kept) -> Result<Step, SpoolError> {
        let Some(entry) = self.first_of(&kept).await? else { return Ok(Step::Waits) };
        let Some(bearing) = self.bearing(&study.tenant, &entry).await? else { return Ok(self.undetermined()) };
        let now = (self.clock)();
        let context = Context { replace: kept.replaces.is_some(), ..Context::default() };
        let security = match self.credentials.security(&bearing, now) {
            Ok(security) => security,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                let decided = self.outcomes.decide(Signal::Event(Event::Key), &context);
                return self.decided(study, &kept, &decided, None, None, &bearing).await;
            }
        };
        let registration =
            Registration { message_id: kept.message_id.clone(), body: kept.body.clone(), document: kept.document.clone().into(), security };
        let heard = self.peer.register(&registration).await;
        let (decided, retry_after, receipt) = self.judge(heard, &context);
        self.decided(study, &kept, &decided, retry_after, receipt, &bearing).await
    }

    /// Row of a SOAP answer, its `Retry-After`, and the R4 if it carried one.
    fn judge(&self, heard: Heard<SoapBody>, context: &Context<'_>) -> (Decided, Option<String>, Option<Carried>) {
        let (status, retry_after, body) = match heard {
            Heard::Nothing(event) => return (self.outcomes.decide(Signal::Event(event), context), None, None),
            Heard::Answer { status, retry_after, body } => (status, retry_after, body),
        };
        match body {
            SoapBody::Unusable(event) => (self.outcomes.decide(Signal::Event(event), context), retry_after, None),
            SoapBody::None { other_type } => {
                (self.outcomes.decide(Signal::Soap(Soap::Status { status, other_type }), context), retry_after, None)
            }
            SoapBody::Fault { code, subcodes, refusal } => {
                let subcodes: Vec<&str> = subcodes.iter().map(String::as_str).collect();
                let fault = Fault { code: code.as_deref(), subcodes: &subcodes, refusal: refusal.as_deref() };
                tracing::warn!(status, ?refusal, "the centre answered a fault");
                (self.outcomes.decide(Signal::Soap(Soap::Fault { status, fault }), context), retry_after, None)
            }
            SoapBody::Response { status: response, errors, receipt, .. } => {
                for (code, severity, code_context) in &errors {
                    // What follows the rule id may name a patient and stays out of the journal (profile 09 §2).
                    let rule = code_context.split(' ').next().filter(|word| is_rule_id(word)).unwrap_or_default();
                    tracing::warn!(code, ?severity, rule, "the centre's registry answered");
                }
                let codes: Vec<(&str, Severity)> = errors.iter().map(|(code, severity, _)| (code.as_str(), *severity)).collect();
                let response = Response { status: &response, errors: &codes };
                (
                    self.outcomes.decide(Signal::Soap(Soap::Response { status, response }), context),
                    retry_after,
                    receipt.map(|receipt| *receipt),
                )
            }
        }
    }

    async fn decided(
        &self,
        study: &Study,
        kept: &Kept,
        decided: &Decided,
        retry_after: Option<String>,
        receipt: Option<Carried>,
        bearing: &Bearing,
    ) -> Result<Step, SpoolError> {
        let item = kept.members.first().map_or(0, |id| id.0);
        self.record(Channel::Soap, item, decided, retry_after.as_deref());
        if decided.effects.contains(&Effect::ReDerive) {
            return self.derive_target(study, bearing).await;
        }
        match decided.outcome {
            Outcome::Done => self.published(study, kept, receipt, bearing).await,
            Outcome::DoneDuplicate => self.confirm(study, kept, bearing).await,
            Outcome::Retry(class) => Ok(self.later(study, class)),
            Outcome::Hold(_) | Outcome::Quarantine => self.hold(study, decided).await,
            Outcome::Queued | Outcome::Continue | Outcome::Wait | Outcome::Ignored => Ok(self.later(study, Class::Slow)),
        }
    }

    fn later(&self, study: &Study, class: Class) -> Step {
        let key = (study.tenant.clone(), study.study_uid.clone());
        let failures = self.memory().agenda.get(&key).filter(|(_, before, _)| *before == class).map_or(0, |(.., failures)| *failures);
        let delay = SignedDuration::try_from(self.outcomes.delay(class, failures, uniform())).unwrap_or(SignedDuration::ZERO);
        let now = (self.clock)();
        Step::Again(now.checked_add(delay).unwrap_or(now), class, failures + 1)
    }

    async fn hold(&self, study: &Study, decided: &Decided) -> Result<Step, SpoolError> {
        let effect = self.outcomes.explain(&decided.row).first().map(|row| row.effect.clone());
        tracing::error!(row = %decided.row, effect, tenant = %study.tenant, "the manifest of a study waits for an operator: `idr-site queue release`");
        self.note(&study.tenant, &study.study_uid, HOLD, Some(decided.row.to_string())).await?;
        Ok(Step::Waits)
    }

    /// The registry has it: R4 is kept, the instances are registered, the revision is the published one.
    async fn published(&self, study: &Study, kept: &Kept, receipt: Option<Carried>, bearing: &Bearing) -> Result<Step, SpoolError> {
        let now = (self.clock)();
        let held = self.commits_held(study).await;
        let receipt = match receipt.filter(|receipt| self.is_registration(study, kept, &held, receipt)) {
            Some(receipt) => Some(receipt),
            None => self.fetch_registration(study, kept, &held, bearing, now).await,
        };
        match receipt {
            Some(receipt) => {
                let receipts = self.receipts.clone();
                tokio::task::spawn_blocking(move || receipts.keep(vec![receipt])).await.map_err(|_| SpoolError::Stopped)??;
            }
            // It does not undo the registration (profile 11 §3); the finding stays in the journal.
            None => tracing::warn!(tenant = %study.tenant, "registered, but no valid receipt R4 has come"),
        }
        self.registered(study, &kept.members).await?;
        let published = Published { entry_uuid: kept.entry_uuid.clone(), content_key: kept.content_key.clone(), at: now };
        self.note(&study.tenant, &study.study_uid, PUBLISHED, Some(published.note())).await?;
        self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
        tracing::info!(tenant = %study.tenant, instances = kept.members.len(), replaces = kept.replaces.is_some(), "a study is registered");
        Ok(Step::Made)
    }

    async fn registered(&self, study: &Study, members: &[SpoolId]) -> Result<Step, SpoolError> {
        let now = (self.clock)();
        for page in members.chunks(500) {
            let mut moves = Vec::new();
            for id in page {
                if let Some(entry) = self.spool.entry(*id).await?.filter(|entry| entry.progress.state == State::Committed) {
                    let to = Progress { state: State::Registered, since: now, not_before: now, attempts: 0, memo: None, ..entry.progress };
                    moves.push(Move { id: *id, to });
                }
            }
            if !moves.is_empty() {
                self.spool.advance(moves).await?;
            }
        }
        tracing::debug!(tenant = %study.tenant, "instances registered");
        Ok(Step::Made)
    }

    /// Hashes of the R3 of a study that we hold.
    async fn commits_held(&self, study: &Study) -> Vec<ReceiptHash> {
        let (receipts, study_uid) = (self.receipts.clone(), study.study_uid.clone());
        let all = tokio::task::spawn_blocking(move || receipts.of_study(&study_uid)).await;
        let all = all.ok().and_then(Result::ok).unwrap_or_default();
        all.iter().filter(|carried| matches!(carried.receipt().statement, Statement::Commit { .. })).map(Carried::hash).collect()
    }

    /// Whether a receipt is the centre's R4 of this revision, over the R3 that we hold.
    fn is_registration(&self, study: &Study, kept: &Kept, held: &[ReceiptHash], carried: &Carried) -> bool {
        let Statement::Registration { study_uid, document_uid, commits, .. } = &carried.receipt().statement else { return false };
        let valid = self.centre_keys.verify(carried).is_ok() && *study_uid == study.study_uid && *document_uid == kept.document_uid;
        // The R4 names the R3 of its manifest; we may hold R3 of other instances too.
        valid
            && match commits {
                Commits::Listed(hashes) => hashes.iter().all(|hash| held.contains(hash)),
                Commits::Root(_) => true,
            }
    }

    async fn fetch_registration(
        &self,
        study: &Study,
        kept: &Kept,
        held: &[ReceiptHash],
        bearing: &Bearing,
        now: Timestamp,
    ) -> Option<Carried> {
        let authorization = self.credentials.authorization(bearing, now).ok()?;
        let Heard::Answer { body: ReceiptsBody::Some(found), .. } = self.peer.receipts(&study.study_uid, &authorization).await else {
            return None;
        };
        found.into_iter().find(|carried| self.is_registration(study, kept, held, carried))
    }

    /// An earlier attempt may have arrived: what stands under our uniqueId decides (03 §4.11, verification queries).
    async fn confirm(&self, study: &Study, kept: &Kept, bearing: &Bearing) -> Result<Step, SpoolError> {
        match self.standing(kept, bearing).await {
            Some(standing) => self.settle(study, kept, standing, bearing).await,
            None => Ok(self.later(study, Class::Net)),
        }
    }

    async fn settle(&self, study: &Study, kept: &Kept, standing: Standing, bearing: &Bearing) -> Result<Step, SpoolError> {
        match standing {
            Standing::Approved => self.published(study, kept, None, bearing).await,
            Standing::Deprecated => self.derive_target(study, bearing).await,
            Standing::Other => self.hold(study, &self.outcomes.decide(Signal::Event(Event::Unknown), &Context::default())).await,
            // It is submitted again.
            Standing::Absent => Ok(self.later(study, Class::Net)),
        }
    }

    /// `None`: the registry gave no answer.
    async fn standing(&self, kept: &Kept, bearing: &Bearing) -> Option<Standing> {
        let parameters = [("$XDSDocumentEntryUniqueId", vec![kept.document_uid.clone()])];
        let entries = self.ask("GetDocuments", &parameters, bearing).await?;
        Some(match entries.iter().find(|entry| entry.unique_id == kept.document_uid) {
            None => Standing::Absent,
            Some(entry) if entry.hash.as_deref() != Some(kept.hash.as_str()) => Standing::Other,
            Some(entry) if entry.approved => Standing::Approved,
            Some(_) => Standing::Deprecated,
        })
    }

    /// Row 15 of profile 02 §7: which entry of the study is the current one.
    async fn derive_target(&self, study: &Study, bearing: &Bearing) -> Result<Step, SpoolError> {
        let parameters = [
            ("$XDSDocumentEntryPatientId", vec![bearing.patient.to_cx()]),
            ("$XDSDocumentEntryStatus", vec!["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved".to_owned()]),
            ("$XDSDocumentEntryReferenceIdList", vec![format!("{}^^^^urn:ihe:iti:xds:2016:studyInstanceUID", study.study_uid)]),
        ];
        let Some(entries) = self.ask("FindDocumentsByReferenceId", &parameters, bearing).await else {
            return Ok(self.later(study, Class::Net));
        };
        // A report may name the study too; only a manifest is ever replaced.
        let approved: Vec<&Registered> = entries.iter().filter(|entry| entry.approved && entry.manifest).collect();
        let note = match approved[..] {
            [] => None,
            [entry] => {
                let long_ago = Published { entry_uuid: entry.entry_uuid.clone(), content_key: "-".to_owned(), at: Timestamp::UNIX_EPOCH };
                Some(long_ago.note())
            }
            _ => return self.hold(study, &self.outcomes.decide(Signal::Event(Event::Unknown), &Context::default())).await,
        };
        self.note(&study.tenant, &study.study_uid, PUBLISHED, note).await?;
        self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
        Ok(self.later(study, Class::Net))
    }

    async fn ask(&self, query: &str, parameters: &[(&str, Vec<String>)], bearing: &Bearing) -> Option<Vec<Registered>> {
        let now = (self.clock)();
        let definition = iti_18::Definition::of_name(query)?;
        let body = iti_18::encode(definition, iti_18::ReturnType::LeafClass, None, parameters);
        let security = self.credentials.security(bearing, now).ok()?;
        // A query is no change: its MessageID only has to be new.
        let fresh = hex::encode(Sha256::digest(format!("{query}|{parameters:?}|{now}|{}", uniform())));
        let message_id = mapping::ids::uuid(&fresh);
        match self.peer.query(&message_id, &body, &security).await {
            Heard::Answer { body: SoapBody::Response { status, entries, .. }, .. } if status.ends_with(":Success") => Some(entries),
            heard => {
                let (decided, retry_after, _) = self.judge(heard, &Context { query: true, ..Context::default() });
                self.record(Channel::Soap, 0, &decided, retry_after.as_deref());
                None
            }
        }
    }
}

fn registrable(rules: &Rules, modality: &str) -> bool {
    rules.parameters().modalities_registrable.iter().any(|known| known == modality)
}

/// `IDR-<letter>-<digits>`.
fn is_rule_id(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
    word.strip_prefix("IDR-").is_some_and(|rest| rest.len() <= 5 && rest.bytes().all(plain))
}

fn member(entry: &Entry, attributes: mapping::Attributes, rules: &Rules) -> Member {
    let class = &entry.record.announced.sop_class_uid;
    let family = rules.sop_classes().class(class).map_or("", |class| class.family.as_str());
    Member {
        sop_instance_uid: entry.record.announced.sop_instance_uid.clone(),
        sop_class_uid: class.clone(),
        series_instance_uid: entry.record.facts.series_uid.clone(),
        digest: entry.record.digest,
        received: entry.record.facts.received,
        value_type: value_type(family),
        attributes,
    }
}
