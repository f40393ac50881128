//! Whether two patients may be one, and what a person has to look at afterwards (profile 06 §7.2 to §7.5).

use idr_ihe::hl7::Location;
use idr_ihe::metadata::PatientId;
use idr_profile::adt::{Code, Refusal, Source, merge_rule};
use idr_profile::identifier::HETU_AUTHORITY;

use super::feed::Fault;
use crate::central::Central;
use crate::store::Tx;
use crate::store::merges::NewMerge;
use crate::store::patients::{Origin, Patient};

/// Who says that two ids are one person.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// `A40`, `A18`, `A47`, `operator`.
    pub kind: &'a str,
    /// `MSH-3|MSH-4`, or the operator.
    pub by: &'a str,
    /// MSH-10.
    pub message: Option<&'a str>,
    /// The rights of a source; an operator has all of them.
    pub source: Option<&'a Source>,
}

/// What became of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The merge; `None`: both were one already.
    pub id: Option<String>,
    /// The old id was not known (W-10).
    pub old_unknown: bool,
    /// The survivor was made.
    pub created: bool,
}

/// Merges `old` into `survivor`. Unknown ones are made (§7.3).
///
/// # Errors
/// H-15, or the store.
pub async fn merge(central: &Central, tx: &mut Tx, told: Told<'_>, old: &PatientId, survivor: &PatientId) -> Result<Merged, Fault> {
    let now = central.now();
    let known = (tx.patient_key(old).await?.is_some(), tx.patient_key(survivor).await?.is_some());
    // Known ids as heads, unknown ones as themselves: refused before anything is made.
    let (old_head, head) = (primary(tx, old).await?, primary(tx, survivor).await?);
    if known == (true, true) && old_head == head {
        return match old_head == *old {
            // The survivor of an earlier merge would go into what went into it.
            true => Err(rule("The merge is the opposite of an earlier one").into()),
            false => Ok(Merged { id: None, old_unknown: false, created: false }),
        };
    }
    let changes_hetu = allowed(told, &old_head, &head)?;
    tx.ensure_patient(survivor, Origin::Feed, now).await?;
    tx.ensure_patient(old, Origin::Feed, now).await?;
    let (survivor, old) = (known_patient(tx, survivor).await?, known_patient(tx, old).await?);
    let id = join(central, tx, told, &old, &survivor, None, changes_hetu).await?;
    Ok(Merged { id: Some(id), old_unknown: !known.0, created: !known.1 })
}

/// Gives the patient of `old` the primary id `new` (A47). `None`: it has it.
///
/// # Errors
/// H-10, H-11, H-15, or the store.
pub async fn rename(central: &Central, tx: &mut Tx, told: Told<'_>, old: &PatientId, new: &PatientId) -> Result<Option<String>, Fault> {
    let Some(patient) = tx.patient(old).await? else {
        return Err(Refusal::at(Code::Unknown, Location::field("MRG", 1, 1), "Identifier to change is not known").into());
    };
    let target = tx.patient(new).await?;
    if let Some(target) = &target {
        if target.key == patient.key {
            let is_repeat = patient.ids[0] == *new || patient.ids[0] != *old;
            return if is_repeat { Ok(None) } else { Err(rule("The change is the opposite of an earlier one").into()) };
        }
        if tx.has_data(&target.key).await? {
            return Err(Refusal::at(Code::Duplicate, Location::field("PID", 1, 3), "The new identifier is in use; send A40").into());
        }
    }
    let changes_hetu = allowed(told, &patient.ids[0], new)?;
    tx.ensure_patient(new, Origin::Feed, central.now()).await?;
    let target = known_patient(tx, new).await?;
    join(central, tx, told, &target, &patient, Some(new), changes_hetu).await.map(Some)
}

/// Checks 5 and 6 of §7.2, of the patients that the ids name.
fn allowed(told: Told<'_>, old: &PatientId, survivor: &PatientId) -> Result<bool, Refusal> {
    let refused = |refusal: Refusal| Refusal { location: Some(Location::field("MRG", 1, 1)), ..refusal };
    match told.source {
        Some(source) => merge_rule(old, survivor, source).map_err(refused),
        None if old.authority == HETU_AUTHORITY && survivor.authority != HETU_AUTHORITY => {
            Err(rule("A personal identity code does not go into a temporary identifier"))
        }
        None => Ok(old.authority == HETU_AUTHORITY),
    }
}

async fn join(
    central: &Central,
    tx: &mut Tx,
    told: Told<'_>,
    old: &Patient,
    survivor: &Patient,
    primary: Option<&PatientId>,
    changes_hetu: bool,
) -> Result<String, Fault> {
    let mut keys = [&old.key, &survivor.key];
    keys.sort();
    for key in keys {
        tx.lock_patient(key).await?;
    }
    let id = central.new_id().to_string();
    let now = central.now();
    // A renamed hetu is looked at as a change of hetu, not as two persons who differ.
    let differ = primary.is_none()
        && [old, survivor].iter().all(|patient| patient.ids[0].authority == HETU_AUTHORITY)
        && differ(central, tx, old, survivor).await?;
    let new = NewMerge {
        id: &id,
        kind: told.kind,
        survivor,
        old,
        primary,
        told_by: told.by,
        message: told.message,
        rule: central.identity.none_and_active,
        now,
    };
    let combined = tx.merge(&new).await?;
    for reason in [
        changes_hetu.then_some("a personal identity code was replaced by another"),
        differ.then_some("sex or birth date of the two patients differ"),
        combined.then_some("declarations of the two patients were combined into others than stood under each"),
    ]
    .into_iter()
    .flatten()
    {
        tx.raise_review(&central.random_id().to_string(), &survivor.key, Some(&id), reason, now).await?;
    }
    Ok(id)
}

/// Check 7: sex or birth date of two patients differ, as far as both are known.
async fn differ(central: &Central, tx: &mut Tx, a: &Patient, b: &Patient) -> Result<bool, Fault> {
    let (a, b) = (super::feed::shown(central, tx, &a.key).await?, super::feed::shown(central, tx, &b.key).await?);
    let differ = |a: Option<String>, b: Option<String>| a.zip(b).is_some_and(|(a, b)| a != b);
    Ok(differ(a.sex, b.sex) || a.birth_date.zip(b.birth_date).is_some_and(|(a, b)| a != b))
}

/// The primary id of whom an id names; the id itself if it names nobody yet.
async fn primary(tx: &mut Tx, id: &PatientId) -> Result<PatientId, Fault> {
    Ok(tx.patient(id).await?.map_or_else(|| id.clone(), |patient| patient.ids[0].clone()))
}

async fn known_patient(tx: &mut Tx, id: &PatientId) -> Result<Patient, Fault> {
    tx.patient(id).await?.ok_or_else(|| rule("The patient is not there any more").into())
}

fn rule(what: &str) -> Refusal {
    Refusal::at(Code::Rule, Location::field("MRG", 1, 1), what)
}
