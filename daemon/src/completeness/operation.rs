//! What a device says, kept before it is answered.

use std::sync::PoisonError;

use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::service::instance_availability::{self as ian, Availability, Notice};
use idr_dimse::service::mpps::{self, Creation, Modification, STUDIES_MAX, Step};
use idr_dimse::service::normalized::{self, Refused};
use idr_dimse::service::storage_commitment::ActionInformation;
use idr_dimse::status::Status;
use jiff::SignedDuration;
use rand::Rng as _;

use super::Completeness;
use super::listing::{Listing, Source};
use crate::commitment::Device;

/// An N-CREATE or N-SET whose command set is in order; its data set follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A step begins; with the SOP Instance UID if it has one.
    CreateStep(Option<String>),
    /// A step goes on or ends.
    SetStep(String),
    /// Instances are to be had; with the SOP Instance UID if it has one.
    CreateNotice(Option<String>),
}

impl Operation {
    /// The operation of a command on a presentation context of this abstract syntax.
    ///
    /// # Errors
    /// 0211H for an operation that the service does not have, and as [`normalized::check_create`] and [`normalized::check_set`].
    pub fn of(abstract_syntax: &str, command: &CommandSet) -> Result<Self, Refused> {
        match (abstract_syntax, command.command_field()) {
            (mpps::SOP_CLASS_UID, CommandField::N_CREATE_RQ) => {
                normalized::check_create(command, mpps::SOP_CLASS_UID).map(Operation::CreateStep)
            }
            (mpps::SOP_CLASS_UID, CommandField::N_SET_RQ) => normalized::check_set(command, mpps::SOP_CLASS_UID).map(Operation::SetStep),
            (ian::SOP_CLASS_UID, CommandField::N_CREATE_RQ) => {
                normalized::check_create(command, ian::SOP_CLASS_UID).map(Operation::CreateNotice)
            }
            _ => Err(Status::UNRECOGNIZED_OPERATION.into()),
        }
    }
}

impl Completeness {
    /// Most bytes of the data set of one operation: two UIDs to an instance, and what devices put beside them.
    pub fn request_bytes_max(&self) -> usize {
        262_144 + 512 * self.config.completeness.instances_max
    }

    /// Performs an operation, and gives its response; a success is durable. `data` is `None` if there was more than
    /// [`Completeness::request_bytes_max`].
    pub async fn perform(
        &self,
        device: &Device,
        operation: Operation,
        (command, transfer_syntax, data): (&CommandSet, &str, Option<&[u8]>),
    ) -> CommandSet {
        let most = self.config.completeness.instances_max;
        let done = match (operation, data) {
            (_, None) => Err(Status::RESOURCE_LIMITATION.into()),
            (Operation::CreateStep(uid), Some(data)) => match Creation::read(transfer_syntax, data, most) {
                Ok(creation) => self.create_step(device, uid, creation).await,
                Err(error) => Err(error.into()),
            },
            (Operation::SetStep(uid), Some(data)) => match Modification::read(transfer_syntax, data, most) {
                Ok(modification) => self.set_step(device, uid, modification).await,
                Err(error) => Err(error.into()),
            },
            (Operation::CreateNotice(uid), Some(data)) => match Notice::read(transfer_syntax, data, most) {
                Ok(notice) => self.create_notice(device, uid, notice).await,
                Err(error) => Err(error.into()),
            },
        };
        if let Err(Refused { status, attributes, comment, .. }) = &done {
            tracing::warn!(inbound = device.inbound, calling_ae_title = device.calling_ae, %status, ?attributes, comment, "what a device says of a study is refused; the study waits for its quiet time");
        }
        let uid = done.as_ref().ok().map(String::as_str);
        normalized::response(command, uid, done.as_ref().map(|_| ()))
    }

    /// A step begins; gives its SOP Instance UID.
    ///
    /// # Errors
    /// 0111H if this row has begun it before, 0110H if it cannot be kept.
    pub async fn create_step(&self, device: &Device, uid: Option<String>, creation: Creation) -> Result<String, Refused> {
        let now = (self.clock)();
        let uid = uid.unwrap_or_else(|| self.new_uid());
        let listing = Listing::new(device, Source::Mpps, uid.clone(), now).with_step(Step::from(creation), now);
        self.keep(listing).await?;
        Ok(uid)
    }

    /// A step goes on or ends; gives its SOP Instance UID.
    ///
    /// # Errors
    /// 0112H if this row has not begun it, or that is too long ago; as [`Step::set`]; 0110H if it cannot be kept.
    pub async fn set_step(&self, device: &Device, uid: String, modification: Modification) -> Result<String, Refused> {
        let _writing = self.writing.lock().await;
        let key = (device.inbound.clone(), Source::Mpps, uid.clone());
        let id = self.book().by_uid.get(&key).copied().ok_or(Status::NO_SUCH_SOP_INSTANCE)?;
        let kept = self.read(id).await.map_err(|error| not_kept(device, &error))?;
        let step = kept.step().set(modification)?;
        let listing = kept.with_step(step, (self.clock)());
        let (ledger, new) = (self.ledger.clone(), listing.clone());
        let written = tokio::task::spawn_blocking(move || ledger.replace(id, &new)).await.map_err(std::io::Error::other).flatten();
        written.map_err(|error| not_kept(device, &error))?;
        tracing::info!(inbound = device.inbound, instances = listing.instances.len(), phase = ?listing.phase, "a procedure step was set");
        self.book().insert(id, &listing);
        Ok(uid)
    }

    /// Instances are to be had; gives the SOP Instance UID of the notice. Those that are unavailable are none.
    ///
    /// # Errors
    /// 0111H if this row has said it before, 0110H if it cannot be kept.
    pub async fn create_notice(&self, device: &Device, uid: Option<String>, notice: Notice) -> Result<String, Refused> {
        let uid = uid.unwrap_or_else(|| self.new_uid());
        let kept = notice.instances.into_iter().filter(|(_, availability)| *availability == Availability::Kept);
        let listing = Listing::new(device, Source::Ian, uid.clone(), (self.clock)());
        let listing = listing.of(vec![notice.study_uid], kept.map(|(reference, _)| reference));
        self.keep(listing).await?;
        Ok(uid)
    }

    /// Storage commitment was asked for: the studies of what is here of it have these instances. A request that comes again adds
    /// nothing, and one of which nothing is here says nothing of any study.
    pub async fn requested(&self, device: &Device, information: &ActionInformation) {
        let mut study_uids: Vec<String> = Vec::new();
        for reference in &information.references {
            let entries = match self.spool.handed_over(&device.tenant, &device.inbound, &reference.sop_instance_uid).await {
                Ok(entries) => entries,
                Err(error) => return tracing::warn!(cause = %error, remedy = error.remedy(), "a request says nothing of its studies"),
            };
            for entry in entries {
                let study_uid = &entry.record.facts.study_uid;
                if study_uids.len() < STUDIES_MAX && !study_uids.contains(study_uid) {
                    study_uids.push(study_uid.clone());
                }
            }
        }
        if study_uids.is_empty() {
            return;
        }
        let listing = Listing::new(device, Source::Commitment, information.transaction_uid.clone(), (self.clock)());
        let listing = listing.of(study_uids, information.references.iter().cloned());
        // Its own answer is for [`crate::commitment`] to give; a study without this waits for its quiet time.
        let _ = self.keep(listing).await;
    }

    async fn keep(&self, listing: Listing) -> Result<(), Refused> {
        let _writing = self.writing.lock().await;
        let (id, given_up) = {
            let mut book = self.book();
            if book.by_uid.contains_key(&(listing.inbound.clone(), listing.source, listing.uid.clone())) {
                return Err(Status::DUPLICATE_SOP_INSTANCE.into());
            }
            let given_up = self.surplus(&book, &listing);
            book.next += 1;
            (book.next - 1, given_up)
        };
        let (ledger, new) = (self.ledger.clone(), listing.clone());
        let surplus = given_up.clone();
        let written = tokio::task::spawn_blocking(move || {
            ledger.write(id, &new)?;
            // What makes room goes when the new one is there, never for nothing.
            for id in surplus {
                if let Err(error) = ledger.remove(id) {
                    tracing::warn!(cause = %error, "the file of a listing that is given up stays until the next start");
                }
            }
            Ok(())
        });
        let written = written.await.map_err(std::io::Error::other).flatten();
        if let Err(error) = written {
            tracing::error!(cause = %error, inbound = listing.inbound, "what a device says of a study could not be kept");
            return Err(Status::PROCESSING_FAILURE.into());
        }
        tracing::info!(inbound = listing.inbound, source = ?listing.source, instances = listing.instances.len(), phase = ?listing.phase, "a device has said something of a study");
        let mut book = self.book();
        given_up.into_iter().for_each(|id| book.remove(id));
        book.insert(id, &listing);
        Ok(())
    }

    /// Listings of a row that make room for a new one: too old, or too many.
    fn surplus(&self, book: &super::Book, new: &Listing) -> Vec<u64> {
        let settings = &self.config.completeness;
        let kept = SignedDuration::from_hours(24 * i64::from(settings.keep_days));
        let own = || book.listings.iter().filter(|(_, summary)| summary.inbound == new.inbound);
        let mut surplus: Vec<u64> =
            own().filter(|(_, summary)| new.received.duration_since(summary.at) > kept).map(|(id, _)| *id).collect();
        let too_many = (own().count() - surplus.len() + 1).saturating_sub(settings.listings_max);
        if too_many > 0 {
            let oldest: Vec<u64> = own().map(|(id, _)| *id).filter(|id| !surplus.contains(id)).take(too_many).collect();
            tracing::warn!(
                inbound = new.inbound,
                listings = oldest.len(),
                "the oldest of what a device said of its studies is given up (completeness.listings_max)"
            );
            surplus.extend(oldest);
        }
        surplus
    }

    /// A UID of ours, made of random bits (PS3.5 §B.2).
    fn new_uid(&self) -> String {
        let number: u128 = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        // Version 4, variant 1 of RFC 9562.
        let number = number & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        format!("2.25.{number}")
    }
}

fn not_kept(device: &Device, error: &std::io::Error) -> Refused {
    tracing::error!(cause = %error, inbound = device.inbound, "a procedure step could not be kept");
    Status::PROCESSING_FAILURE.into()
}
