//! A SOAP message as it streams in: its root part in memory, its documents staged while they come.
//!
//! # Failure
//! What was staged belongs to nobody until a registration is committed: [`Staged`] discards on drop whatever was not
//! [released](Staged::release) or [left](Staged::leave), also when the request is cancelled.
//!
//! # Bounds
//! Plain body BD-13, MTOM message and parts BD-14. No part but the root is in memory as a whole here.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use axum::body::Body;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use idr_ihe::soap::mtom::{self, Event};
use idr_ihe::soap::{Framing, Refusal, multipart};
use std::collections::HashSet;
use std::sync::Arc;

use super::body::{BodyError, BodyReader};
use crate::central::Central;
use crate::objects::{ObjectError, ObjectKey, ObjectWriter, Objects, Written};

/// Why a message is not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// A rule of profile 08 §3.
    #[error(transparent)]
    Soap(#[from] Refusal),
    /// The body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// There is no room for documents of somebody who is not known yet.
    #[error("less than storage.reserve_bytes is left")]
    NoRoom,
    /// A document cannot be staged.
    #[error("a document cannot be staged")]
    Objects(#[from] ObjectError),
}

impl From<multipart::MultipartError> for ReceiveError {
    fn from(error: multipart::MultipartError) -> Self {
        Self::Soap(error.into())
    }
}

/// A document whose bytes are durable and whose owner is not decided.
#[derive(Debug, Clone)]
pub struct Part {
    /// Content-ID without brackets; none for a document that stood in line.
    pub content_id: Option<String>,
    /// Where it is, and how long.
    pub written: Written,
    /// SHA-1, lower-case hex.
    pub sha1: String,
    /// SHA-256.
    pub sha256: [u8; 32],
}

/// Staged documents. Dropping discards those that were not released.
pub struct Staged {
    objects: Objects,
    /// In message order.
    pub parts: Vec<Part>,
}

impl Staged {
    /// The documents with these keys have an owner now; the others are discarded before this returns.
    pub async fn release(mut self, owned: &HashSet<ObjectKey>) {
        for part in std::mem::take(&mut self.parts) {
            if !owned.contains(part.written.key()) {
                discard(&self.objects, part.written.key()).await;
            }
        }
    }

    /// Whether the documents have an owner is not known: the sweep for strays asks the index before it removes them.
    pub fn leave(mut self) {
        self.parts.clear();
    }

    /// Stages bytes that are at hand: a document that stood in line.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn add(&mut self, key: ObjectKey, bytes: bytes::Bytes) -> Result<Part, ObjectError> {
        let mut digests = Digests::new();
        digests.update(&bytes);
        let written = self.objects.put(key, bytes).await?;
        let part = digests.part(None, written);
        self.parts.push(part.clone());
        Ok(part)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let (objects, parts) = (self.objects.clone(), std::mem::take(&mut self.parts));
        if parts.is_empty() {
            return;
        }
        // Without a runtime the sweep for strays finds them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for part in parts {
                    discard(&objects, part.written.key()).await;
                }
            });
        }
    }
}

async fn discard(objects: &Objects, key: &ObjectKey) {
    if let Err(error) = objects.discard(key).await {
        tracing::warn!(cause = %error, "staged bytes stay behind; the sweep for strays removes them");
    }
}

struct Digests {
    sha1: Context,
    sha256: Context,
}

impl Digests {
    fn new() -> Self {
        Self { sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY), sha256: Context::new(&SHA256) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.sha256.update(bytes);
    }

    fn part(self, content_id: Option<String>, written: Written) -> Part {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        Part { content_id, written, sha1: hex::encode(self.sha1.finish()), sha256 }
    }
}

struct Writing {
    content_id: Option<String>,
    writer: ObjectWriter,
    digests: Digests,
}

enum Frame {
    Plain,
    Mtom(Box<mtom::Reader>),
}

/// A message while it is received.
pub struct Incoming {
    central: Arc<Central>,
    body: BodyReader,
    frame: Frame,
    staged: Staged,
    /// Whether documents are kept; before the action is known they might be wanted.
    keep: bool,
    writing: Option<Writing>,
}

impl Incoming {
    /// Begins. A body whose announced length is above the bound is not read.
    ///
    /// # Errors
    /// [`ReceiveError::Body`], and S-22 for a boundary that is none.
    pub fn new(central: &Arc<Central>, headers: &HeaderMap, body: Body, framing: &Framing) -> Result<Self, ReceiveError> {
        let https = &central.config.https;
        let limits = multipart::Limits { total_bytes: https.mtom_bytes_max, ..multipart::Limits::MTOM };
        Self::within(central, headers, body, framing, https.soap_body_bytes_max, limits)
    }

    /// The same within other bounds: `plain_max` bytes of a plain message.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(
        central: &Arc<Central>,
        headers: &HeaderMap,
        body: Body,
        framing: &Framing,
        plain_max: u64,
        limits: multipart::Limits,
    ) -> Result<Self, ReceiveError> {
        let (limit, frame) = match framing {
            Framing::Plain => (plain_max, Frame::Plain),
            Framing::Mtom { boundary, start } => {
                (limits.total_bytes, Frame::Mtom(Box::new(mtom::Reader::new(boundary, start.clone(), limits)?)))
            }
        };
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge { limit }.into());
        }
        let staged = Staged { objects: central.objects.clone(), parts: Vec::new() };
        Ok(Self { central: central.clone(), body: BodyReader::new(headers, body, limit)?, frame, staged, keep: true, writing: None })
    }

    /// The envelope's bytes. Documents that come before it are staged.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub async fn root(&mut self) -> Result<Vec<u8>, ReceiveError> {
        if matches!(self.frame, Frame::Plain) {
            let mut root = Vec::new();
            while let Some(bytes) = self.body.next().await? {
                root.extend_from_slice(&bytes);
            }
            return Ok(root);
        }
        loop {
            match self.event().await? {
                Some(Event::Root(root)) => return Ok(root),
                // Nobody knows yet who sends it.
                Some(Event::Part(_)) if self.central.space.is_short() => return Err(ReceiveError::NoRoom),
                Some(event) => self.stage(event).await?,
                // `finish` has refused a message without root.
                None => return Err(Refusal::Multipart(multipart::MultipartError::Root).into()),
            }
        }
    }

    /// From now on documents are read and dropped (S-26).
    pub fn drop_documents(&mut self) {
        self.keep = false;
    }

    /// Reads what follows the root part, to the end of the message.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub async fn rest(mut self) -> Result<Staged, ReceiveError> {
        while let Some(event) = self.event().await? {
            self.stage(event).await?;
        }
        let objects = self.staged.objects.clone();
        Ok(std::mem::replace(&mut self.staged, Staged { objects, parts: Vec::new() }))
    }

    async fn event(&mut self) -> Result<Option<Event>, ReceiveError> {
        let Frame::Mtom(reader) = &mut self.frame else { return Ok(None) };
        loop {
            if let Some(event) = reader.poll()? {
                return Ok(Some(event));
            }
            match self.body.next().await? {
                Some(bytes) => reader.feed(&bytes)?,
                None => {
                    reader.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    async fn stage(&mut self, event: Event) -> Result<(), ReceiveError> {
        match event {
            Event::Part(head) if self.keep => {
                let writer = self.central.objects.create(ObjectKey::new(self.central.new_id())).await?;
                self.writing = Some(Writing { content_id: head.content_id(), writer, digests: Digests::new() });
            }
            Event::Data(bytes) => {
                if let Some(writing) = &mut self.writing {
                    writing.digests.update(&bytes);
                    writing.writer.write(bytes).await?;
                }
            }
            Event::PartEnd => {
                if let Some(Writing { content_id, writer, digests }) = self.writing.take() {
                    let written = writer.finish().await?;
                    self.staged.parts.push(digests.part(content_id, written));
                }
            }
            Event::Part(_) | Event::Root(_) | Event::End => {}
        }
        Ok(())
    }
}
