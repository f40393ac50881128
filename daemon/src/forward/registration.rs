//! Receipt R4 of a published manifest: verified, kept, and asked for until it is here (profile 11 §3).
//!
//! It comes in the answer to RAD-68 or by the GET of the receipts. Its absence undoes nothing: note [`R4`] of the study says
//! for which revision it is due and since when. Two loops write it, each reads it first while it holds [`Forward`]'s `r4`, so
//! that a receipt of one revision ends no wait for that of another. The notes are found again after a restart by one walk over
//! the registered objects, a page at a time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use idr_profile::digest::Digest;
use idr_profile::outcome::Class;
use idr_profile::receipt::{Carried, ReceiptHash, Statement};
use jiff::{SignedDuration, Timestamp};

use super::Forward;
use super::gate::Pass;
use super::pages::Page;
use super::revisions::Kept;
use crate::spool::{Entry, Record, SpoolError, SpoolId, Study, Tenant};

/// Note: R4 of a revision has not come; `<content key> <instant>`.
pub(super) const R4: &str = "r4";
/// How long it may be missing before that is a warning (profile 11 §3).
const WARN_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Registered objects of a page of the walk.
const PAGE: usize = 500;

/// When a missing R4 is asked for next.
#[derive(Clone, Copy)]
pub(super) struct Due {
    /// Monotonic.
    at: Duration,
    failures: u32,
    warned: bool,
}

/// What of R4 is remembered between rounds.
#[derive(Default)]
pub(super) struct Missing {
    due: HashMap<(Tenant, String), Due>,
    /// How far the walk is; no entry: at its beginning; `None`: it is over.
    walk: HashMap<Tenant, Option<SpoolId>>,
}

impl Missing {
    pub(super) fn count(&self) -> usize {
        self.due.len()
    }
}

impl Forward {
    /// Keeps the R4 of a revision that the registry has, or notes that it is due.
    pub(super) async fn keep_registration(&self, study: &Study, kept: &Kept, receipt: Option<Carried>) -> Result<(), SpoolError> {
        let known = self.known_receipts(study).await?;
        let members = self.entries(&kept.members).await?;
        match receipt.filter(|receipt| self.is_registration(study, kept, &members, &known, receipt)) {
            Some(receipt) => self.registration_is_here(study, &kept.content_key, receipt).await,
            None => self.registration_is_due(study, &kept.content_key).await,
        }
    }

    /// Whether the log has an R4 of a document.
    pub(super) async fn has_registration(&self, study: &Study, document: &str) -> Result<bool, SpoolError> {
        let of_document = |carried: &Carried| matches!(&carried.receipt().statement, Statement::Registration { document_uid, .. } if document_uid == document);
        Ok(self.known_receipts(study).await?.iter().any(of_document))
    }

    /// Notes that the R4 of a revision is to be asked for.
    pub(super) async fn registration_is_due(&self, study: &Study, content_key: &str) -> Result<(), SpoolError> {
        tracing::warn!(tenant = %study.tenant, study = %study.study_uid, "registered, but no valid receipt R4 has come; it is asked for");
        let now = self.clock.now();
        let _order = self.r4.lock().await;
        let noted = self.noted(&study.tenant, &study.study_uid).await?;
        if noted.is_none_or(|(_, noted, _)| noted != content_key) {
            self.note(&study.tenant, &study.study_uid, R4, Some(format!("{content_key} {now}"))).await?;
        }
        let key = (study.tenant.clone(), study.study_uid.clone());
        self.memory().missing.due.insert(key, Due { at: self.clock.monotonic(), failures: 0, warned: false });
        Ok(())
    }

    /// Keeps an R4, and ends the wait for it if it is the one that is waited for.
    async fn registration_is_here(&self, study: &Study, content_key: &str, receipt: Carried) -> Result<(), SpoolError> {
        self.keep(vec![receipt]).await?;
        let _order = self.r4.lock().await;
        let key = (study.tenant.clone(), study.study_uid.clone());
        match self.noted(&study.tenant, &study.study_uid).await? {
            // That of another revision has not come: a later one was registered meanwhile, or an earlier one before a restart, of
            // which the walk found nothing registered.
            Some((_, noted, _)) if noted != content_key => {
                let due = Due { at: self.clock.monotonic(), failures: 0, warned: false };
                self.memory().missing.due.entry(key).or_insert(due);
                return Ok(());
            }
            Some(_) => self.note(&study.tenant, &study.study_uid, R4, None).await?,
            None => {}
        }
        self.memory().missing.due.remove(&key);
        Ok(())
    }

    /// A study with the revision whose R4 is due, and since when. Asked while `r4` is held.
    async fn noted(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<(Study, String, Timestamp)>, SpoolError> {
        let Some(study) = self.spool.study(tenant, study_uid).await? else { return Ok(None) };
        let Some((content_key, since)) = study.notes.get(R4).and_then(|note| note.split_once(' ')) else { return Ok(None) };
        let (content_key, since) = (content_key.to_owned(), since.parse().unwrap_or(self.clock.now()));
        Ok(Some((study, content_key, since)))
    }

    /// Asks for R4 that are due. Says whether one came.
    pub(super) async fn due_registrations(&self, pass: &Pass<'_>, tenant: &Tenant) -> Result<bool, SpoolError> {
        self.walk(tenant).await?;
        let now = self.clock.monotonic();
        let due: Vec<(String, Due)> = {
            let memory = self.memory();
            let due = memory.missing.due.iter().filter(|((whose, _), due)| whose == tenant && due.at <= now);
            due.map(|((_, study_uid), due)| (study_uid.clone(), *due)).collect()
        };
        let mut came = false;
        for (study_uid, due) in due {
            if !pass.holds() {
                break;
            }
            match self.ask_registration(pass, tenant, &study_uid, due).await {
                Ok(true) => came = true,
                Ok(false) => {}
                Err(error) => {
                    self.ask_again(tenant, &study_uid, due);
                    tracing::error!(cause = %error, remedy = error.remedy(), "a receipt R4 could not be asked for; the others go on");
                }
            }
        }
        Ok(came)
    }

    async fn ask_registration(&self, pass: &Pass<'_>, tenant: &Tenant, study_uid: &str, due: Due) -> Result<bool, SpoolError> {
        let (study, content_key) = {
            let _order = self.r4.lock().await;
            let Some((study, content_key, since)) = self.noted(tenant, study_uid).await? else {
                self.memory().missing.due.remove(&(tenant.clone(), study_uid.to_owned()));
                return Ok(false);
            };
            let due = Due { warned: self.warn_missing(&study, since, due.warned), ..due };
            self.ask_again(tenant, study_uid, due);
            (study, content_key)
        };
        let kept = match self.kept(&study, &content_key).await? {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(cause = %error, study = %study_uid, "a kept manifest cannot be read; its receipt R4 cannot be verified");
                return Ok(false);
            }
        };
        let members = self.entries(&kept.members).await?;
        let Some(first) = members.first() else { return Ok(false) };
        let Some(bearing) = self.bearing(tenant, first).await? else { return Ok(false) };
        let mut known = self.known_receipts(&study).await?;
        // An R4 that was kept before a crash, and still is waited for, counts when it comes again.
        let here = known.iter().filter(|carried| matches!(carried.receipt().statement, Statement::Commit { .. }));
        let mut hashes: HashSet<ReceiptHash> = here.map(Carried::hash).collect();
        let of_members: HashSet<&str> = members.iter().map(|member| member.record.announced.sop_instance_uid.as_str()).collect();
        let mut registrations = Vec::new();
        let mut pages = self.pages(pass, study_uid, &bearing, first.id().0);
        loop {
            match pages.next().await {
                Page::Some(found) => {
                    // Of a page only that is kept which is the centre's word, speaks of this revision and is not here yet.
                    for carried in found {
                        let kind = match &carried.receipt().statement {
                            Statement::Commit { object, .. } if of_members.contains(object.sop_instance_uid.as_str()) => &mut known,
                            Statement::Registration { document_uid, .. } if *document_uid == kept.document_uid => &mut registrations,
                            _ => continue,
                        };
                        if self.link().centre_keys.verify(&carried).is_ok() && hashes.insert(carried.hash()) {
                            kind.push(carried);
                        }
                    }
                }
                Page::End => break,
                Page::Stopped | Page::Not(_) => return Ok(false),
            }
        }
        let Some(receipt) = registrations.into_iter().find(|receipt| self.is_registration(&study, &kept, &members, &known, receipt)) else {
            return Ok(false);
        };
        self.registration_is_here(&study, &content_key, receipt).await?;
        tracing::info!(%tenant, study = %study_uid, "receipt R4 has come");
        Ok(true)
    }

    fn ask_again(&self, tenant: &Tenant, study_uid: &str, due: Due) {
        let at = self.clock.monotonic() + self.outcomes.delay(Class::Commit, due.failures, self.uniform());
        let next = Due { at, failures: due.failures.saturating_add(1), ..due };
        self.memory().missing.due.insert((tenant.clone(), study_uid.to_owned()), next);
    }

    /// R4 that are missing for long enough to be warned of.
    #[cfg(test)]
    pub(super) fn missing_warned(&self) -> usize {
        self.memory().missing.due.values().filter(|due| due.warned).count()
    }

    fn warn_missing(&self, study: &Study, since: Timestamp, warned: bool) -> bool {
        let late = self.clock.now().duration_since(since) > WARN_AFTER;
        if late && !warned {
            tracing::warn!(
                tenant = %study.tenant, study = %study.study_uid, %since,
                "the receipt R4 of a registered manifest has not come for more than 24 h: its local copies stay here; ask the centre"
            );
        }
        warned || late
    }

    /// The next page of registered objects, for notes of an earlier run.
    async fn walk(&self, tenant: &Tenant) -> Result<(), SpoolError> {
        let after = match self.memory().missing.walk.get(tenant) {
            Some(None) => return Ok(()),
            Some(Some(after)) => Some(*after),
            None => None,
        };
        let page = self.spool.in_state(tenant, "registered", after, PAGE).await?;
        let studies: BTreeSet<&str> = page.iter().map(|entry| entry.record.facts.study_uid.as_str()).collect();
        for study_uid in studies {
            let noted = self.spool.study(tenant, study_uid).await?.is_some_and(|study| study.notes.contains_key(R4));
            if noted {
                let due = Due { at: self.clock.monotonic(), failures: 0, warned: false };
                self.memory().missing.due.entry((tenant.clone(), study_uid.to_owned())).or_insert(due);
            }
        }
        self.memory().missing.walk.insert(tenant.clone(), page.last().map(Entry::id));
        Ok(())
    }

    /// Receipts of a study in our log.
    async fn known_receipts(&self, study: &Study) -> Result<Vec<Carried>, SpoolError> {
        let (receipts, study_uid) = (self.receipts.clone(), study.study_uid.clone());
        Ok(self.hop.run(move || receipts.of_study(&study_uid)).await??)
    }

    async fn entries(&self, ids: &[SpoolId]) -> Result<Vec<Entry>, SpoolError> {
        let mut entries = Vec::with_capacity(ids.len());
        for id in ids {
            entries.push(self.spool.entry(*id).await?.ok_or(SpoolError::Unknown(*id))?);
        }
        Ok(entries)
    }

    /// Whether a receipt is the centre's R4 of this revision: it names exactly the R3 of its members, by list or by root.
    fn is_registration(&self, study: &Study, kept: &Kept, members: &[Entry], known: &[Carried], carried: &Carried) -> bool {
        let Statement::Registration { study_uid, document_uid, commits, .. } = &carried.receipt().statement else { return false };
        if *study_uid != study.study_uid || *document_uid != kept.document_uid || self.link().centre_keys.verify(carried).is_err() {
            return false;
        }
        let mut committed: HashMap<(&str, Digest), BTreeSet<ReceiptHash>> = HashMap::new();
        for Record { announced, digest, .. } in members.iter().map(|member| &member.record) {
            committed.insert((announced.sop_instance_uid.as_str(), *digest), BTreeSet::new());
        }
        for receipt in known {
            let Statement::Commit { object, .. } = &receipt.receipt().statement else { continue };
            if let Some(hashes) = committed.get_mut(&(object.sop_instance_uid.as_str(), object.digest))
                && self.link().centre_keys.verify(receipt).is_ok()
            {
                hashes.insert(receipt.hash());
            }
        }
        let all: Vec<ReceiptHash> = committed.values().flatten().copied().collect();
        committed.values().all(|hashes| !hashes.is_empty()) && commits.are(&all)
    }
}
