//! Steps that scenarios, demo and soak share: send until acknowledged, wait until registered, fetch and compare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use idr_ihe::manifest::Manifest;
use idr_ihe::metadata::{DocumentEntry, PatientId};
use idr_ihe::transaction::registry_response::Status;
use idr_profile::digest::Digest;

use crate::consumer::Consumer;
use crate::fixtures::person::Person;
use crate::fixtures::study::Study;
use crate::modality::{Answer, Modality, Outgoing, Report};
use crate::poll;

/// Issuer of identity codes.
pub const HETU: &str = "1.2.246.21";

/// The patient id of a person in the affinity domain.
pub fn patient_id(person: &Person) -> PatientId {
    PatientId { id: person.hetu.clone(), authority: HETU.to_owned() }
}

/// The instances of studies, in order.
pub fn outgoing<'a>(studies: impl IntoIterator<Item = &'a Study>) -> Arc<[Outgoing]> {
    studies.into_iter().flat_map(|study| &study.instances).map(Outgoing::from).collect()
}

/// Sends everything once; fails unless each is acknowledged.
///
/// # Errors
/// An instance was refused or got no answer.
pub async fn send_all(modality: &Modality, objects: &Arc<[Outgoing]>, associations: usize) -> anyhow::Result<()> {
    let transfer = modality.send(objects, associations, |_| {}).await;
    for (object, answer) in objects.iter().zip(&transfer.answers) {
        ensure!(answer.is_acknowledged(), "{}: {answer:?}; associations: {:?}", object.sop_instance, transfer.failures);
    }
    Ok(())
}

/// Sends what has no answer yet, again and again, until everything has one: what a modality does whose gateway dies under it.
/// Gives the answers in order, and how many transfers it took.
///
/// # Errors
/// Not everything has an answer after `deadline`.
pub async fn send_until_answered(
    modality: &Modality,
    objects: &Arc<[Outgoing]>,
    associations: usize,
    deadline: Duration,
    progress: impl Fn(Report) + Clone + Send + 'static,
) -> anyhow::Result<(Vec<Answer>, usize)> {
    let end = std::time::Instant::now() + deadline;
    let mut answers = vec![Answer::Unanswered; objects.len()];
    let mut left: Vec<usize> = (0..objects.len()).collect();
    let mut rounds = 0;
    loop {
        rounds += 1;
        let part: Arc<[Outgoing]> = left.iter().map(|index| objects[*index].clone()).collect();
        let (indexes, report) = (left.clone(), progress.clone());
        let named = move |part: Report| report(Report { index: indexes[part.index], ..part });
        let transfer = modality.send(&part, associations, named).await;
        for (answer, index) in transfer.answers.into_iter().zip(&left) {
            answers[*index] = answer;
        }
        left.retain(|index| answers[*index] == Answer::Unanswered);
        if left.is_empty() {
            return Ok((answers, rounds));
        }
        if std::time::Instant::now() > end {
            bail!("{} of {} instances have no answer after {} s: {:?}", left.len(), objects.len(), deadline.as_secs(), transfer.failures);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A study as the centre has it registered.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its only Approved entry.
    pub entry: DocumentEntry,
    /// The manifest, as retrieved.
    pub manifest: Vec<u8>,
    /// SOP Instance UIDs by series.
    pub series: Vec<(String, Vec<String>)>,
}

impl Registered {
    /// repositoryUniqueId of the entry.
    pub fn repository(&self) -> &str {
        self.entry.repository_unique_id.as_deref().unwrap_or_default()
    }

    /// All SOP Instance UIDs.
    pub fn instances(&self) -> BTreeSet<&str> {
        self.series.iter().flat_map(|(_, instances)| instances).map(String::as_str).collect()
    }
}

/// Looks once: the study's Approved entry and what its manifest names; `None` if there is no entry.
///
/// # Errors
/// The query or the retrieval fails, there is more than one Approved entry, or the manifest cannot be read.
pub async fn look(consumer: &Consumer, patient: &PatientId, study: &str) -> anyhow::Result<Option<Registered>> {
    let found = consumer.find_study(patient, study).await?;
    ensure!(found.status == Status::Success, "ITI-18 answered {:?}: {:?}", found.status, found.errors);
    ensure!(found.entries.len() <= 1, "study {study} has {} Approved entries", found.entries.len());
    let Some(entry) = found.entries.into_iter().next() else { return Ok(None) };
    let repository = entry.repository_unique_id.clone().context("the entry has no repositoryUniqueId")?;
    let retrieved = consumer.iti_43(patient, &repository, &[&entry.unique_id]).await?;
    let document = retrieved.documents.into_iter().next().with_context(|| format!("ITI-43 gave no manifest: {:?}", retrieved.errors))?;
    let manifest = Manifest::read(&document.content)?;
    let series = manifest.evidence.iter().flat_map(|evidence| &evidence.series).map(|series| {
        let uid = series.series_instance_uid.clone().unwrap_or_default();
        (uid, series.instances.iter().map(|(_, instance)| instance.clone()).collect())
    });
    Ok(Some(Registered { entry, series: series.collect(), manifest: document.content }))
}

/// Waits until the study's one Approved manifest names exactly these instances.
///
/// # Errors
/// Not in time; or a request fails.
pub async fn registered(consumer: &Consumer, patient: &PatientId, study: &str, instances: &BTreeSet<&str>) -> anyhow::Result<Registered> {
    let what = format!("study {study} is registered with {} instances", instances.len());
    poll::until(&what, poll::DEADLINE, || async {
        match look(consumer, patient, study).await {
            Ok(Some(registered)) if registered.instances() == *instances => Some(Ok(registered)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    })
    .await?
}

/// [`registered`] for a study of the fixtures.
///
/// # Errors
/// As [`registered`].
pub async fn study_registered(consumer: &Consumer, study: &Study) -> anyhow::Result<Registered> {
    let instances = study.instances.iter().map(|instance| instance.sop_instance.as_str()).collect();
    registered(consumer, &patient_id(&study.person), &study.uid, &instances).await
}

/// Retrieves every instance of a registered study by RAD-69 and by WADO-RS; the digests of both, by SOP Instance UID.
///
/// # Errors
/// A request fails, or an answer lacks an instance.
pub async fn fetch(
    consumer: &Consumer,
    patient: &PatientId,
    study: &str,
    registered: &Registered,
) -> anyhow::Result<BTreeMap<String, (Digest, Digest)>> {
    let retrieved = consumer.rad_69(patient, registered.repository(), study, &registered.series).await?;
    ensure!(retrieved.status == Status::Success, "RAD-69 answered {:?}: {:?}", retrieved.status, retrieved.errors);
    let by_rad_69: BTreeMap<_, _> = retrieved.documents.into_iter().map(|document| (document.unique_id.clone(), document.digest)).collect();
    let mut digests = BTreeMap::new();
    for (series, instances) in &registered.series {
        for instance in instances {
            let by_wado = consumer.wado_instance(patient, study, series, instance).await?;
            ensure!(by_wado.unique_id == *instance, "WADO-RS gave {} for {instance}", by_wado.unique_id);
            let rad_69 = by_rad_69.get(instance).copied().flatten().with_context(|| format!("RAD-69 lacks {instance}"))?;
            digests.insert(instance.clone(), (rad_69, by_wado.digest.context("WADO-RS gave no DICOM file")?));
        }
    }
    Ok(digests)
}

/// [`fetch`], and both digests of every instance equal those of what was sent.
///
/// # Errors
/// As [`fetch`]; a digest differs.
pub async fn fetch_and_compare(consumer: &Consumer, study: &Study, registered: &Registered) -> anyhow::Result<()> {
    let digests = fetch(consumer, &patient_id(&study.person), &study.uid, registered).await?;
    for instance in &study.instances {
        let (rad_69, wado) = digests.get(&instance.sop_instance).with_context(|| format!("{} did not come back", instance.sop_instance))?;
        let sent = instance.digest();
        ensure!(*rad_69 == sent && *wado == sent, "{} changed: sent {sent}, RAD-69 {rad_69}, WADO-RS {wado}", instance.sop_instance);
    }
    Ok(())
}
