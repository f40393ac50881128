//! The rejection note of a correction: it names exactly the originals that were forwarded (profile 01 §8.3).
//!
//! It is made of the objects that it names, so that the same order gives the same note again, and kept as an accepted object of
//! their study.

use std::collections::BTreeSet;

use anyhow::Context as _;
use idr_profile::mapping::{Attributes as Described, Rejected, RejectionNote, value_type};
use idr_profile::rules::Disposition;
use idr_profile::scan::Scan;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::kept::Kept;
use super::{Corrections, NOTE_CAUSE, Work, facts, rules, verdict};
use crate::forward::read_header;
use crate::rejudge;
use crate::spool::{Announced, Entry, Facts, Record, SpoolId};

/// Transfer syntax of notes.
const EXPLICIT_VR_LITTLE_ENDIAN: &str = idr_ihe::manifest::EXPLICIT_VR_LITTLE_ENDIAN;

/// A note that is not kept yet.
pub(super) struct Note {
    pub uid: String,
    record: Record,
    data: Vec<u8>,
    scan: Scan,
}

impl Corrections {
    /// The note on some of the originals; `todo` are those that are not superseded yet.
    pub(super) async fn note(&self, kept: &Kept, work: &Work, named: &BTreeSet<String>, todo: &[Entry]) -> anyhow::Result<Note> {
        let mut entries: Vec<Entry> =
            todo.iter().filter(|entry| named.contains(&entry.record.announced.sop_instance_uid)).cloned().collect();
        for uid in named {
            if entries.iter().all(|entry| entry.record.announced.sop_instance_uid != *uid) {
                let found = self.spool().instances(&kept.tenant, uid).await?;
                let original = found.into_iter().find(|entry| kept.superseded(entry));
                entries.push(original.with_context(|| format!("original {uid} is not here any more"))?);
            }
        }
        let place = |entry: &Entry| (entry.record.facts.series_uid.clone(), entry.record.announced.sop_instance_uid.clone());
        entries.sort_by_cached_key(place);
        let first = entries.first().context("a rejection note names nothing")?;
        let header = read_header(self.spool(), first).await?;
        let sop_classes = rules(work, &first.record)?.sop_classes();
        let family = |class: &str| sop_classes.class(class).map_or("", |class| class.family.as_str()).to_owned();
        let rejected: Vec<Rejected> = entries
            .iter()
            .map(|entry| Rejected {
                sop_class_uid: entry.record.announced.sop_class_uid.clone(),
                series_instance_uid: entry.record.facts.series_uid.clone(),
                sop_instance_uid: entry.record.announced.sop_instance_uid.clone(),
                value_type: value_type(&family(&entry.record.announced.sop_class_uid)),
            })
            .collect();
        let config = &work.in_force.config;
        let inbound = config.inbound.iter().find(|row| row.name == first.record.announced.inbound);
        let (title, modifier) = work.order.title();
        let note = RejectionNote {
            study_instance_uid: &kept.study_uid,
            title,
            modifier,
            rejected: &rejected,
            attributes: &Described::of(header.data_set()),
            patient: first.record.facts.patient_id.as_ref().context("the rejected objects name no patient")?,
            accession_issuer: inbound.and_then(|row| row.accession_issuer.as_deref()),
            at: kept.at,
            zone: &TimeZone::get(&config.site.timezone)?,
        };
        let (uid, data) = (note.uid(), note.to_data_set()?);
        let announced = Announced {
            sop_class_uid: idr_ihe::manifest::SOP_CLASS_UID.to_owned(),
            sop_instance_uid: uid.clone(),
            transfer_syntax_uid: EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
            peer_address: None,
            tls_peer_sha256: None,
            ..first.record.announced.clone()
        };
        let record = Record { announced, facts: Facts { received: work.now, ..first.record.facts.clone() }, ..first.record.clone() };
        let mut scanner = rejudge::scanner(&record, rules(work, &record)?);
        scanner.feed(&data);
        Ok(Note { uid, record, data, scan: scanner.finish() })
    }

    /// The rules that reject a note; `None` if they take it.
    pub(super) fn note_judged(&self, note: &Note, work: &Work) -> anyhow::Result<Option<Vec<Value>>> {
        let verdict = verdict(&note.scan, &note.record, work)?;
        if verdict.disposition == Disposition::Accept {
            return Ok(None);
        }
        let rejects = verdict.findings.iter().filter(|finding| finding.level.rejects());
        Ok(Some(rejects.map(|found| json!({"rule": found.rule, "words": found.comment, "remedy": found.remedy})).collect()))
    }

    /// The ordinary commit of a note. The same bytes again are the object that is here.
    pub(super) async fn commit_note(&self, note: Note, work: &Work) -> anyhow::Result<SpoolId> {
        let verdict = verdict(&note.scan, &note.record, work)?;
        anyhow::ensure!(
            verdict.disposition == Disposition::Accept,
            "the rules changed while objects were corrected: give the command again"
        );
        let facts = facts(&verdict, work, &note.record, NOTE_CAUSE).context("a rejection note has no UIDs")?;
        let mut writer = self.spool().open(note.record.announced).await?;
        for piece in note.data.chunks(PIECE_BYTES) {
            writer.write(piece).await?;
        }
        Ok(writer.commit(facts).await?.id)
    }
}

/// Bytes of a note that are written at once.
const PIECE_BYTES: usize = 256 << 10;
