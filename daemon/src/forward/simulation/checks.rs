//! The promises of profile 11 §7, asked between lives and at the end; each error names the one that broke.

#![expect(clippy::await_holding_refcell_ref, reason = "nothing is handed over while it is looked at what was")]

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use idr_profile::receipt::{Carried, Statement};
use sha2::{Digest as _, Sha256};

use super::modality::Image;
use super::world::{Fate, Site, World};
use crate::forward::register::{HOLD, PENDING};
use crate::forward::tests::centre::Call;
use crate::spool::crash;
use crate::spool::files::Recovery;
use crate::spool::sample::{self, tenant};
use crate::spool::{Entry, FileSpool, Spool as _, State};

/// Receipts by study, each read once.
type Read = BTreeMap<String, Rc<Vec<Carried>>>;

impl World {
    /// A start finds nothing that a person must look at.
    pub fn no_alarm(&self, recovery: &Recovery) -> Result<(), String> {
        let alarms: Vec<String> = recovery.alarms().into_iter().filter(|alarm| !alarm.ends_with("Nothing to do.")).collect();
        match alarms.is_empty() {
            true => Ok(()),
            false => Err(format!("11 §7.1: a start finds what was lost: {alarms:?}")),
        }
    }

    /// After a life: what was acknowledged is held with exactly one R1, and nothing is said to be at the centre that is not.
    pub fn look_between(&mut self) -> Result<(), String> {
        let (spool, recovery) = self.open_spool().map_err(|error| format!("a start on a disk that works: {error}"))?;
        self.no_alarm(&recovery)?;
        let mut read = Read::default();
        let looked = futures::executor::block_on(async {
            for image in self.modality.borrow().images.iter() {
                self.is_held(&spool, image, &self.receipts(&spool, image, &mut read)?).await?;
            }
            Ok::<_, String>(())
        });
        drop(spool);
        self.disk = self.disk.killed();
        looked
    }

    /// What the log has of the study of an image.
    fn receipts(&self, spool: &FileSpool, image: &Image, read: &mut Read) -> Result<Rc<Vec<Carried>>, String> {
        if let Some(known) = read.get(&image.study_uid) {
            return Ok(known.clone());
        }
        let found = Rc::new(spool.receipts().of_study(&image.study_uid).map_err(|error| error.to_string())?);
        read.insert(image.study_uid.clone(), found.clone());
        Ok(found)
    }

    /// The one entry of an image, if it is here.
    async fn entry(&self, spool: &FileSpool, image: &Image) -> Result<Option<Entry>, String> {
        let found = spool.instances(&tenant(), &image.sop_instance_uid).await.map_err(|error| error.to_string())?;
        match <[Entry; 1]>::try_from(found) {
            Ok([entry]) => Ok(Some(entry)),
            Err(found) if found.is_empty() => Ok(None),
            Err(found) => Err(format!("11 §7.1: {} is held {} times", image.sop_instance_uid, found.len())),
        }
    }

    async fn is_held(&self, spool: &FileSpool, image: &Image, receipts: &[Carried]) -> Result<Option<Entry>, String> {
        let uid = &image.sop_instance_uid;
        let Some(entry) = self.entry(spool, image).await? else {
            return match image.acknowledged {
                true => Err(format!("11 §7.1: {uid} was acknowledged and is not held")),
                false => Ok(None),
            };
        };
        if !image.tried {
            return Err(format!("11 §7.1: nobody handed {uid} over"));
        }
        let first: Vec<&Carried> = receipts
            .iter()
            .filter(|r1| matches!(&r1.receipt().statement, Statement::Acceptance { object, .. } if object.sop_instance_uid == *uid))
            .collect();
        match first.as_slice() {
            [r1] if r1.hash() == entry.r1 => {}
            other => return Err(format!("11 §7.1: {uid} has {} R1, or another than its record says", other.len())),
        }
        let at_centre = matches!(entry.progress.state, State::Sent | State::Committed | State::Registered);
        if at_centre && !self.centre.has(uid) {
            return Err(format!("03 §3.3: {uid} is {} here, and the centre does not have it", entry.progress.state));
        }
        if entry.progress.state == State::Registered {
            let listed = self.centre.entries(&image.study_uid).iter().any(|manifest| manifest.members.contains(uid));
            if !listed {
                return Err(format!("03 §3.3: {uid} is registered here, and no manifest at the centre lists it"));
            }
        }
        Ok(Some(entry))
    }

    fn fate(&self, image: &Image) -> Fate {
        if let Some((_, fate)) = self.refused.iter().find(|(uid, _)| *uid == image.sop_instance_uid) {
            return *fate;
        }
        let modality = self.modality.borrow();
        let with_study = |(uid, fate): &(String, Fate)| {
            *fate == Fate::HeldWithStudy && modality.images[modality.by_uid[uid]].study_uid == image.study_uid
        };
        if self.refused.iter().any(with_study) { Fate::HeldWithStudy } else { Fate::Registered }
    }

    /// What has not come to its end yet.
    pub async fn left(&self, site: &Site) -> Result<Option<String>, String> {
        let mut refused_seen = BTreeSet::new();
        let modality = self.modality.borrow();
        for image in &modality.images {
            let uid = &image.sop_instance_uid;
            if !image.acknowledged {
                return Ok(Some(format!("{uid} is not taken: {}", image.said)));
            }
            let Some(entry) = self.entry(&site.spool, image).await? else {
                return Err(format!("11 §7.1: {uid} was acknowledged and is not held"));
            };
            let state = &entry.progress.state;
            let there = match self.fate(image) {
                Fate::Registered => *state == State::Registered,
                Fate::Quarantined => matches!(state, State::Quarantined(_)),
                Fate::Held => matches!(state, State::Held(cause) if cause.as_str() != "incomplete"),
                Fate::HeldWithStudy => {
                    refused_seen.insert(image.study_uid.clone());
                    // Of the others of the study, what had gone on before is as it was.
                    let refused = self.refused.iter().any(|(refused, _)| refused == uid);
                    if refused { matches!(state, State::Held(_)) } else { !matches!(state, State::Quarantined(_)) }
                }
            };
            if !there {
                return Ok(Some(format!("{uid} of study {} is {state} ({:?})", image.study_uid, entry.progress.outcome)));
            }
        }
        for study_uid in modality.images.iter().map(|image| &image.study_uid).collect::<BTreeSet<_>>() {
            let study = site.spool.study(&tenant(), study_uid).await.map_err(|error| error.to_string())?.expect("held");
            let held = study.notes.contains_key(HOLD);
            if refused_seen.contains(study_uid) {
                if !held {
                    return Ok(Some(format!("study {study_uid} is not held")));
                }
                continue;
            }
            if held {
                return Ok(Some(format!("study {study_uid} waits for an operator: {:?}", study.notes)));
            }
            if study.notes.contains_key(PENDING) || study.notes.contains_key("r4") {
                return Ok(Some(format!("study {study_uid} has something pending: {:?}", study.notes)));
            }
        }
        Ok(None)
    }

    /// At the end: each acknowledged object is at the centre once, as handed over, and registered once, with all its receipts; or set
    /// aside with a reason, as the centre refuses it.
    pub async fn drained(&mut self, site: &Site) -> Result<(), String> {
        let mut stored: BTreeMap<String, Vec<[u8; 32]>> = BTreeMap::new();
        for (uid, sha256) in self.centre.ledger() {
            stored.entry(uid).or_default().push(sha256);
        }
        let modality = self.modality.borrow();
        let (mut manifests, mut read) = (BTreeSet::new(), Read::default());
        for image in &modality.images {
            let uid = &image.sop_instance_uid;
            let receipts = self.receipts(&site.spool, image, &mut read)?;
            let entry = self.is_held(&site.spool, image, &receipts).await?.ok_or_else(|| format!("11 §7.1: {uid} is gone"))?;
            let bytes = sample::read(&*site.spool.seam(), entry.id())
                .await
                .map_err(|error| format!("03 §3.1: {uid} cannot be read here: {error}"))?;
            if <[u8; 32]>::from(Sha256::digest(&bytes)) != image.sha256 {
                return Err(format!("03 §3.1: {uid} is not here as it was handed over"));
            }
            self.figures.instances += 1;
            if let Some(held) = stored.get(uid)
                && *held != [image.sha256]
            {
                return Err(format!("11 §7.2: {uid} was stored {} times at the centre, or other bytes", held.len()));
            }
            if self.fate(image) != Fate::Registered {
                self.figures.set_aside += 1;
                continue;
            }
            if !stored.contains_key(uid) || !self.centre.has(uid) {
                return Err(format!("11 §7.2: {uid} is not at the centre"));
            }
            let current = self.centre.current(&image.study_uid);
            let [manifest] = current.as_slice() else {
                return Err(format!("02 §7: study {} has {} approved manifests", image.study_uid, current.len()));
            };
            if manifest.members.iter().filter(|member| *member == uid).count() != 1 {
                return Err(format!("11 §7.2: {uid} does not stand once in its manifest"));
            }
            manifests.insert(image.study_uid.clone());
            self.has_receipts(&receipts, image, &entry, &manifest.unique_id, &manifest.members)?;
        }
        for (uid, _) in self.centre.ledger() {
            if !modality.by_uid.contains_key(&uid) {
                return Err(format!("nobody handed over what the centre holds: {uid}"));
            }
        }
        self.figures.manifests += manifests.len() as u64;
        self.figures.requests += [Call::Store, Call::Receipts, Call::Register, Call::Query]
            .iter()
            .map(|call| self.centre.calls(*call).len() as u64)
            .sum::<u64>();
        Ok(())
    }

    /// R2, R3 and R4 of an image in the site's log.
    fn has_receipts(
        &self,
        receipts: &[Carried],
        image: &Image,
        entry: &Entry,
        document_uid: &str,
        members: &[String],
    ) -> Result<(), String> {
        let uid = &image.sop_instance_uid;
        let (mut r2, mut r3, mut r4) = (0, 0, 0);
        let commits: Vec<_> = members.iter().filter_map(|member| self.centre.commit_of(member)).map(|r3| r3.hash()).collect();
        for carried in receipts {
            match &carried.receipt().statement {
                Statement::HandOver { object, acceptance, .. } if object.sop_instance_uid == *uid && *acceptance == entry.r1 => r2 += 1,
                Statement::Commit { object, acceptance, .. }
                    if object.sop_instance_uid == *uid && object.digest == entry.record.digest && *acceptance == Some(entry.r1) =>
                {
                    r3 += 1;
                }
                Statement::Registration { document_uid: document, commits: listed, .. }
                    if document == document_uid && listed.are(&commits) =>
                {
                    r4 += 1;
                }
                _ => {}
            }
        }
        match r2 >= 1 && r3 == 1 && r4 >= 1 {
            true => Ok(()),
            false => Err(format!("11 §7.2: {uid} has {r2} R2, {r3} R3 and {r4} R4 of its manifest in the log")),
        }
    }

    /// The log of receipts verifies as a whole, and no bytes have two R1.
    pub fn check_log(&self) -> Result<(), String> {
        let receipts = crash::check_log(std::sync::Arc::new(self.disk.clone()), "11 §7.3: the log of receipts");
        match crash::acceptances(&receipts).iter().find(|(_, count)| **count != 1) {
            None => Ok(()),
            Some(((uid, _), count)) => Err(format!("11 §7.1: {uid} has {count} R1 in the log")),
        }
    }
}
