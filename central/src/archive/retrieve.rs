//! Permitted bytes on their way out: what WADO-RS, RAD-69 and ITI-43 share.
//!
//! [`instances`] looks up, decides and opens the records; [`Retrieval`] then gives one thing after the other, each decided
//! again first on the unit and the declarations as they are then (profile 05 §9). The routes put the bytes into their frames.
//!
//! # Order
//! Decision and opening records before the first byte, the closing record after the last. A [`Retrieval`] that is dropped is
//! closed as what had left until then.
//!
//! # Failure
//! Bytes that are missing, or are not those that were committed, end the stream before its last chunk: a receiver never gets a
//! whole object that was altered. What was missing from the start is told before the first byte ([`Retrieval::check`]).

pub mod rad_69;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use idr_ihe::manifest::IMPLEMENTATION_CLASS_UID;
use idr_profile::access::{AccessUnit, Decision, Disclosed, UnitId};
use idr_profile::scan::Scan;
use idr_profile::xua::Refusal;

use super::header::{self, Until};
use crate::assertion::Authenticated;
use crate::audit::{Delivered, Extent, Opening, Outcome};
use crate::central::Central;
use crate::consent::gate::{self, Decided, Unanswered};
use crate::consent::log::{self, By, Mention};
use crate::objects::{ByteStream, ObjectError, Reader};
use crate::store::instances::{StoredInstance, Which};
use crate::store::search::Sought;
use crate::store::{StoreError, Tx};

/// Something whose bytes are kept.
#[async_trait]
pub trait Stored: Send + Sync + 'static {
    /// Bytes of what [`open`](Self::open) gives.
    fn length(&self) -> u64;

    /// Its media type.
    fn media_type(&self) -> &str;

    /// What a record says of it.
    fn mention(&self) -> Mention;

    /// Whether the bytes are there, before the first one is promised.
    ///
    /// # Errors
    /// [`ObjectError`].
    async fn check(&self, objects: Reader<'_>) -> Result<(), ObjectError>;

    /// Its bytes, checked on the way.
    ///
    /// # Errors
    /// [`ObjectError`], also inside the stream.
    async fn open(&self, objects: Reader<'_>) -> Result<ByteStream, ObjectError>;

    /// Its access unit as it is now.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn unit_now(&self, unit: &UnitId, tx: &mut Tx) -> Result<Option<AccessUnit>, StoreError>;
}

/// Why a running answer stops.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The permit does not hold any more.
    #[error("the permission was withdrawn while the answer ran")]
    Withdrawn,
    /// The bytes.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Permitted things of one request, whose opening records are durable.
pub struct Retrieval<T> {
    central: Arc<Central>,
    who: Authenticated,
    decided: Decided<T>,
    opening: Option<Opening>,
    expected: u64,
    sent: u64,
    bytes: u64,
}

impl Retrieval<StoredInstance> {
    /// Decides again and reads the header of the `index`-th instance.
    ///
    /// # Errors
    /// [`Stopped`]. Without such an instance: withdrawn.
    pub async fn header(&mut self, index: usize, until: Until) -> Result<Scan, Stopped> {
        let disclosed = self.decided.gated.disclosed.get(index).ok_or(Stopped::Withdrawn)?;
        recheck(&self.central, &self.who, &self.decided, disclosed).await?;
        Ok(header::read(self.central.objects.permitted(disclosed.permit()), disclosed.payload(), until).await?)
    }

    /// Bytes of the `index`-th instance, from its data set on, under the decision of the last [`header`](Self::header).
    ///
    /// # Errors
    /// [`Stopped`]. Without such an instance: withdrawn.
    pub async fn part(&mut self, index: usize, range: Range<u64>) -> Result<ByteStream, Stopped> {
        let disclosed = self.decided.gated.disclosed.get(index).ok_or(Stopped::Withdrawn)?;
        let (stored, objects) = (disclosed.payload(), self.central.objects.permitted(disclosed.permit()));
        let range = stored.data_set_offset.saturating_add(range.start)..stored.data_set_offset.saturating_add(range.end);
        Ok(objects.open(&stored.object_key, Some(range)).await?.1)
    }
}

impl<T: Stored> Retrieval<T> {
    /// Opens the records of what was decided.
    ///
    /// # Errors
    /// IDR-X-32.
    pub async fn begin(central: Arc<Central>, who: Authenticated, decided: Decided<T>) -> Result<Self, Refusal> {
        let opening = decided.open(&central, &who, By::Unit, None, T::mention).await?;
        let expected = decided.gated.disclosed.len() as u64;
        Ok(Self { central, who, decided, opening: Some(opening), expected, sent: 0, bytes: 0 })
    }

    /// What may be given, in the order of the look-up.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &T> {
        self.decided.gated.disclosed.iter().map(Disclosed::payload)
    }

    /// How many things the answer will hold, if not each once.
    pub fn expect(&mut self, count: u64) {
        self.expected = count;
    }

    /// Whether the bytes of the `index`-th thing are there, before the first one is promised.
    ///
    /// # Errors
    /// [`Stopped::Object`]. Without such a thing: withdrawn.
    pub async fn check(&self, index: usize) -> Result<(), Stopped> {
        let disclosed = self.decided.gated.disclosed.get(index).ok_or(Stopped::Withdrawn)?;
        Ok(disclosed.payload().check(self.central.objects.permitted(disclosed.permit())).await?)
    }

    /// Decides again and opens the bytes of the `index`-th thing.
    ///
    /// # Errors
    /// [`Stopped`]. Without such a thing: withdrawn.
    pub async fn open(&mut self, index: usize) -> Result<ByteStream, Stopped> {
        let disclosed = self.decided.gated.disclosed.get(index).ok_or(Stopped::Withdrawn)?;
        recheck(&self.central, &self.who, &self.decided, disclosed).await?;
        Ok(disclosed.payload().open(self.central.objects.permitted(disclosed.permit())).await?)
    }

    /// So many bytes have left.
    pub fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The last byte of one thing has left.
    pub fn count_item(&mut self) {
        self.sent += 1;
        self.central.counters.instances_sent.add(1);
    }

    /// One thing was told of without its bytes: metadata.
    pub fn count_described(&mut self) {
        self.sent += 1;
    }

    /// Writes the closing record: what was delivered, under which status.
    pub async fn close(mut self, status: &str) {
        if let Some(opening) = self.opening.take() {
            let delivered = self.delivered();
            log::close(&self.central, opening, outcome(&delivered, self.expected), Some(delivered), status).await;
        }
    }

    fn delivered(&self) -> Delivered {
        let extent = if self.sent >= self.expected {
            Extent::Complete
        } else if self.bytes > 0 {
            Extent::Partial
        } else {
            Extent::None
        };
        Delivered { extent, instances: self.sent, bytes: self.bytes }
    }
}

impl<T> Drop for Retrieval<T> {
    fn drop(&mut self) {
        let Some(opening) = self.opening.take() else { return };
        let extent = if self.bytes > 0 { Extent::Partial } else { Extent::None };
        let (central, delivered) = (self.central.clone(), Delivered { extent, instances: self.sent, bytes: self.bytes });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { log::close(&central, opening, Outcome::Failed, Some(delivered), "aborted").await });
        }
    }
}

fn outcome(delivered: &Delivered, expected: u64) -> Outcome {
    if delivered.extent == Extent::None && expected > 0 { Outcome::Failed } else { Outcome::Permit }
}

/// The decision on what is known now. Nothing is asked again while neither the declarations nor the unit have changed.
async fn recheck<T: Stored>(central: &Central, who: &Authenticated, decided: &Decided<T>, disclosed: &Disclosed<T>) -> Result<(), Stopped> {
    let (permit, now) = (disclosed.permit(), central.now());
    let mut tx = central.store.read().await?;
    let unit = disclosed.payload().unit_now(&disclosed.unit().id, &mut tx).await?.ok_or(Stopped::Withdrawn)?;
    let unchanged = unit == *disclosed.unit() && tx.store_version().await? == permit.store_version();
    if unchanged && permit.opens(&unit.id, decided.request.operation, now) {
        return Ok(());
    }
    let state = gate::state(&mut tx, who, now).await?;
    match permit.recheck(&who.subject, &decided.request, Some(&unit), &state, &central.policy, now) {
        Decision::Permit(_) => Ok(()),
        Decision::Omit(_) | Decision::Refuse(_) => {
            tracing::warn!(request = %who.asked.request_id, "an answer is ended: the permission was withdrawn while it ran");
            Err(Stopped::Withdrawn)
        }
    }
}

/// Looks up instances of a study, decides, and opens the records. Nothing permitted is an empty retrieval, whatever the reason.
///
/// # Errors
/// [`Unanswered`]; [`StoreError::TooMany`] if more than `limit` instances are there.
pub async fn instances(
    central: &Arc<Central>,
    who: &Authenticated,
    study_uid: &str,
    which: Which<'_>,
    limit: usize,
) -> Result<Retrieval<StoredInstance>, Unanswered> {
    let now = central.now();
    let request = who.request(None);
    let mut tx = central.store.read().await?;
    let state = gate::state(&mut tx, who, now).await?;
    if let Err(refused) = gate::check(central, who, &request, &state, now) {
        drop(tx);
        return Err(gate::refused(central, who, refused).await.into());
    }
    let (candidates, too_many) = match tx.instances(study_uid, which, limit).await {
        // That there is too much is told to those alone who may see some of it.
        Err(too_many @ StoreError::TooMany { .. }) => {
            let study = [study_uid.to_owned()];
            let series = match which {
                Which::Series(series_uid) | Which::Instance { series_uid, .. } => vec![series_uid.to_owned()],
                Which::Study | Which::Instances(_) => Vec::new(),
            };
            let sought = Sought { patient: None, studies: &study, series: &series, instances: &[] };
            (tx.representatives(sought, limit).await?, Some(too_many))
        }
        found => (found?, None),
    };
    drop(tx);
    let decided = match gate::decide(central, who, request, state, candidates, now) {
        Ok(decided) => match too_many {
            Some(too_many) if !decided.gated.disclosed.is_empty() => return Err(too_many.into()),
            _ => decided,
        },
        Err(refused) => return Err(gate::refused(central, who, refused).await.into()),
    };
    Ok(Retrieval::begin(central.clone(), who.clone(), decided).await?)
}

#[async_trait]
impl Stored for StoredInstance {
    fn length(&self) -> u64 {
        head(&self.sop_class_uid, &self.sop_instance_uid, &self.transfer_syntax_uid).len() as u64
            + self.object_size.saturating_sub(self.data_set_offset)
    }

    fn media_type(&self) -> &str {
        "application/dicom"
    }

    fn mention(&self) -> Mention {
        Mention {
            study: Some(self.study_uid.clone()),
            series: Some(self.series_uid.clone()),
            sop_class: Some(self.sop_class_uid.clone()),
            ..Mention::default()
        }
    }

    async fn check(&self, objects: Reader<'_>) -> Result<(), ObjectError> {
        let (size, _) = objects.open(&self.object_key, Some(0..1)).await?;
        if size == self.object_size { Ok(()) } else { Err(ObjectError::Altered { key: self.object_key.clone() }) }
    }

    /// The Part 10 file: file meta of our own (profile 01 §8.1), the data set byte for byte as it was stored.
    async fn open(&self, objects: Reader<'_>) -> Result<ByteStream, ObjectError> {
        let (_, bytes) = objects.open_verified(&self.object_key, &self.transfer_syntax_uid, self.data_set_offset, self.digest).await?;
        let mut skip = self.data_set_offset;
        let data_set = bytes.filter_map(move |chunk| {
            let rest = chunk.map(|chunk| {
                let head = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                skip -= head as u64;
                chunk.slice(head..)
            });
            std::future::ready(match rest {
                Ok(rest) if rest.is_empty() => None,
                rest => Some(rest),
            })
        });
        Ok(stream::once(std::future::ready(Ok(Bytes::from(head(&self.sop_class_uid, &self.sop_instance_uid, &self.transfer_syntax_uid)))))
            .chain(data_set)
            .boxed())
    }

    async fn unit_now(&self, _: &UnitId, tx: &mut Tx) -> Result<Option<AccessUnit>, StoreError> {
        tx.unit_of(&self.sop_instance_uid).await
    }
}

/// Preamble and file meta of an instance as it is sent, or kept without file meta of its sender: what is known of it and who wrote
/// the file, without private information of whoever stored it.
pub fn head(sop_class_uid: &str, sop_instance_uid: &str, transfer_syntax_uid: &str) -> Vec<u8> {
    let mut meta = vec![0x02, 0, 0x01, 0, b'O', b'B', 0, 0, 2, 0, 0, 0, 0, 1];
    for (element, vr, value, padding) in [
        (0x0002, b"UI", sop_class_uid, 0),
        (0x0003, b"UI", sop_instance_uid, 0),
        (0x0010, b"UI", transfer_syntax_uid, 0),
        (0x0012, b"UI", IMPLEMENTATION_CLASS_UID, 0),
        (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b' '),
    ] {
        let length = value.len().next_multiple_of(2);
        meta.extend_from_slice(&[0x02, 0]);
        meta.extend_from_slice(&u16::to_le_bytes(element));
        meta.extend_from_slice(vr);
        meta.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        meta.extend_from_slice(value.as_bytes());
        meta.resize(meta.len() + length - value.len(), padding);
    }
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    head.extend_from_slice(&[0x02, 0, 0, 0, b'U', b'L', 4, 0]);
    head.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_le_bytes());
    head.append(&mut meta);
    head
}

/// (0002,0013) of what the centre writes.
const IMPLEMENTATION_VERSION_NAME: &str = "IDR_CENTRAL";
