//! `patient …`: who is whom, as an operator sees it, joins it, and takes it apart again (profile 06 §7.5).
//!
//! What is shown is identity alone: ids, merges, links, what has to be looked at, which source told something and when. Names and what
//! a source told are not shown. Everything is recorded, with the reason that is given.

use clap::Subcommand;
use idr_ihe::metadata::PatientId;
use idr_profile::access::Freshness;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Operator;
use crate::audit::{Entry, Kind, Outcome, Record};
use crate::central::Central;
use crate::consent::log;
use crate::identity::merging::{self, Told};
use crate::store::Tx;
use crate::store::merges::Merge;
use crate::store::patients::Patient;

/// Commands about patients.
#[derive(Debug, Subcommand)]
pub enum PatientCommand {
    /// Ids of a patient, its merges, links, sources, and what has to be looked at.
    Show {
        /// Any id of the patient, as CX: `010190-900P^^^&1.2.246.21&ISO`.
        #[arg(long)]
        patient: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Make two patients one: the old id's patient goes into the survivor.
    Merge {
        /// Id of the patient that goes into the other, as CX.
        #[arg(long)]
        old: String,
        /// Id of the patient that stays, as CX.
        #[arg(long)]
        survivor: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Link two patients that are not one: a denial of either holds for both.
    Link {
        /// Id of one, as CX.
        #[arg(long)]
        patient: String,
        /// Id of the other, as CX.
        #[arg(long)]
        with: String,
        /// End the link instead.
        #[arg(long)]
        end: bool,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Take a merge back. Where the rules ask for two persons, the first call asks and a second person's call does it.
    Split {
        /// Id of the merge, as `patient show` names it.
        merge: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// What has to be looked at, of all patients; or say that one was.
    Reviews {
        /// Id of a task that was looked at.
        #[arg(long)]
        close: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// What goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Identity {
    Show { patient: PatientId },
    Merge { old: PatientId, survivor: PatientId, reason: String },
    Link { patient: PatientId, with: PatientId, end: bool, reason: String },
    Split { merge: String, reason: String },
    Reviews { close: Option<String> },
}

impl PatientCommand {
    /// The request, and whether its answer is for machines.
    pub(super) fn into_request(self) -> anyhow::Result<(Identity, bool)> {
        let id = |text: &str| super::patient(text);
        Ok(match self {
            Self::Show { patient, json } => (Identity::Show { patient: id(&patient)? }, json),
            Self::Merge { old, survivor, reason, json } => (Identity::Merge { old: id(&old)?, survivor: id(&survivor)?, reason }, json),
            Self::Link { patient, with, end, reason, json } => {
                (Identity::Link { patient: id(&patient)?, with: id(&with)?, end, reason }, json)
            }
            Self::Split { merge, reason, json } => (Identity::Split { merge, reason }, json),
            Self::Reviews { close, json } => (Identity::Reviews { close }, json),
        })
    }
}

/// Does a command.
///
/// # Errors
/// What kept it from being done; nothing was.
pub(super) async fn perform(central: &Central, operator: &Operator, request: Identity) -> anyhow::Result<Value> {
    if let Identity::Merge { reason, .. } | Identity::Link { reason, .. } | Identity::Split { reason, .. } = &request {
        anyhow::ensure!((1..=500).contains(&reason.trim().chars().count()), "--reason has 1 to 500 characters");
    }
    match request {
        Identity::Show { patient } => show(central, operator, &patient).await,
        Identity::Merge { old, survivor, reason } => merge(central, operator, &old, &survivor, &reason).await,
        Identity::Link { patient, with, end, reason } => link(central, operator, [&patient, &with], end, &reason).await,
        Identity::Split { merge, reason } => split(central, operator, &merge, &reason).await,
        Identity::Reviews { close } => reviews(central, operator, close.as_deref()).await,
    }
}

/// A patient id in canonical form. The error does not repeat it.
fn checked(central: &Central, id: &PatientId) -> anyhow::Result<PatientId> {
    let today = central.today();
    let local = &central.sources.local_issuers;
    Ok(idr_profile::identifier::check(id, &central.identity, central.config.environment, local, today)?.id)
}

fn record(central: &Central, operator: &Operator, patient: &PatientId, what: &str, reason: Option<&str>) -> Record {
    let mut record = operator.record(central, Kind::U, "identity");
    record.patient = Some(patient.clone());
    record.status = Some(what.to_owned());
    record.care_reason = reason.map(str::to_owned);
    record
}

/// Opening records, commit, closing.
async fn commit(central: &Central, tx: Tx, records: Vec<Record>) -> anyhow::Result<()> {
    let opening = central.audit.open(records).await?;
    let committed = tx.commit().await;
    let (outcome, status) = if committed.is_ok() { (Outcome::Permit, "done") } else { (Outcome::Failed, "not done") };
    log::close(central, opening, outcome, None, status).await;
    Ok(committed?)
}

async fn known(tx: &mut Tx, id: &PatientId) -> anyhow::Result<Patient> {
    tx.patient(id).await?.ok_or_else(|| anyhow::anyhow!("IDR-H-10: the patient is not known"))
}

async fn show(central: &Central, operator: &Operator, id: &PatientId) -> anyhow::Result<Value> {
    let id = checked(central, id)?;
    central.audit.append(vec![Entry::Record(Box::new(record(central, operator, &id, "shown", None)))]).await?;
    let mut tx = central.store.read().await?;
    let patient = known(&mut tx, &id).await?;
    let mut merges = Vec::new();
    for merge in tx.merges_of(&patient.key, super::LIST_MAX).await? {
        merges.push(json!({
            "id": merge.id,
            "kind": merge.kind,
            "survivor": merge.survivor.to_cx(),
            "old": merge.old.to_cx(),
            "told_by": merge.told_by,
            "merged_at": merge.merged_at,
            "split_asked_by": merge.split_asked.as_ref().map(|(by, _)| by),
            "split_at": merge.split_at,
        }));
    }
    let linked = tx.linked_with(&patient.key).await?.unwrap_or_default();
    let mut links = Vec::new();
    for key in linked {
        links.push(tx.primary_of(&key).await?.to_cx());
    }
    let told = tx.told(&patient.key).await?;
    let sources: Vec<Value> = told.iter().map(|told| json!({"source": told.source, "as_of": told.as_of})).collect();
    let state = tx.patient_state(&id, Freshness::Store { confirmed: central.now() }).await?;
    Ok(json!({
        "patient": patient.ids[0].to_cx(),
        "ids": patient.ids.iter().map(PatientId::to_cx).collect::<Vec<_>>(),
        "labels": patient.labels,
        "sources": sources,
        "merges": merges,
        "linked": links,
        "service_events": state.service_events.len(),
        "reviews": tx.reviews(Some(&patient.key), super::LIST_MAX).await?,
    }))
}

async fn merge(central: &Central, operator: &Operator, old: &PatientId, survivor: &PatientId, reason: &str) -> anyhow::Result<Value> {
    let (old, survivor) = (checked(central, old)?, checked(central, survivor)?);
    anyhow::ensure!(old != survivor, "--old and --survivor are the same identifier");
    let mut tx = central.store.begin().await?;
    // An operator joins what is there: a mistyped id makes nobody.
    for id in [&old, &survivor] {
        known(&mut tx, id).await?;
    }
    let who = operator.name();
    let told = Told { kind: "operator", by: &who, message: None, source: None };
    let merged = merging::merge(central, &mut tx, told, &old, &survivor).await?;
    let Some(id) = merged.id else { return Ok(json!({"repeated": true})) };
    let mut records = vec![
        record(central, operator, &survivor, "merged into", Some(reason)),
        record(central, operator, &old, "merged away", Some(reason)),
    ];
    records.iter_mut().for_each(|record| record.basis_ref = Some(id.clone()));
    commit(central, tx, records).await?;
    Ok(json!({"merge": id, "repeated": false}))
}

async fn link(central: &Central, operator: &Operator, ids: [&PatientId; 2], end: bool, reason: &str) -> anyhow::Result<Value> {
    let (a, b) = (checked(central, ids[0])?, checked(central, ids[1])?);
    let mut tx = central.store.begin().await?;
    let (one, other) = (known(&mut tx, &a).await?, known(&mut tx, &b).await?);
    anyhow::ensure!(one.key != other.key, "both ids name the same patient");
    let now = central.now();
    let changed = if end { tx.unlink(&one.key, &other.key, now).await? } else { tx.link(&a, &b, now).await? };
    anyhow::ensure!(changed || !end, "IDR-H-10: the patients are not linked");
    if changed {
        let what = if end { "unlinked" } else { "linked" };
        let records = [&a, &b].map(|id| record(central, operator, id, what, Some(reason)));
        commit(central, tx, records.into()).await?;
    }
    Ok(json!({"linked": !end, "repeated": !changed}))
}

/// The second of two persons answers within this time; else the first call counts as none.
const ASKED: SignedDuration = SignedDuration::from_hours(24);

async fn split(central: &Central, operator: &Operator, id: &str, reason: &str) -> anyhow::Result<Value> {
    let mut tx = central.store.begin().await?;
    let merge = tx.merge_by_id(id).await?.ok_or_else(|| anyhow::anyhow!("there is no such merge; `patient show` names them"))?;
    anyhow::ensure!(merge.split_at.is_none(), "the merge was taken back already");
    if let Some(later) = tx.later_merge(&merge).await? {
        anyhow::bail!("take back the later merge {later} first");
    }
    let (who, now) = (operator.name(), central.now());
    let asked = merge.split_asked.as_ref().filter(|(_, at)| now.duration_since(*at) < ASKED);
    match asked {
        _ if !central.identity.unmerge_two_person => {}
        Some((first, _)) if *first != who => {}
        Some(_) => anyhow::bail!("a second person has to take it back: ask another operator to give this command"),
        None => {
            tx.ask_split(id, &who, now).await?;
            commit(central, tx, both(central, operator, &merge, "split asked for", reason)).await?;
            return Ok(json!({"merge": id, "done": false, "asked_by": who}));
        }
    }
    let mut fresh = || central.random_id().to_string();
    tx.split(&merge, &who, reason, now, &mut fresh).await?;
    commit(central, tx, both(central, operator, &merge, "split", reason)).await?;
    Ok(json!({"merge": id, "done": true}))
}

fn both(central: &Central, operator: &Operator, merge: &Merge, what: &str, reason: &str) -> Vec<Record> {
    let of = |id: &PatientId| {
        let mut record = record(central, operator, id, what, Some(reason));
        "IDR-UNMERGE".clone_into(&mut record.transaction);
        record.basis_ref = Some(merge.id.clone());
        record
    };
    vec![of(&merge.survivor), of(&merge.old)]
}

async fn reviews(central: &Central, operator: &Operator, close: Option<&str>) -> anyhow::Result<Value> {
    let mut record = operator.record(central, Kind::S, "identity");
    record.basis_ref = close.map(str::to_owned);
    record.status = Some(if close.is_some() { "review closed" } else { "reviews shown" }.to_owned());
    let mut tx = central.store.begin().await?;
    if let Some(id) = close {
        anyhow::ensure!(tx.close_review(id, &operator.name(), central.now()).await?, "there is no such open task");
    }
    commit(central, tx, vec![record]).await?;
    let open = central.store.read().await?.reviews(None, super::LIST_MAX).await?;
    Ok(json!({ "reviews": open }))
}

/// The answer as text.
pub(super) fn text(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    if !answer["patient"].is_null() {
        lines.push(format!("patient {}", text(&answer["patient"])));
        lines.extend(list(&answer["ids"]).iter().skip(1).map(|id| format!("  also {}", text(id))));
        lines.extend(list(&answer["linked"]).iter().map(|id| format!("  linked with {}", text(id))));
        lines.extend(
            list(&answer["sources"]).iter().map(|told| format!("  told by {} as of {}", text(&told["source"]), text(&told["as_of"]))),
        );
        for merge in list(&answer["merges"]) {
            let split = if merge["split_at"].is_null() { String::new() } else { format!(", taken back {}", text(&merge["split_at"])) };
            let (id, kind, old, survivor) = (text(&merge["id"]), text(&merge["kind"]), text(&merge["old"]), text(&merge["survivor"]));
            lines.push(format!("  merge {id}: {kind} of {old} into {survivor}, {}{split}", text(&merge["merged_at"])));
        }
    }
    let open = list(&answer["reviews"]).into_iter().filter(|review| review["closed_at"].is_null());
    lines.extend(open.map(|review| format!("  look at {}: {}", text(&review["id"]), text(&review["reason"]))));
    match (&answer["merge"], &answer["done"], &answer["linked"]) {
        (_, _, Value::Bool(linked)) => lines.push(if *linked { "linked" } else { "not linked any more" }.to_owned()),
        (Value::String(id), Value::Bool(true), _) => lines.push(format!("merge {id} is taken back")),
        (Value::String(id), Value::Bool(false), _) => {
            lines.push(format!("merge {id}: a second person has to give the command within 24 h"))
        }
        (Value::String(id), ..) => lines.push(format!("merged; `patient split {id}` takes it back")),
        _ if answer["repeated"] == true => lines.push("both are one already".to_owned()),
        _ if lines.is_empty() => lines.push("nothing to look at".to_owned()),
        _ => {}
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, other_patient, patient};

    fn temporary() -> PatientId {
        PatientId { id: "150126-9T01".to_owned(), authority: "1.2.246.10.90000011.22.2026".to_owned() }
    }

    async fn known_patients(world: &World) {
        let mut tx = world.central.store.begin().await.expect("a store");
        for id in [patient(), other_patient(), temporary()] {
            tx.ensure_patient(&id, crate::store::patients::Origin::Feed, world.central.now()).await.expect("made");
        }
        tx.commit().await.expect("committed");
    }

    #[tokio::test]
    async fn a_merge_is_shown_and_taken_back_by_two_persons_the_newest_first() {
        let world = World::new().await;
        known_patients(&world).await;
        let central = &world.central;
        let (one, two) = (Operator { uid: 1000 }, Operator { uid: 1001 });
        let merge = async |old: PatientId, survivor: PatientId| {
            let request = Identity::Merge { old, survivor, reason: "same person".to_owned() };
            perform(central, &one, request).await
        };
        let first = merge(temporary(), patient()).await.expect("merged")["merge"].as_str().expect("an id").to_owned();
        assert_eq!(merge(temporary(), patient()).await.expect("repeated")["repeated"], true);
        assert!(merge(patient(), temporary()).await.expect_err("opposite").to_string().starts_with("IDR-H-15"));
        let second = merge(other_patient(), patient()).await.expect("merged")["merge"].as_str().expect("an id").to_owned();
        let show = async |id: PatientId| perform(central, &one, Identity::Show { patient: id }).await.expect("shown");
        let shown = show(temporary()).await;
        assert_eq!((&shown["patient"], shown["ids"].as_array().map(Vec::len)), (&json!(patient().to_cx()), Some(3)));
        assert_eq!(shown["reviews"].as_array().map(Vec::len), Some(1), "a hetu was replaced");
        let split = async |operator: &Operator, merge: &str| {
            let request = Identity::Split { merge: merge.to_owned(), reason: "two persons".to_owned() };
            perform(central, operator, request).await
        };
        assert!(split(&one, &first).await.expect_err("order").to_string().contains(&second), "the newest first");
        assert_eq!(split(&one, &second).await.expect("asked")["done"], false);
        assert!(split(&one, &second).await.expect_err("the same person").to_string().contains("second person"));
        assert_eq!(split(&two, &second).await.expect("done")["done"], true);
        assert!(split(&two, &second).await.expect_err("done").to_string().contains("already"));
        assert_eq!(show(other_patient()).await["patient"], other_patient().to_cx());
        split(&two, &first).await.expect("asked");
        split(&one, &first).await.expect("done");
        let shown = show(temporary()).await;
        assert_eq!((&shown["patient"], shown["merges"].as_array().map(Vec::len)), (&json!(temporary().to_cx()), Some(1)));
        let unmerged = |entry: &Value| entry["opening"]["transaction"] == "IDR-UNMERGE";
        assert_eq!(world.sink.entries().iter().filter(|(_, entry)| unmerged(entry)).count(), 8, "two for each call");
    }

    #[tokio::test]
    async fn a_mistyped_id_makes_nobody_and_a_reason_is_needed() {
        let world = World::new().await;
        known_patients(&world).await;
        let central = &world.central;
        let who = Operator { uid: 1000 };
        let unknown = PatientId { id: "150126-9T77".to_owned(), ..temporary() };
        let request = |reason: &str| Identity::Merge { old: unknown.clone(), survivor: patient(), reason: reason.to_owned() };
        assert!(perform(central, &who, request("same")).await.expect_err("unknown").to_string().starts_with("IDR-H-10"));
        assert!(perform(central, &who, request(" ")).await.expect_err("no reason").to_string().contains("--reason"));
        assert!(perform(central, &who, Identity::Show { patient: unknown }).await.is_err());
        let link = |end| Identity::Link { patient: patient(), with: temporary(), end, reason: "twins".to_owned() };
        assert!(perform(central, &who, link(true)).await.is_err(), "not linked");
        assert_eq!(perform(central, &who, link(false)).await.expect("linked")["repeated"], false);
        let shown = perform(central, &who, Identity::Show { patient: patient() }).await.expect("shown");
        assert_eq!(shown["linked"], json!([temporary().to_cx()]));
        assert!(text(&shown).contains("linked with"), "{}", text(&shown));
        assert_eq!(perform(central, &who, link(true)).await.expect("unlinked")["linked"], false);
        let open = perform(central, &who, Identity::Reviews { close: None }).await.expect("listed");
        assert_eq!(text(&open), "nothing to look at");
    }
}
