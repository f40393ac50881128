//! Instances and documents as they come back: digested while they stream, kept only when asked for.

use idr_profile::digest::{Digest, Digester};
use idr_profile::scan::{Limits, Part10Reader, tags};
use sha2::{Digest as _, Sha256};

/// One document of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// DocumentUniqueId; for RAD-69 and WADO-RS the SOP Instance UID.
    pub unique_id: String,
    /// Bytes of the document.
    pub size_bytes: u64,
    /// SHA-256 of these bytes, hex.
    pub sha256: String,
    /// Digest of its data set by profile 01 §3.1, if it is a DICOM file.
    pub digest: Option<Digest>,
    /// The bytes, if they were to be kept.
    pub content: Vec<u8>,
}

/// A document while it streams.
pub struct Receiving {
    file: Part10Reader,
    digester: Option<Digester>,
    size_bytes: u64,
    sha256: Sha256,
    keep: bool,
    content: Vec<u8>,
}

impl Receiving {
    /// Before the first byte.
    pub fn new(keep: bool) -> Self {
        Self { file: Part10Reader::new(Limits::default()), digester: None, size_bytes: 0, sha256: Sha256::new(), keep, content: Vec::new() }
    }

    /// The next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        if self.keep {
            self.content.extend_from_slice(bytes);
        }
        let fed = self.file.feed(bytes);
        let (carried, rest) = (fed.carried, fed.rest);
        if self.digester.is_none() {
            let syntax = self.file.file_meta().and_then(|meta| meta.data_set().uid(tags::TRANSFER_SYNTAX_UID).map(str::to_owned));
            self.digester = syntax.as_deref().map(Digester::new);
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&carried);
            digester.update(rest);
        }
    }

    /// All bytes have come.
    pub fn finish(self, unique_id: &str) -> Received {
        Received {
            unique_id: unique_id.to_owned(),
            size_bytes: self.size_bytes,
            sha256: hex::encode(self.sha256.finalize()),
            digest: self.digester.map(Digester::finish),
            content: self.content,
        }
    }

    /// All bytes have come; the SOP Instance UID of file meta names the document.
    pub fn finish_by_meta(self) -> Received {
        let uid = self.file.file_meta().and_then(|meta| meta.data_set().uid(tags::MEDIA_STORAGE_SOP_INSTANCE_UID).map(str::to_owned));
        self.finish(&uid.unwrap_or_default())
    }
}
