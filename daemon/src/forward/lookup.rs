//! What the registry has: verification queries (profile 03 §4.11, 02 §5.3, §7 row 15).

use std::time::Duration;

use idr_ihe::transaction::iti_18;
use idr_profile::mapping;
use idr_profile::outcome::{Class, Context, Decided, Event, Outcome, Response, Severity, Signal, Soap};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Forward;
use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::peer::Registered;
use super::register::{PENDING, PUBLISHED, Published, Step};
use super::revisions::{Kept, is_content_key};
use crate::spool::{SpoolError, Study};

/// What stands in the registry under the uniqueId of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The revision, Approved.
    Approved,
    /// The revision, Deprecated.
    Deprecated,
    /// Another document.
    Other,
    /// Nothing.
    Absent,
}

impl Forward {
    /// What became of a revision that may have arrived. What is absent, the caller deals with.
    pub(super) async fn settle(
        &self,
        pass: &Pass<'_>,
        study: &Study,
        kept: &Kept,
        standing: Standing,
        bearing: &Bearing,
    ) -> Result<Option<Step>, SpoolError> {
        match standing {
            Standing::Approved => self.published(study, kept, None).await.map(Some),
            Standing::Deprecated => self.derive_target(pass, study, bearing).await.map(Some),
            Standing::Other => {
                let errors = [("XDSNonIdenticalHash", Severity::Error)];
                let response = Response { status: "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure", errors: &errors };
                let decided = self.outcomes.decide(Signal::Soap(Soap::Response { status: 200, response }), &Context::default());
                self.hold(study, &decided, "another document stands under its uniqueId").await.map(Some)
            }
            Standing::Absent => Ok(None),
        }
    }

    /// What stands under the uniqueId of a revision. `Err`: the row of what came instead of an answer.
    pub(super) async fn standing(&self, pass: &Pass<'_>, kept: &Kept, bearing: &Bearing) -> Result<Standing, Decided> {
        let parameters = [("$XDSDocumentEntryUniqueId", vec![kept.document_uid.clone()])];
        let entries = self.ask(pass, "GetDocuments", &parameters, bearing).await?;
        Ok(match entries.iter().find(|entry| entry.unique_id == kept.document_uid) {
            None => Standing::Absent,
            Some(entry) if entry.hash.as_deref() != Some(kept.hash.as_str()) => Standing::Other,
            Some(entry) if entry.approved => Standing::Approved,
            Some(_) => Standing::Deprecated,
        })
    }

    /// Which entry of the study is our current one (02 §7 row 15). Ours is what has the uniqueId of a revision that was made
    /// here: it follows from study, this source and content key, so that an entry of another source is never taken for it.
    pub(super) async fn derive_target(&self, pass: &Pass<'_>, study: &Study, bearing: &Bearing) -> Result<Step, SpoolError> {
        let own = match self.own_documents(study).await? {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(cause = %error, study = %study.study_uid, "the kept manifests of a study cannot be listed; check the state folder");
                return Ok(self.trouble());
            }
        };
        let parameters = [
            ("$XDSDocumentEntryPatientId", vec![bearing.patient.to_cx()]),
            ("$XDSDocumentEntryStatus", vec!["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved".to_owned()]),
            ("$XDSDocumentEntryReferenceIdList", vec![format!("{}^^^^urn:ihe:iti:xds:2016:studyInstanceUID", study.study_uid)]),
        ];
        let entries = match self.ask(pass, "FindDocumentsByReferenceId", &parameters, bearing).await {
            Ok(entries) => entries,
            Err(decided) => return self.unanswered(study, &decided).await,
        };
        // A report may name the study too; only a manifest is ever replaced.
        let approved = entries.iter().filter(|entry| entry.approved && entry.manifest);
        let ours: Vec<(&Registered, &String)> = approved
            .filter_map(|entry| own.iter().find(|(document_uid, _)| *document_uid == entry.unique_id).map(|(_, key)| (entry, key)))
            .collect();
        let note = match ours[..] {
            [] => None,
            // Long ago: the interval between revisions has passed.
            [(entry, key)] => {
                Some(Published { entry_uuid: entry.entry_uuid.clone(), content_key: key.clone(), at: Timestamp::UNIX_EPOCH }.note())
            }
            _ => {
                let decided = self.outcomes.decide(Signal::Event(Event::Unknown), &Context::default());
                return self.hold(study, &decided, "two of its manifests are Approved in the registry").await;
            }
        };
        self.note(&study.tenant, &study.study_uid, PUBLISHED, note).await?;
        self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
        Ok(self.later(study, Class::Net))
    }

    /// uniqueId and content key of every revision of a study that was made here.
    async fn own_documents(&self, study: &Study) -> Result<std::io::Result<Vec<(String, String)>>, SpoolError> {
        let (revisions, tenant, study_uid) = (self.revisions.clone(), study.tenant.clone(), study.study_uid.clone());
        let listed = self.hop.run(move || revisions.content_keys(&tenant, &study_uid)).await?;
        Ok(listed.map(|mut keys| {
            keys.extend(study.notes.get(PENDING).cloned());
            keys.extend(Published::read(study.notes.get(PUBLISHED)).map(|published| published.content_key));
            keys.retain(|key| is_content_key(key));
            keys.sort();
            keys.dedup();
            let source = &self.config.load().site.source_oid;
            keys.into_iter().map(|key| (mapping::ids::kos_uid(&study.study_uid, source, &key), key)).collect()
        }))
    }

    /// A verification query had no answer: as its row says.
    pub(super) async fn unanswered(&self, study: &Study, decided: &Decided) -> Result<Step, SpoolError> {
        match decided.outcome {
            Outcome::Hold(_) | Outcome::Quarantine => self.hold(study, decided, "the registry refused the query for it").await,
            Outcome::Retry(class) => Ok(self.later(study, class)),
            Outcome::Queued => Ok(Step::After(Duration::ZERO)),
            _ => Ok(self.later(study, Class::Slow)),
        }
    }

    async fn ask(
        &self,
        pass: &Pass<'_>,
        query: &str,
        parameters: &[(&str, Vec<String>)],
        bearing: &Bearing,
    ) -> Result<Vec<Registered>, Decided> {
        let now = self.clock.now();
        let context = Context { query: true, ..Context::default() };
        if !pass.holds() {
            // Not a failure; the next round goes on from here.
            return Err(self.outcomes.decide(Signal::Event(Event::BreakerOpen), &context));
        }
        let definition = iti_18::Definition::of_name(query).expect("both queries stand in the table");
        let body = iti_18::encode(definition, iti_18::ReturnType::LeafClass, None, parameters);
        let link = self.link();
        let security = match link.credentials.security(bearing, now, self.random()) {
            Ok(security) => security,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                return Err(self.outcomes.decide(Signal::Event(Event::Key), &context));
            }
        };
        // A query is no change: its MessageID only has to be new.
        let fresh = hex::encode(Sha256::digest(self.random()));
        let message_id = mapping::ids::uuid(&fresh);
        let heard = link.peer.query(&message_id, &body, &security).await;
        let judged = self.judge(heard, &context);
        self.record(Channel::Soap, 0, &judged.decided, judged.retry_after.as_deref());
        match judged.decided.outcome {
            Outcome::Done => Ok(judged.entries),
            _ => Err(judged.decided),
        }
    }
}
