//! What the rules need to know of the documents of a message.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use idr_ihe::manifest::{Manifest, ManifestReadError};
use idr_ihe::metadata::PatientId;

/// One `xdsb:Document` that was read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `@id` as sent.
    pub id: Option<String>,
    /// SHA-1 of the bytes, 40 lower-case hex digits (ITI TF-3 §4.2.3.2.10).
    pub sha1: String,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: u64,
    /// What the bytes say as a manifest, if [`super::Message::manifest_ids`] names the document.
    pub manifest: Option<Result<Manifest, ManifestReadError>>,
    /// Patient of the manifest, its issuer resolved (01 §3.2); `None` if it cannot be told.
    pub manifest_patient: Option<PatientId>,
}

impl Document {
    /// A document at hand; `as_manifest`: read it as one. The patient is taken if the manifest itself names the authority.
    pub fn of(id: Option<&str>, bytes: &[u8], as_manifest: bool) -> Self {
        let digest = |algorithm| {
            let mut context = Context::new(algorithm);
            context.update(bytes);
            context.finish()
        };
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256).as_ref());
        let manifest = as_manifest.then(|| Manifest::read(bytes));
        let manifest_patient = manifest.iter().flatten().find_map(|manifest| manifest.patient().ok());
        Self {
            id: id.map(str::to_owned),
            sha1: hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY)),
            sha256,
            size: bytes.len() as u64,
            manifest,
            manifest_patient,
        }
    }

    /// The manifest, if it could be read.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()?.as_ref().ok()
    }
}
