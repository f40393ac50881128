//! Catalogue: the rows that the spool keeps in its index, and how they follow from entries and journal events.
//!
//! # Rows
//! `\0` ends a text, numbers are 8 bytes big endian, times are milliseconds; the tenant stands in every key but the first.
//!
//! | key | value |
//! |---|---|
//! | `o` id | [`Entry`], JSON, < 4 KiB |
//! | `u` tenant `\0` SOP instance `\0` digest (32 bytes) | id that holds these bytes |
//! | `m` tenant `\0` study `\0` id | – |
//! | `s` tenant `\0` study | [`Study`], JSON |
//! | `w` tenant `\0` last arrival, study | – ; studies with held objects |
//! | `q` tenant `\0` state `\0` not before, id | – ; neither released objects nor urgent ones have one |
//! | `p` tenant `\0` state `\0` not before, id | – ; the same of urgent ones |
//! | `l` tenant `\0` state `\0` id | – |
//! | `h` tenant `\0` SOP instance `\0` inbound row `\0` id | – ; who handed an object over that has, or had, more than one such row or file |
//! | `r` tenant `\0` series `\0` study `\0` | [`Occurrence`], JSON: the first object of the series in the study |
//! | `a` tenant `\0` accession name `\0` study `\0` | the same of an accession number |
//! | `!…` | what of the journal and the files is in here; see [`Catalog::covers`] |
//!
//! Each row is a function of the entries and notes alone, not of the order in which they came, so that a rebuilt index is
//! equal to the one that grew. `docs/decisions/0003-spool.md` says why there are so many.

use super::Lane;
use super::index::{Change, Index, IndexError};
use super::journal::{Event, Mark};
use super::record::{Amount, Announced, Entry, Facts, Note, Occurrence, Progress, SpoolId, State, Study, Tenant};
use idr_profile::digest::Digest;
use idr_profile::receipt::ReceiptHash;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Objects and bytes by tenant and state name.
pub type Totals = BTreeMap<(Tenant, &'static str), Amount>;

/// How far the index had come when it was made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covers {
    /// Which spool it belongs to.
    pub spool: Uuid,
    /// Number of the last journal line in it.
    pub journal: u64,
    /// Every object with a lower id is in it, if it exists; and the rest of [`Mark`].
    pub mark: Mark,
}

/// Objects in the index that have their bytes: a sum over their ids, to be compared with the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// How many.
    pub objects: u64,
    /// Exclusive or of a mix of each id.
    pub mixed: u64,
}

impl Live {
    /// Puts an id in that is not, or takes one out that is.
    pub fn toggle(&mut self, id: SpoolId, there: bool) {
        // The finaliser of SplitMix64: neighbouring ids have nothing in common afterwards.
        let mut mix = id.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix = (mix ^ mix >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mix = (mix ^ mix >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.mixed ^= mix ^ mix >> 31;
        self.objects = if there { self.objects + 1 } else { self.objects.saturating_sub(1) };
    }
}

/// Most notes of one study.
const NOTES_MAX: usize = 16;
// The number rises with the kinds of rows: an index without them is made again.
const COVERS: &[u8] = b"!covers2";
const LIVE: &[u8] = b"!live";

/// The rows.
pub struct Catalog {
    index: Arc<dyn Index>,
    /// Guards read-change-write of rows.
    changing: Mutex<()>,
    /// Those of the rows; never held over IO, since who may send is asked of them.
    totals: Mutex<Totals>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It stands in the rows.
    Yes,
    /// It names an object or study that is not there.
    Unknown,
}

impl Catalog {
    /// Takes an index and adds up its studies.
    ///
    /// # Errors
    /// [`IndexError`], also for a row that cannot be read.
    pub fn open(index: Arc<dyn Index>) -> Result<Self, IndexError> {
        let mut totals = Totals::new();
        let mut from = b"s".to_vec();
        loop {
            let rows = index.scan(&from, b"t", 1000)?;
            for (_, value) in &rows {
                let study: Study = read_json(value)?;
                for (name, amount) in &study.states {
                    let name = static_name(name).ok_or_else(|| IndexError(format!("a study has objects in state {name}")))?;
                    let total = totals.entry((study.tenant.clone(), name)).or_default();
                    total.objects += amount.objects;
                    total.bytes += amount.bytes;
                }
            }
            match rows.last() {
                Some((key, _)) => from = after(key),
                None => return Ok(Self { index, changing: Mutex::new(()), totals: Mutex::new(totals) }),
            }
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index under the rows, for others who keep rows of their own in it.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// What is in here; none in an empty index.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn covers(&self) -> Result<Option<Covers>, IndexError> {
        self.index.read(COVERS)?.map(|row| read_covers(&row)).transpose()
    }

    /// Says what is in here.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn set_covers(&self, covers: Covers) -> Result<(), IndexError> {
        let _changing = self.changing();
        self.index.apply(vec![(COVERS.to_vec(), Some(covers_row(covers)))])
    }

    /// Says what is settled.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn set_mark(&self, mark: Mark) -> Result<(), IndexError> {
        let _changing = self.changing();
        match self.index.read(COVERS)? {
            Some(row) => self.index.apply(vec![(COVERS.to_vec(), Some(covers_row(Covers { mark, ..read_covers(&row)? })))]),
            None => Ok(()),
        }
    }

    /// Objects and bytes by tenant and state.
    pub fn totals(&self) -> Totals {
        self.counted().clone()
    }

    /// What a tenant has in the spool: all but what is released.
    pub fn used(&self, tenant: &Tenant) -> Amount {
        let totals = self.counted();
        let mine = totals.iter().filter(|((whose, state), _)| whose == tenant && *state != State::Released.name());
        mine.fold(Amount::default(), |sum, (_, amount)| Amount { objects: sum.objects + amount.objects, bytes: sum.bytes + amount.bytes })
    }

    /// Objects with an id from `from` on, in order of id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn all(&self, from: SpoolId, limit: usize) -> Result<Vec<Entry>, IndexError> {
        let rows = self.index.scan(&entry_key(from), b"p", limit)?;
        rows.iter().map(|(_, row)| read_json(row)).collect()
    }

    /// One object.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn entry(&self, id: SpoolId) -> Result<Option<Entry>, IndexError> {
        self.index.read(&entry_key(id))?.map(|row| read_json(&row)).transpose()
    }

    /// The object that holds these bytes under this SOP Instance UID.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn holder(&self, tenant: &Tenant, sop_instance_uid: &str, digest: &Digest) -> Result<Option<Entry>, IndexError> {
        match self.index.read(&unique_key(tenant, sop_instance_uid, digest))? {
            Some(id) => self.entry(read_id(&id)?),
            None => Ok(None),
        }
    }

    /// All objects with a SOP Instance UID, whatever their bytes; at most 100.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn instances(&self, tenant: &Tenant, sop_instance_uid: &str) -> Result<Vec<Entry>, IndexError> {
        let from = key(b'u', &[tenant.as_str(), sop_instance_uid]);
        let ids = self.index.scan(&from, &end_of(&from), 100)?;
        self.entries(ids.iter().map(|(_, id)| read_id(id)))
    }

    /// All objects with a SOP Instance UID that an inbound row handed over, as the first or again; at most 200.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn handed_over(&self, tenant: &Tenant, inbound: &str, sop_instance_uid: &str) -> Result<Vec<Entry>, IndexError> {
        let mut entries = self.instances(tenant, sop_instance_uid)?;
        entries.retain(|entry| entry.record.announced.inbound == inbound);
        let from = key(b'h', &[tenant.as_str(), sop_instance_uid, inbound]);
        for (key, _) in self.index.scan(&from, &end_of(&from), 100)? {
            let id = read_id(key.get(from.len()..).unwrap_or_default())?;
            if entries.iter().all(|entry| entry.id() != id) {
                // A first object that is not in the index (yet) is no ground for anything.
                entries.extend(self.entry(id)?);
            }
        }
        Ok(entries)
    }

    /// One study.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn study(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Study>, IndexError> {
        self.index.read(&study_key(tenant, study_uid))?.map(|row| read_json(&row)).transpose()
    }

    /// Studies in which a series occurs, in what is not set aside; at most 100.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn series(&self, tenant: &Tenant, series_uid: &str) -> Result<Vec<Occurrence>, IndexError> {
        self.occurrences(tenant, &key(b'r', &[tenant.as_str(), series_uid]), |facts| facts.series_uid == series_uid)
    }

    /// Studies in which an accession number occurs, in what is not set aside, by its name; at most 100.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn accession(&self, tenant: &Tenant, name: &str) -> Result<Vec<Occurrence>, IndexError> {
        self.occurrences(tenant, &key(b'a', &[tenant.as_str(), name]), |facts| facts.accession.as_deref() == Some(name))
    }

    fn occurrences(&self, tenant: &Tenant, from: &[u8], occurs: impl Fn(&Facts) -> bool) -> Result<Vec<Occurrence>, IndexError> {
        let mut found = Vec::new();
        for (_, row) in self.index.scan(from, &end_of(from), 100)? {
            let first: Occurrence = read_json(&row)?;
            match self.entry(first.object)?.is_some_and(|entry| !stands(&entry.progress)) {
                false => found.push(first),
                true => found.extend(self.first_that_stands(tenant, &first.study_uid, &occurs)?),
            }
        }
        Ok(found)
    }

    /// Read from the objects of the study: the row names the first one, whatever became of it.
    fn first_that_stands(
        &self,
        tenant: &Tenant,
        study_uid: &str,
        occurs: impl Fn(&Facts) -> bool,
    ) -> Result<Option<Occurrence>, IndexError> {
        let (mut first, mut after): (Option<Entry>, _) = (None, None);
        loop {
            let page = self.members(tenant, study_uid, after, 500)?;
            let Some(last) = page.last() else { return Ok(first.as_ref().map(occurrence)) };
            after = Some(last.id());
            for entry in page.into_iter().filter(|entry| occurs(&entry.record.facts) && stands(&entry.progress)) {
                if first.as_ref().is_none_or(|first| place(&entry) < place(first)) {
                    first = Some(entry);
                }
            }
        }
    }

    /// Of the objects of a study with the same thing the first is named.
    fn occurrence_row(&self, key: Vec<u8>, entry: &Entry, changes: &mut Vec<Change>) -> Result<(), IndexError> {
        let before: Option<Occurrence> = self.index.read(&key)?.map(|row| read_json(&row)).transpose()?;
        if before.is_none_or(|first| place(entry) < (first.first_arrival, first.object)) {
            changes.push((key, Some(json(&occurrence(entry))?)));
        }
        Ok(())
    }

    /// Objects of a study with an id above `after`, in order of id.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn members(&self, tenant: &Tenant, study_uid: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, IndexError> {
        self.listed(&key(b'm', &[tenant.as_str(), study_uid]), after, limit)
    }

    /// Objects in a state with an id above `after`, in order of id: the oldest first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn in_state(&self, tenant: &Tenant, state: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, IndexError> {
        self.listed(&key(b'l', &[tenant.as_str(), state]), after, limit)
    }

    fn listed(&self, prefix: &[u8], after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, IndexError> {
        let mut from = prefix.to_vec();
        from.extend(after.map_or(0, |id| id.0.saturating_add(1)).to_be_bytes());
        let rows = self.index.scan(&from, &end_of(prefix), limit)?;
        self.entries(rows.iter().map(|(key, _)| read_id(&key[prefix.len()..])))
    }

    fn entries(&self, ids: impl Iterator<Item = Result<SpoolId, IndexError>>) -> Result<Vec<Entry>, IndexError> {
        ids.map(|id| {
            let id = id?;
            self.entry(id)?.ok_or_else(|| IndexError(format!("a row names {id}, which has none of its own")))
        })
        .collect()
    }

    /// Studies with held objects whose last object came before `before`, the longest quiet first.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn waiting(&self, tenant: &Tenant, before: Timestamp, limit: usize) -> Result<Vec<Study>, IndexError> {
        let prefix = key(b'w', &[tenant.as_str()]);
        let to = [&prefix[..], &time(before)[..]].concat();
        let rows = self.index.scan(&prefix, &to, limit)?;
        let mut studies = Vec::with_capacity(rows.len());
        for (key, _) in rows {
            let uid = key.get(prefix.len() + 8..).and_then(|uid| std::str::from_utf8(uid).ok());
            let uid = uid.ok_or_else(|| IndexError("a row of a waiting study cannot be read".to_owned()))?;
            studies.extend(self.study(tenant, uid)?);
        }
        Ok(studies)
    }

    /// Objects in a state and a lane that are due at `now`, the longest due first, for which `free` says yes.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn due(
        &self,
        tenant: &Tenant,
        state: &str,
        lane: Lane,
        now: Timestamp,
        limit: usize,
        free: impl Fn(SpoolId) -> bool,
    ) -> Result<Vec<Entry>, IndexError> {
        let prefix = key(kind_of(lane), &[tenant.as_str(), state]);
        let mut to = [&prefix[..], &time(now)[..]].concat();
        to.extend([0xFF; 9]);
        let mut from = prefix.clone();
        let mut found: Vec<Entry> = Vec::new();
        while found.len() < limit {
            let rows = self.index.scan(&from, &to, 256)?;
            let Some((last, _)) = rows.last() else { break };
            from = after(last);
            for (key, _) in &rows {
                let id = read_id(key.get(prefix.len() + 8..).unwrap_or_default())?;
                if found.len() < limit && free(id) {
                    let entries = self.entries(std::iter::once(Ok(id)))?;
                    // A program that knows no lanes moves what is urgent, and leaves its row in this one behind.
                    let stands = |entry: &Entry| entry.progress.urgent && entry.progress.state.name() == state;
                    found.extend(entries.into_iter().filter(|entry| lane == Lane::Normal || stands(entry)));
                }
            }
        }
        Ok(found)
    }

    /// Ids of the objects that have their bytes, in sum.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn live(&self) -> Result<Live, IndexError> {
        let Some(row) = self.index.read(LIVE)? else { return Ok(Live::default()) };
        let (objects, mixed) = row.split_first_chunk::<8>().ok_or_else(unreadable_live)?;
        let mixed = mixed.try_into().map_err(|_| unreadable_live())?;
        Ok(Live { objects: u64::from_be_bytes(*objects), mixed: u64::from_be_bytes(mixed) })
    }

    /// Takes a new object in. One that is in already stays as it is.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn add(&self, entry: &Entry) -> Result<(), IndexError> {
        let _changing = self.changing();
        if self.index.read(&entry_key(entry.id()))?.is_some() {
            return Ok(());
        }
        let mut changes = Vec::new();
        self.add_rows(entry, &mut changes)?;
        self.live_row(None, Some(entry), &mut changes)?;
        self.index.apply(changes)?;
        count(&mut self.counted(), None, Some(entry));
        Ok(())
    }

    /// Takes a released object in, or what was released since.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn release(&self, entry: &Entry) -> Result<(), IndexError> {
        let _changing = self.changing();
        let mut changes = Vec::new();
        let (old, new) = self.release_rows(entry, &mut changes)?;
        self.live_row(old.as_ref(), Some(&new), &mut changes)?;
        self.index.apply(changes)?;
        count(&mut self.counted(), old.as_ref(), Some(&new));
        Ok(())
    }

    /// Takes a durable journal line in.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn apply(&self, number: u64, event: &Event) -> Result<Applied, IndexError> {
        let _changing = self.changing();
        let mut changes = Vec::new();
        let mut applied = Applied::Yes;
        let mut counted = None;
        match event {
            Event::Moved(moved) => match self.entry(moved.id)? {
                Some(old) => counted = Some((Some(old.clone()), self.move_rows(old, moved.to.clone(), &mut changes)?)),
                None => applied = Applied::Unknown,
            },
            Event::Released { entry } => counted = Some(self.release_rows(entry, &mut changes)?),
            Event::Noted(note) => match self.study(&note.tenant, &note.study_uid)? {
                Some(study) => changes.push(study_row(&noted(study, note))),
                None => applied = Applied::Unknown,
            },
            Event::Repeated { first, announced, .. } => changes.push((handed_over_key(announced, *first), Some(Vec::new()))),
            Event::Begun { .. } | Event::Mark(_) => {}
        }
        if let Some(row) = self.index.read(COVERS)? {
            let covers = Covers { journal: number, ..read_covers(&row)? };
            changes.push((COVERS.to_vec(), Some(covers_row(covers))));
        }
        if let Some((old, new)) = &counted {
            self.live_row(old.as_ref(), Some(new), &mut changes)?;
        }
        self.index.apply(changes)?;
        if let Some((old, new)) = counted {
            count(&mut self.counted(), old.as_ref(), Some(&new));
        }
        Ok(applied)
    }

    fn add_rows(&self, entry: &Entry, changes: &mut Vec<Change>) -> Result<(), IndexError> {
        let record = &entry.record;
        let (tenant, study_uid) = (&record.announced.tenant, &record.facts.study_uid);
        let unique = unique_key(tenant, &record.announced.sop_instance_uid, &record.digest);
        let holder = self.index.read(&unique)?.map(|id| read_id(&id)).transpose()?;
        let holder = holder.map(|id| self.entry(id)).transpose()?.flatten();
        // The row of these bytes names one object: who handed the others over stands in rows of their own.
        for one in holder.iter().flat_map(|holder| [holder, entry]) {
            changes.push((handed_over_key(&one.record.announced, one.id()), Some(Vec::new())));
        }
        // Who still has the bytes holds them, the first before others; of those given up the last.
        let rank = |entry: &Entry| match entry.progress.state {
            State::Released => (1, u64::MAX - entry.id().0),
            _ => (0, entry.id().0),
        };
        if holder.is_none_or(|holder| rank(entry) < rank(&holder)) {
            changes.push((unique, Some(entry.id().0.to_be_bytes().to_vec())));
        }
        changes.push((member_key(tenant, study_uid, entry.id()), Some(Vec::new())));
        self.occurrence_row(key(b'r', &[tenant.as_str(), &record.facts.series_uid, study_uid]), entry, changes)?;
        if let Some(name) = &record.facts.accession {
            self.occurrence_row(key(b'a', &[tenant.as_str(), name, study_uid]), entry, changes)?;
        }
        let received = record.facts.received;
        let study = self.study(tenant, study_uid)?.unwrap_or_else(|| Study {
            tenant: tenant.clone(),
            study_uid: study_uid.clone(),
            first_arrival: received,
            last_arrival: received,
            states: BTreeMap::new(),
            notes: BTreeMap::new(),
        });
        let mut after = study.clone();
        after.first_arrival = after.first_arrival.min(received);
        after.last_arrival = after.last_arrival.max(received);
        count_in(&mut after, None, Some(entry));
        waiting_rows(&study, &after, changes);
        changes.push(study_row(&after));
        place_rows(entry, true, changes);
        changes.push((entry_key(entry.id()), Some(json(entry)?)));
        Ok(())
    }

    fn release_rows(&self, entry: &Entry, changes: &mut Vec<Change>) -> Result<(Option<Entry>, Entry), IndexError> {
        match self.entry(entry.id())? {
            Some(old) => Ok((Some(old.clone()), self.move_rows(old, entry.progress.clone(), changes)?)),
            None => {
                self.add_rows(entry, changes)?;
                Ok((None, entry.clone()))
            }
        }
    }

    fn live_row(&self, old: Option<&Entry>, new: Option<&Entry>, changes: &mut Vec<Change>) -> Result<(), IndexError> {
        let has_bytes = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.progress.state != State::Released);
        let Some(entry) = new.or(old).filter(|_| has_bytes(old) != has_bytes(new)) else { return Ok(()) };
        let mut live = self.live()?;
        live.toggle(entry.id(), has_bytes(new));
        changes.push((LIVE.to_vec(), Some([live.objects.to_be_bytes(), live.mixed.to_be_bytes()].concat())));
        Ok(())
    }

    /// Rows of a moved entry; gives it as it is now.
    fn move_rows(&self, old: Entry, to: Progress, changes: &mut Vec<Change>) -> Result<Entry, IndexError> {
        let record = &old.record;
        let study = self.study(&record.announced.tenant, &record.facts.study_uid)?;
        let mut study = study.ok_or_else(|| IndexError(format!("{} belongs to a study that has no row", old.id())))?;
        place_rows(&old, false, changes);
        let new = Entry { progress: to, ..old.clone() };
        let before = study.clone();
        count_in(&mut study, Some(&old), Some(&new));
        waiting_rows(&before, &study, changes);
        changes.push(study_row(&study));
        place_rows(&new, true, changes);
        changes.push((entry_key(new.id()), Some(json(&new)?)));
        Ok(new)
    }
}

/// What was set aside or rejected by a note, and the note itself, occupy nothing: a corrected study has the accession number of its
/// originals, rightly.
fn stands(progress: &Progress) -> bool {
    !progress.state.is_set_aside() && !progress.unlisted
}

/// Orders the objects of a study by their arrival.
fn place(entry: &Entry) -> (Timestamp, SpoolId) {
    (entry.record.facts.received, entry.id())
}

fn occurrence(entry: &Entry) -> Occurrence {
    let facts = &entry.record.facts;
    Occurrence {
        study_uid: facts.study_uid.clone(),
        first_arrival: facts.received,
        object: entry.id(),
        patient_id: facts.patient_id.clone(),
    }
}

fn noted(mut study: Study, note: &Note) -> Study {
    match &note.value {
        Some(value) if study.notes.len() < NOTES_MAX || study.notes.contains_key(&note.name) => {
            study.notes.insert(note.name.clone(), value.clone());
        }
        Some(_) => {}
        None => {
            study.notes.remove(&note.name);
        }
    }
    study
}

/// Whether a study has room for a note of that name.
pub fn takes_note(study: &Study, name: &str) -> bool {
    study.notes.len() < NOTES_MAX || study.notes.contains_key(name)
}

fn count(totals: &mut Totals, old: Option<&Entry>, new: Option<&Entry>) {
    let mut one = |entry: &Entry, add: bool| {
        let key = (entry.record.announced.tenant.clone(), entry.progress.state.name());
        let amount = totals.entry(key.clone()).or_default();
        shift(amount, entry, add);
        if amount.objects == 0 {
            totals.remove(&key);
        }
    };
    old.into_iter().for_each(|entry| one(entry, false));
    new.into_iter().for_each(|entry| one(entry, true));
}

fn count_in(study: &mut Study, old: Option<&Entry>, new: Option<&Entry>) {
    let mut one = |entry: &Entry, add: bool| {
        let name = entry.progress.state.name();
        let amount = study.states.entry(name.to_owned()).or_default();
        shift(amount, entry, add);
        if amount.objects == 0 {
            study.states.remove(name);
        }
    };
    old.into_iter().for_each(|entry| one(entry, false));
    new.into_iter().for_each(|entry| one(entry, true));
}

fn shift(amount: &mut Amount, entry: &Entry, add: bool) {
    let bytes = entry.record.size_bytes;
    *amount = match add {
        true => Amount { objects: amount.objects + 1, bytes: amount.bytes.saturating_add(bytes) },
        false => Amount { objects: amount.objects.saturating_sub(1), bytes: amount.bytes.saturating_sub(bytes) },
    };
}

/// Rows by state: written when the entry is there, removed when it leaves this place.
fn place_rows(entry: &Entry, there: bool, changes: &mut Vec<Change>) {
    let tenant = entry.record.announced.tenant.as_str();
    let state = entry.progress.state.name();
    let id = entry.id().0.to_be_bytes();
    let value = there.then(Vec::new);
    if entry.progress.state != State::Released {
        let kind = kind_of(Lane::of(entry.progress.urgent));
        let due = [&key(kind, &[tenant, state])[..], &time(entry.progress.not_before)[..], &id[..]].concat();
        changes.push((due, value.clone()));
    }
    changes.push(([&key(b'l', &[tenant, state])[..], &id[..]].concat(), value));
}

fn waiting_rows(before: &Study, after: &Study, changes: &mut Vec<Change>) {
    let row = |study: &Study| {
        let held = study.states.contains_key("held");
        held.then(|| [&key(b'w', &[study.tenant.as_str()])[..], &time(study.last_arrival)[..], study.study_uid.as_bytes()].concat())
    };
    changes.extend(row(before).map(|key| (key, None)));
    changes.extend(row(after).map(|key| (key, Some(Vec::new()))));
}

fn study_row(study: &Study) -> Change {
    (study_key(&study.tenant, &study.study_uid), Some(serde_json::to_vec(study).expect("a study has a JSON form")))
}

/// Rows of what is due in a lane.
fn kind_of(lane: Lane) -> u8 {
    match lane {
        Lane::Urgent => b'p',
        Lane::Normal => b'q',
    }
}

fn key(kind: u8, parts: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key
}

fn entry_key(id: SpoolId) -> Vec<u8> {
    [&b"o"[..], &id.0.to_be_bytes()[..]].concat()
}

fn unique_key(tenant: &Tenant, sop_instance_uid: &str, digest: &Digest) -> Vec<u8> {
    [&key(b'u', &[tenant.as_str(), sop_instance_uid])[..], &digest.as_bytes()[..]].concat()
}

fn handed_over_key(announced: &Announced, id: SpoolId) -> Vec<u8> {
    let parts = [announced.tenant.as_str(), announced.sop_instance_uid.as_str(), announced.inbound.as_str()];
    [&key(b'h', &parts)[..], &id.0.to_be_bytes()[..]].concat()
}

fn member_key(tenant: &Tenant, study_uid: &str, id: SpoolId) -> Vec<u8> {
    [&key(b'm', &[tenant.as_str(), study_uid])[..], &id.0.to_be_bytes()[..]].concat()
}

fn study_key(tenant: &Tenant, study_uid: &str) -> Vec<u8> {
    [&key(b's', &[tenant.as_str()])[..], study_uid.as_bytes()].concat()
}

/// Orders as the times do; before 1970 counts as 1970.
fn time(at: Timestamp) -> [u8; 8] {
    u64::try_from(at.as_millisecond()).unwrap_or(0).to_be_bytes()
}

/// First key after all that begin with `prefix`; our prefixes end with 0.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn read_id(bytes: &[u8]) -> Result<SpoolId, IndexError> {
    bytes.try_into().map(|bytes| SpoolId(u64::from_be_bytes(bytes))).map_err(|_| IndexError("an id has not 8 bytes".to_owned()))
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, IndexError> {
    serde_json::to_vec(value).map_err(|error| IndexError(error.to_string()))
}

fn read_json<T: serde::de::DeserializeOwned>(row: &[u8]) -> Result<T, IndexError> {
    serde_json::from_slice(row).map_err(|error| IndexError(format!("a row cannot be read: column {}", error.column())))
}

fn covers_row(covers: Covers) -> Vec<u8> {
    let mut row = [&covers.spool.as_bytes()[..], &covers.journal.to_be_bytes()[..], &covers.mark.low.0.to_be_bytes()[..]].concat();
    row.extend(covers.mark.logged.iter().flat_map(|hash| hash.as_bytes()));
    row
}

fn read_covers(row: &[u8]) -> Result<Covers, IndexError> {
    let part = |from: usize| row.get(from..from + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let spool = row.get(..16).and_then(|bytes| Uuid::from_slice(bytes).ok());
    let logged = match row.get(32..) {
        Some([]) => Some(None),
        Some(hash) => hash.try_into().ok().map(|hash| Some(ReceiptHash::from_bytes(hash))),
        None => None,
    };
    match (spool, part(16), part(24), logged) {
        (Some(spool), Some(journal), Some(low), Some(logged)) => Ok(Covers { spool, journal, mark: Mark { low: SpoolId(low), logged } }),
        _ => Err(IndexError("the row that says what the index covers cannot be read".to_owned())),
    }
}

fn unreadable_live() -> IndexError {
    IndexError("the row of ids in sum cannot be read".to_owned())
}

fn static_name(name: &str) -> Option<&'static str> {
    use State as S;
    [S::Queued, S::Sent, S::Committed, S::Registered, S::Released, S::Rejected, S::Superseded]
        .iter()
        .map(State::name)
        .chain(["held", "quarantined"])
        .find(|known| *known == name)
}
