//! Withdrawal: the published manifest of a study of which no instance is left (profile 02 §7 rows 5 and 6).
//!
//! When all that a published manifest names was rejected by a note or superseded by a correction, and nothing else of the study
//! is at the centre, its entry is made Deprecated by ITI-57. The request is kept before its first attempt, beside the revision
//! that it withdraws, and note `pending` of the study says that it is under way. What comes later is a first manifest again.
//!
//! # Failure
//! Before each attempt, but after an answer, the registry is asked what stands under the uniqueId: an entry that is Deprecated was
//! withdrawn. A peer that does not support ITI-57 answers a fault, and the withdrawal waits for an operator; of a centre
//! that registers every other study the breaker is not told (docs/profile-notes.md).
//!
//! # Standard
//! ITI TF-2 §3.57.4.1.3.3.2 Update availabilityStatus; profile 02 §4.4, §5.1, 08 §7.1.

use std::time::Duration;

use idr_ihe::ebxml::{self, Placement};
use idr_ihe::transaction::iti_42;
use idr_profile::mapping::{self, FolderUse, OnEmpty, Settings, Study as Described};
use idr_profile::outcome::{Class, Context, Effect, Event, Outcome, Signal};
use idr_profile::rules::study::rejects_others;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::lookup::Standing;
use super::peer::Withdrawal;
use super::register::{Members, PENDING, PUBLISHED, Published, Step};
use super::revisions::Kept;
use super::{Forward, describe, read_header};
use crate::spool::{Entry, SpoolError, Study, Tenant};

/// First word of note [`PENDING`] when what is under way is the withdrawal of the revision that the second word names.
const WORD: &str = "withdraw";

/// The content key of the revision whose withdrawal is under way; `None` if it is a revision that is.
pub(super) fn withdraws(pending: &str) -> Option<&str> {
    pending.split_once(' ').filter(|(word, _)| *word == WORD).map(|(_, content_key)| content_key)
}

/// A withdrawal as it is sent in every attempt.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptWithdrawal {
    /// Of the revision that is withdrawn.
    pub content_key: String,
    /// `wsa:MessageID`.
    pub message_id: String,
    /// Body's child.
    pub body: String,
}

impl Forward {
    /// Makes the withdrawal of what is published and keeps it, if M is empty because all of it was rejected or superseded.
    pub(super) async fn begin_withdrawal(&self, study: &Study, published: &Published, members: &Members) -> Result<Step, SpoolError> {
        let kept = match self.kept(study, &published.content_key).await? {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(cause = %error, study = %study.study_uid, "the published manifest is not kept here, so that it cannot be withdrawn");
                return self.hold(study, &self.not_built(), "the manifest that is to be withdrawn cannot be read").await;
            }
        };
        let mut withdrawn = Vec::with_capacity(kept.members.len());
        for id in &kept.members {
            let Some(entry) = self.spool.entry(*id).await? else { return Ok(Step::Waits) };
            if !entry.progress.unlisted && !entry.progress.state.is_set_aside() {
                // It is on its way again, or waits: it comes back into M, or somebody decides about it.
                return Ok(Step::Waits);
            }
            withdrawn.push(entry);
        }
        let maps = self.maps.load_full();
        match maps.domain.on_empty {
            OnEmpty::Deprecate => {}
            OnEmpty::Hold => return self.hold(study, &self.not_built(), "no instance of it is left, and on_empty is \"hold\"").await,
            OnEmpty::Delete => return self.hold(study, &self.not_built(), "ITI-62 is not supported: set on_empty to \"deprecate\"").await,
        }
        let Some(reference) = self.reference(&mut withdrawn) else { return Ok(Step::Waits) };
        if self.bearing(&study.tenant, &reference).await?.is_none() {
            return Ok(self.undetermined(study));
        }
        let withdrawal = match self.withdrawal(&reference, published, &kept, self.changed(members).await?).await? {
            Ok(withdrawal) => withdrawal,
            Err(error) => {
                tracing::error!(cause = %error, "the withdrawal of a manifest cannot be made");
                return self.hold(study, &self.not_built(), "its withdrawal cannot be described").await;
            }
        };
        let (revisions, tenant, uid, kept) = (self.revisions.clone(), study.tenant.clone(), study.study_uid.clone(), withdrawal.clone());
        if let Err(error) = self.hop.run(move || revisions.keep_withdrawal(&tenant, &uid, &kept)).await? {
            tracing::error!(cause = %error, "a withdrawal cannot be kept; nothing is sent");
            return Ok(self.trouble());
        }
        let pending = format!("{WORD} {}", withdrawal.content_key);
        self.note(&study.tenant, &study.study_uid, PENDING, Some(pending)).await?;
        // What stands in the registry is asked first: somebody at the centre may have withdrawn it.
        self.memory().answered.remove(&(study.tenant.clone(), study.study_uid.clone()));
        Ok(Step::Made)
    }

    /// Goes on with a withdrawal that was kept, and perhaps sent.
    pub(super) async fn continue_withdrawal(&self, pass: &Pass<'_>, study: &Study, content_key: &str) -> Result<Step, SpoolError> {
        let (revisions, tenant, uid, key) = (self.revisions.clone(), study.tenant.clone(), study.study_uid.clone(), content_key.to_owned());
        let read = move || Ok::<_, std::io::Error>((revisions.read(&tenant, &uid, &key)?, revisions.read_withdrawal(&tenant, &uid, &key)?));
        let (kept, withdrawal) = match self.hop.run(read).await? {
            Ok(both) => both,
            Err(error) => {
                tracing::error!(cause = %error, study = %study.study_uid, "a kept withdrawal cannot be read");
                return self.hold(study, &self.not_built(), "its kept withdrawal cannot be read").await;
            }
        };
        let Some(first) = self.first_of(&kept).await? else { return Ok(Step::Waits) };
        let Some(bearing) = self.bearing(&study.tenant, &first).await? else { return Ok(self.undetermined(study)) };
        let key = (study.tenant.clone(), study.study_uid.clone());
        let released = self.memory().reconsider.contains(&key);
        if !released && self.memory().answered.contains(&key) {
            return self.withdraw(pass, study, withdrawal, &bearing).await;
        }
        match self.standing(pass, &kept, &bearing).await {
            Err(decided) => self.unanswered(study, &decided).await,
            // By an attempt of ours, or by somebody at the centre. Another revision of ours may be Approved: then that is it.
            Ok(Standing::Deprecated | Standing::Absent) => {
                self.memory().reconsider.remove(&key);
                let step = self.derive_target(pass, study, &bearing).await?;
                self.tell_withdrawn(study).await?;
                Ok(step)
            }
            Ok(standing @ Standing::Other) => Ok(self.settle(pass, study, &kept, standing, &bearing).await?.unwrap_or(Step::Waits)),
            // An operator has released one that was refused: it is made again, from the maps as they are now.
            Ok(Standing::Approved) if released => {
                self.memory().reconsider.remove(&key);
                self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
                Ok(Step::Made)
            }
            Ok(Standing::Approved) => self.withdraw(pass, study, withdrawal, &bearing).await,
        }
    }

    async fn withdraw(&self, pass: &Pass<'_>, study: &Study, kept: KeptWithdrawal, bearing: &Bearing) -> Result<Step, SpoolError> {
        let now = self.clock.now();
        if !pass.holds() {
            return Ok(Step::After(Duration::ZERO));
        }
        let key = (study.tenant.clone(), study.study_uid.clone());
        let (context, link) = (Context::default(), self.link());
        let security = match link.credentials.security(bearing, now, self.random()) {
            Ok(security) => security,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                let decided = self.outcomes.decide(Signal::Event(Event::Key), &context);
                self.record(Channel::Soap, 0, &decided, None);
                return self.hold(study, &decided, "no assertion can be signed").await;
            }
        };
        self.memory().answered.remove(&key);
        let heard = link.peer.withdraw(&Withdrawal { message_id: kept.message_id, body: kept.body, security }).await;
        let judged = self.judge(heard, &context);
        let held = matches!(judged.decided.outcome, Outcome::Hold(_) | Outcome::Quarantine);
        // A refusal of this transaction says nothing of those that every study needs.
        if !(judged.answered && held) {
            self.record(Channel::Soap, 0, &judged.decided, judged.retry_after.as_deref());
        }
        if judged.answered {
            self.memory().answered.insert(key.clone());
        }
        if judged.decided.effects.contains(&Effect::ReDerive) || judged.decided.outcome == Outcome::DoneDuplicate {
            // What stands there decides.
            self.memory().answered.remove(&key);
            return Ok(self.later(study, Class::Net));
        }
        match judged.decided.outcome {
            Outcome::Done => {
                // In this order a crash between leaves a withdrawal that is found to be done.
                self.note(&study.tenant, &study.study_uid, PUBLISHED, None).await?;
                self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
                self.memory().answered.remove(&key);
                self.manifest_probed(&study.tenant, &study.study_uid);
                self.tell_withdrawn(study).await?;
                Ok(Step::Made)
            }
            Outcome::Retry(class) => Ok(self.later(study, class)),
            _ if held => self.hold(study, &judged.decided, "the centre did not withdraw its manifest (ITI-57)").await,
            _ => Ok(self.later(study, Class::Slow)),
        }
    }

    async fn tell_withdrawn(&self, study: &Study) -> Result<(), SpoolError> {
        let now = self.spool.study(&study.tenant, &study.study_uid).await?;
        if now.is_some_and(|study| !study.notes.contains_key(PUBLISHED) && !study.notes.contains_key(PENDING)) {
            tracing::info!(tenant = %study.tenant, study = %study.study_uid, "the manifest of a study was withdrawn: no instance of it is left");
        }
        Ok(())
    }

    /// The reference instance (02 §2.4), by the records.
    fn reference(&self, members: &mut [Entry]) -> Option<Entry> {
        let rules = self.rules.load();
        let place = |entry: &Entry| (entry.record.facts.series_uid.clone(), entry.record.announced.sop_instance_uid.clone());
        members.sort_by_key(place);
        let registrable = |entry: &&Entry| {
            let set = entry.record.facts.rule_set.split('/').next().and_then(|id| rules.set(id));
            let modality = entry.record.facts.modality.as_deref().unwrap_or_default();
            set.is_some_and(|set| set.rules_for(None).parameters().modalities_registrable.iter().any(|known| known == modality))
        };
        members.iter().find(registrable).or(members.first()).cloned()
    }

    async fn withdrawal(
        &self,
        reference: &Entry,
        published: &Published,
        kept: &Kept,
        changed: Option<Timestamp>,
    ) -> Result<anyhow::Result<KeptWithdrawal>, SpoolError> {
        let described = describe(self.spool.as_ref(), reference, &self.rules.load()).await?;
        let (config, maps) = (self.config.load_full(), self.maps.load_full());
        let facts = &reference.record.facts;
        let (Some(patient), Some(controlled)) = (facts.patient_id.as_ref(), maps.controlled(reference, &described)) else {
            return Ok(Err(anyhow::anyhow!("patient or controller is not known")));
        };
        let inbound = config.inbound.iter().find(|inbound| inbound.name == reference.record.announced.inbound);
        let input = Described {
            study_instance_uid: &facts.study_uid,
            source: &config.site.source_oid,
            members: &[],
            changed,
            source_patient: patient,
            patient,
            accession_issuer: inbound.and_then(|inbound| inbound.accession_issuer.as_deref()),
            language: inbound.and_then(|inbound| inbound.language.as_deref()),
            facility_type: None,
            service_event: None,
            controlled,
            map_revision: maps.controllers.revision,
            rule_set: &facts.rule_set,
            replaces: None,
            folder: FolderUse::None,
        };
        let settings = Settings {
            domain: &maps.domain,
            zone: &maps.zone,
            registrable: &|_| true,
            study_codes: &|_| None,
            procedure_coding_schemes: &[],
        };
        let made = mapping::withdraw(&input, &settings, &described.attributes, &kept.document_uid, &published.entry_uuid);
        Ok(made.map_err(anyhow::Error::from).map(|(submission, message_id)| KeptWithdrawal {
            content_key: published.content_key.clone(),
            message_id,
            body: iti_42::encode(&ebxml::encode(&submission, Placement::Beside)),
        }))
    }

    /// Whether the published manifest of a study names what is set aside, or a revision or withdrawal is under way.
    ///
    /// # Errors
    /// The spool.
    pub async fn names_set_aside(&self, tenant: &Tenant, study_uid: &str) -> Result<bool, SpoolError> {
        let Some(study) = self.spool.study(tenant, study_uid).await? else { return Ok(false) };
        if study.notes.contains_key(PENDING) {
            return Ok(true);
        }
        let Some(published) = Published::read(study.notes.get(PUBLISHED)) else { return Ok(false) };
        let kept = match self.kept(&study, &published.content_key).await? {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(cause = %error, study = %study.study_uid, "a published manifest is not kept here: what it names is not known");
                return Ok(true);
            }
        };
        for id in kept.members {
            if self.spool.entry(id).await?.is_none_or(|entry| entry.progress.state.is_set_aside()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// When what was applied to the study last came: its rejection notes, and corrections (02 §5.2).
    pub(super) async fn changed(&self, members: &Members) -> Result<Option<Timestamp>, SpoolError> {
        let mut last = members.superseded;
        for entry in &members.key_objects {
            let scan = match read_header(self.spool.as_ref(), entry).await {
                Ok(scan) => Some(scan),
                Err(SpoolError::Damaged { .. } | SpoolError::Disk { .. } | SpoolError::Unknown(_)) => None,
                Err(error) => return Err(error),
            };
            if scan.is_none_or(|scan| rejects_others(scan.data_set(), &entry.record.facts.study_uid)) {
                last = last.max(Some(entry.record.facts.received));
            }
        }
        Ok(last)
    }
}
