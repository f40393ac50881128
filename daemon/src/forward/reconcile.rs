//! Reconciliation: what was handed over of each study, compared with what the centre says that it holds (profile 11 §5).
//!
//! Every study with an object of the last days that the centre has taken, and every other one that it was not yet found to hold all of
//! ([`agreed`]), is listed by number and Merkle root, under the controller and register that its objects were sent with. Of what is not equal the centre lists what it holds; what is missing there or different,
//! and is held here, is queued again: the way forward is that of its first time, and the centre takes what it holds as it is.
//!
//! # On disk
//! `reconcile/<instant>.jsonl` in the state folder: the signed answers of a run, one a line; the last [`RUNS_KEPT`] runs.
//!
//! # Failure
//! An answer that cannot be had, or is not believed, ends the run: what was found so far stands, and was queued.
//!
//! # Bounds
//! [`STUDIES_MAX`] studies in memory with their objects, beside the UIDs of all that are here; [`NAMED_MAX`] differences are named,
//! the others counted; `ROUNDS_MAX` questions about one group of studies.

mod acknowledged;
pub mod agreed;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use idr_profile::digest::Digest;
use idr_profile::receipt::reconcile::{Compared, Differences, Found, Listed, Question, STUDIES_MAX, SignedFindings, root};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::Level;
use super::credentials::Bearing;
use super::gate::Channel;
use super::peer::Heard;
use super::{Forward, queued};
use crate::spool::{Entry, Seen, SpoolId, State, Tenant};
use agreed::{Look, Looked};

/// Differences that are named.
pub const NAMED_MAX: usize = 1_000;
/// Runs whose answers are kept.
pub const RUNS_KEPT: usize = 366;
/// Questions about one group of studies: a study of 100 000 instances needs ten.
const ROUNDS_MAX: usize = 10_000;
/// Objects looked up at once.
const PAGE: usize = 500;
/// States of what the centre has taken.
const TAKEN: [&str; 2] = ["committed", "registered"];

/// What a run found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Studies asked about.
    pub studies: u64,
    /// Their instances here.
    pub instances: u64,
    /// Studies of which the centre holds the same.
    pub equal: u64,
    /// Instances that the centre does not hold.
    pub missing: u64,
    /// Instances of which the centre holds other bytes.
    pub different: u64,
    /// Instances of these studies that the centre holds, and this site has not handed over.
    pub extra: u64,
    /// Of the missing and different ones, those that were queued again.
    pub queued: u64,
    /// Of the missing and different ones, those of studies whose differences an operator has acknowledged.
    pub acknowledged: u64,
    /// Missing and different ones.
    pub differences: Vec<Difference>,
    /// Further ones, which are not named.
    pub unnamed: u64,
    /// Objects that were left out because nobody knows any more under whom they were sent.
    pub undetermined: u64,
}

impl Findings {
    /// Instances that are missing or different.
    pub fn to_repair(&self) -> u64 {
        self.missing + self.different
    }

    /// Of these, those that nobody has acknowledged.
    pub fn open(&self) -> u64 {
        self.to_repair().saturating_sub(self.acknowledged)
    }
}

/// Which studies are asked about.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Those of which an object came since, and all that the centre was not yet found to hold all of.
    Open(Timestamp),
    /// Those of which an object came since.
    Since(Timestamp),
    /// This one.
    Study(&'a str),
}

impl Which<'_> {
    /// The one study.
    pub fn study(&self) -> Option<&str> {
        match self {
            Self::Study(study_uid) => Some(study_uid),
            _ => None,
        }
    }

    /// The instant.
    pub fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Open(since) | Self::Since(since) => Some(*since),
            Self::Study(_) => None,
        }
    }
}

/// One instance that the centre does not hold as it was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whose.
    pub tenant: Tenant,
    /// Study Instance UID.
    pub study_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// `missing` or `different`.
    pub what: Found,
    /// Whether it was queued again.
    pub queued: bool,
    /// Whether an operator has acknowledged the differences of its study.
    #[serde(default)]
    pub acknowledged: bool,
}

/// What was handed over, by SOP Instance UID.
type Handed = BTreeMap<String, (SpoolId, Digest)>;

/// A study under one owner.
struct Study {
    listed: Listed,
    handed: Handed,
    held: BTreeMap<String, Digest>,
}

/// Whose studies stand in one question: a bearing without its patient and service event.
type Owner = (String, String, Option<String>, Option<String>);

/// What one owner has of a study.
type Part = (Owner, Bearing, Study);

/// Studies by owner, until they are asked about.
type Groups = BTreeMap<Owner, (Bearing, Vec<Study>)>;

impl Forward {
    /// Compares studies with the centre; `repair`: what is missing or different is queued again. What is
    /// found is added to `found` as it comes.
    ///
    /// # Errors
    /// Why the run ended early.
    pub async fn reconcile(&self, which: Which<'_>, repair: bool, folder: &Path, found: &mut Findings) -> anyhow::Result<()> {
        let file = folder.join(format!("{}.jsonl", self.clock.now().strftime("%Y%m%dT%H%M%SZ")));
        for tenant in &self.tenants {
            let (mut groups, mut looked) = (Groups::new(), Looked::new());
            for study_uid in self.to_ask_about(tenant, which).await? {
                let (look, parts) = self.handed_over(tenant, &study_uid, found).await?;
                looked.insert(study_uid, look);
                for (owner, bearing, study) in parts {
                    groups.entry(owner).or_insert_with(|| (bearing, Vec::new())).1.push(study);
                }
                if groups.values().map(|(_, studies)| studies.len()).sum::<usize>() >= STUDIES_MAX {
                    self.compare_all(tenant, &mut groups, &mut looked, (repair, &file), found).await?;
                }
            }
            self.compare_all(tenant, &mut groups, &mut looked, (repair, &file), found).await?;
        }
        let folder = folder.to_owned();
        tokio::task::spawn_blocking(move || keep_last(&folder)).await??;
        Ok(())
    }

    /// Those of the studies of which the centre has taken an object.
    async fn to_ask_about(&self, tenant: &Tenant, which: Which<'_>) -> anyhow::Result<BTreeSet<String>> {
        let (since, all_open) = match which {
            Which::Open(since) => (since, true),
            Which::Since(since) => (since, false),
            Which::Study(study_uid) => {
                let known = self.spool.study(tenant, study_uid).await?;
                return Ok(known.map(|study| study.study_uid).into_iter().collect());
            }
        };
        let mut studies = BTreeSet::new();
        let mut known: HashMap<String, Option<Timestamp>> = HashMap::new();
        for state in TAKEN {
            let mut after = None;
            loop {
                let page = self.spool.in_state(tenant, state, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id());
                for entry in page {
                    let study_uid = entry.record.facts.study_uid;
                    if entry.record.facts.received < since {
                        if !all_open {
                            continue;
                        }
                        let agreed = match known.get(&study_uid) {
                            Some(agreed) => *agreed,
                            None => {
                                let study = self.spool.study(tenant, &study_uid).await?;
                                *known.entry(study_uid.clone()).or_insert(study.and_then(|study| agreed::since(&study.notes)))
                            }
                        };
                        if agreed >= Some(entry.progress.since) {
                            continue;
                        }
                    }
                    studies.insert(study_uid);
                }
            }
        }
        Ok(studies)
    }

    /// What the centre has taken of a study, by whom it was sent for.
    async fn handed_over(&self, tenant: &Tenant, study_uid: &str, found: &mut Findings) -> anyhow::Result<(Look, Vec<Part>)> {
        let mut look = Look { at: self.clock.now(), newest: Timestamp::MIN, whole: true, differences: Vec::new() };
        let mut studies: BTreeMap<Owner, (Bearing, Handed)> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.spool.members(tenant, study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for entry in page.into_iter().filter(is_taken) {
                if entry.progress.state != State::Released {
                    look.newest = look.newest.max(entry.progress.since);
                }
                let Some(bearing) = self.bearing(tenant, &entry).await.ok().flatten() else {
                    found.undetermined += 1;
                    look.whole = false;
                    continue;
                };
                let owner = (bearing.controller.clone(), bearing.register.clone(), bearing.specifier.clone(), bearing.unit.clone());
                let (_, handed) = studies.entry(owner).or_insert_with(|| (bearing, BTreeMap::new()));
                handed.insert(entry.record.announced.sop_instance_uid.clone(), (entry.id(), entry.record.digest));
            }
        }
        let study = |(owner, (bearing, handed)): (Owner, (Bearing, Handed))| {
            let root = root(handed.values().map(|(_, digest)| digest));
            let listed = Listed { study_uid: study_uid.to_owned(), instances: handed.len() as u64, root, after: None };
            (owner, bearing, Study { listed, handed, held: BTreeMap::new() })
        };
        Ok((look, studies.into_iter().map(study).collect()))
    }

    /// Asks about all that was gathered, and notes what the centre holds all of.
    async fn compare_all(
        &self,
        tenant: &Tenant,
        groups: &mut Groups,
        looked: &mut Looked,
        how: (bool, &Path),
        found: &mut Findings,
    ) -> anyhow::Result<()> {
        for (_, (bearing, studies)) in std::mem::take(groups) {
            self.compare(tenant, &bearing, studies, looked, how, found).await?;
        }
        Ok(self.agree(tenant, std::mem::take(looked), found).await?)
    }

    /// Asks about studies of one owner until each is answered.
    async fn compare(
        &self,
        tenant: &Tenant,
        bearing: &Bearing,
        studies: Vec<Study>,
        looked: &mut Looked,
        (repair, file): (bool, &Path),
        found: &mut Findings,
    ) -> anyhow::Result<()> {
        found.studies += studies.len() as u64;
        found.instances += studies.iter().map(|study| study.listed.instances).sum::<u64>();
        let mut left = VecDeque::from(studies);
        for _ in 0..ROUNDS_MAX {
            if left.is_empty() {
                return Ok(());
            }
            let question = Question { studies: left.iter().take(STUDIES_MAX).map(|study| study.listed.clone()).collect() };
            let signed = self.ask_what_is_held(bearing, &question).await?;
            keep(file, &signed).await?;
            anyhow::ensure!(!signed.result.studies.is_empty(), "the centre answered about no study");
            for compared in signed.result.studies {
                let Some(mut study) = left.pop_front() else { anyhow::bail!("the centre answered about more than it was asked") };
                anyhow::ensure!(compared.study_uid == study.listed.study_uid, "the centre answered about another study than it was asked");
                let Compared { result, held, next, .. } = compared;
                study.held.extend(held.into_iter().map(|held| (held.sop_instance_uid, held.digest)));
                match (result, next) {
                    (Found::Equal, _) => found.equal += 1,
                    (_, Some(next)) => {
                        study.listed.after = Some(next);
                        left.push_back(study);
                    }
                    (_, None) => self.differs(tenant, &study, looked, repair, found).await?,
                }
            }
        }
        anyhow::bail!("the centre does not come to an end about what it holds")
    }

    async fn ask_what_is_held(&self, bearing: &Bearing, question: &Question) -> anyhow::Result<SignedFindings> {
        anyhow::ensure!(!self.stopping(), "the program ends");
        anyhow::ensure!(self.clock_level() != Level::Stop, "the clock differs too much from the centre's");
        anyhow::ensure!(!self.breakers().is_open(Channel::Stow), "the centre is suspended");
        let link = self.link();
        let authorization = link.credentials.custody(bearing, self.clock.now(), self.random())?;
        let body = serde_json::to_vec(question)?;
        match link.peer.reconcile(body, &authorization).await {
            Heard::Nothing(failure) => anyhow::bail!("no answer: {failure:?}"),
            Heard::Answer { status: 200, body, ahead, .. } => {
                self.heard_clock(ahead);
                Ok(SignedFindings::read(&body, &link.centre_keys)?)
            }
            Heard::Answer { status, .. } => anyhow::bail!("the centre answered HTTP {status}"),
        }
    }

    /// A study of which the centre does not hold the same.
    async fn differs(&self, tenant: &Tenant, study: &Study, looked: &mut Looked, repair: bool, found: &mut Findings) -> anyhow::Result<()> {
        let handed = study.handed.iter().map(|(uid, (_, digest))| (uid.clone(), *digest)).collect();
        let Differences { missing, different, extra } = Differences::between(&handed, &study.held);
        found.extra += extra.len() as u64;
        found.missing += missing.len() as u64;
        found.different += different.len() as u64;
        if !missing.is_empty() || !different.is_empty() {
            self.disagree(tenant, &study.listed.study_uid, looked).await?;
        }
        let (missing, different) =
            (missing.into_iter().map(|uid| (uid, Found::Missing)), different.into_iter().map(|uid| (uid, Found::Different)));
        for (sop_instance_uid, what) in missing.chain(different) {
            if let Some(look) = looked.get_mut(&study.listed.study_uid) {
                look.differences.push((sop_instance_uid.clone(), what));
            }
            let Some((id, _)) = study.handed.get(&sop_instance_uid) else { continue };
            let queued = repair && self.queue_again(*id).await?;
            tracing::error!(
                %tenant, object = %id, study = study.listed.study_uid, ?what, queued,
                "the centre does not hold an object as it was handed over"
            );
            found.queued += u64::from(queued);
            if found.differences.len() < NAMED_MAX {
                let (tenant, study_uid) = (tenant.clone(), study.listed.study_uid.clone());
                found.differences.push(Difference { tenant, study_uid, sop_instance_uid, what, queued, acknowledged: false });
            } else {
                found.unnamed += 1;
            }
        }
        self.wake.notify_waiters();
        Ok(())
    }

    /// Queues an object again that the centre had taken; whether it did. One whose bytes are not here any more stays as it is.
    async fn queue_again(&self, id: SpoolId) -> anyhow::Result<bool> {
        let Some(entry) = self.spool.entry(id).await?.filter(|entry| is_taken(entry) && entry.progress.state != State::Released) else {
            return Ok(false);
        };
        match self.spool.advance_seen(vec![Seen { progress: entry.progress.clone(), go: queued(&entry, self.clock.now()) }]).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::error!(object = %id, cause = %error, remedy = error.remedy(), "an object could not be queued again; the next run tries it");
                Ok(false)
            }
        }
    }
}

fn is_taken(entry: &Entry) -> bool {
    matches!(entry.progress.state, State::Committed | State::Registered | State::Released)
}

/// Keeps an answer as it was signed.
async fn keep(file: &Path, signed: &SignedFindings) -> anyhow::Result<()> {
    let (file, line) = (file.to_owned(), format!("{}\n", serde_json::to_string(signed)?));
    let write = move || -> anyhow::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        if let Some(folder) = file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut open = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&file)?;
        open.write_all(line.as_bytes())?;
        Ok(open.sync_data()?)
    };
    tokio::task::spawn_blocking(write).await?.context("the signed result of a reconciliation cannot be kept")
}

/// Removes the answers of the oldest runs. They hold what the centre said, no object and no receipt.
fn keep_last(folder: &Path) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let old = files.len().saturating_sub(RUNS_KEPT);
    files[..old].iter().try_for_each(|path| Ok(std::fs::remove_file(path)?))
}
