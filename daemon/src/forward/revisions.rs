//! Revisions of manifests on disk: stored before their first attempt, sent as stored in every attempt (profile 02 §5.2).
//!
//! # On disk
//! `<state>/manifests/<32 hex digits of the study>/<content key>.json`, mode 0600, written aside, synced and renamed. A
//! revision is never removed here: it is what was said to the registry. Which one is pending and which is published
//! stands in the notes of the study, which the spool's journal keeps. `<content key>.withdrawal.json` beside it: its withdrawal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idr_ihe::ebxml::{self, Placement};
use idr_ihe::soap::mtom;
use idr_ihe::soap::xop::Content;
use idr_ihe::transaction::iti_41;
use idr_profile::mapping::Revision;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::withdrawal::KeptWithdrawal;
use crate::spool::disk::{Disk, create_folders, files_ending, read_from};
use crate::spool::{SpoolId, Tenant};

/// A revision as it is sent.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// 64 hex digits.
    pub content_key: String,
    /// uniqueId of the entry.
    pub document_uid: String,
    /// entryUUID of the entry.
    pub entry_uuid: String,
    /// `wsa:MessageID`.
    pub message_id: String,
    /// Body's child, with an XOP reference to the document.
    pub body: String,
    /// The KOS file, base64.
    #[serde(with = "base64_bytes")]
    pub document: Vec<u8>,
    /// SHA-1 of the KOS file, as registered.
    pub hash: String,
    /// Objects that it references.
    pub members: Vec<SpoolId>,
    /// entryUUID that it replaces.
    pub replaces: Option<String>,
}

/// The folder.
#[derive(Clone)]
pub struct Revisions {
    disk: Arc<dyn Disk>,
}

/// Below the state folder.
const FOLDER: &str = "manifests";

impl Kept {
    /// A revision with the objects that it references.
    pub fn new(revision: Revision, members: Vec<SpoolId>, replaces: Option<String>) -> Self {
        let objects = ebxml::encode(&revision.submission, Placement::Beside);
        let document = iti_41::Document { id: Some(revision.entry_uuid.clone()), content: Content::Part(mtom::content_id(1)) };
        let hash = revision.submission.entries.first().and_then(|entry| entry.hash.clone()).unwrap_or_default();
        Self {
            body: iti_41::encode(&objects, &[document]),
            content_key: revision.content_key,
            document_uid: revision.document_uid,
            entry_uuid: revision.entry_uuid,
            message_id: revision.message_id,
            document: revision.kos,
            hash,
            members,
            replaces,
        }
    }
}

impl Revisions {
    /// On the disk of the state folder.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    fn study(&self, tenant: &Tenant, study_uid: &str) -> PathBuf {
        let study = hex::encode(Sha256::digest(format!("{tenant}|{study_uid}")));
        Path::new(FOLDER).join(&study[..32])
    }

    fn path(&self, tenant: &Tenant, study_uid: &str, content_key: &str) -> Option<PathBuf> {
        // One that is not a content key never becomes a name.
        is_content_key(content_key).then(|| self.study(tenant, study_uid).join(format!("{content_key}.json")))
    }

    /// Keeps a revision; returns when it is durable. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, tenant: &Tenant, study_uid: &str, kept: &Kept) -> io::Result<()> {
        let path = self.path(tenant, study_uid, &kept.content_key).ok_or(io::ErrorKind::InvalidInput)?;
        self.write(&path, &serde_json::to_vec(kept)?)
    }

    /// Keeps the withdrawal of a revision; returns when it is durable. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_withdrawal(&self, tenant: &Tenant, study_uid: &str, kept: &KeptWithdrawal) -> io::Result<()> {
        let path = self.path(tenant, study_uid, &kept.content_key).ok_or(io::ErrorKind::InvalidInput)?;
        self.write(&path.with_extension("withdrawal.json"), &serde_json::to_vec(kept)?)
    }

    /// Reads the withdrawal of a revision; blocks.
    ///
    /// # Errors
    /// The disk, or a file that does not hold one.
    pub fn read_withdrawal(&self, tenant: &Tenant, study_uid: &str, content_key: &str) -> io::Result<KeptWithdrawal> {
        let path = self.path(tenant, study_uid, content_key).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(serde_json::from_slice(&self.read_file(&path.with_extension("withdrawal.json"))?)?)
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        create_folders(&*self.disk, folder)?;
        let aside = path.with_extension("new");
        match self.disk.remove(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(&aside)?;
        file.write_at(0, content)?;
        file.sync_data()?;
        self.disk.rename(&aside, path)?;
        self.disk.sync_folder(folder)
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_from(&*self.disk.open(path)?, 0)
    }

    /// Reads a revision; blocks.
    ///
    /// # Errors
    /// The disk, or a file that does not hold one.
    pub fn read(&self, tenant: &Tenant, study_uid: &str, content_key: &str) -> io::Result<Kept> {
        let path = self.path(tenant, study_uid, content_key).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(serde_json::from_slice(&self.read_file(&path)?)?)
    }

    /// Content keys of every revision of a study that was kept, readable or not; blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn content_keys(&self, tenant: &Tenant, study_uid: &str) -> io::Result<Vec<String>> {
        let names = files_ending(&*self.disk, &self.study(tenant, study_uid), ".json")?;
        let mut keys: Vec<String> = names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect();
        keys.retain(|key| is_content_key(key));
        Ok(keys)
    }
}

/// 64 hex digits.
pub fn is_content_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
