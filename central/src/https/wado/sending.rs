//! Instances on their way to a WADO-RS client: one after the other, each decided again before its first byte.
//!
//! # Failure
//! Bytes that are not those that were committed, and a permit that no longer holds, end the stream before its last chunk: the
//! body is then shorter than its `Content-Length`, or the HTTP/2 stream is reset.

use std::collections::VecDeque;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use idr_ihe::soap::multipart;
use tokio::sync::OwnedSemaphorePermit;

use super::media::Frame;
use crate::archive::retrieve::{Retrieval, Stopped, Stored as _};
use crate::central::Central;
use crate::objects::ByteStream;
use crate::store::instances::StoredInstance;

/// What comes next.
enum Piece {
    /// Head of a part, or the closing delimiter.
    Text(Bytes),
    /// An instance, by its number in the retrieval, that is not open yet.
    Instance(usize),
    /// An instance that is open: bytes, and how many.
    Open(ByteStream, u64),
}

/// An answer while it is sent.
struct Sending {
    pieces: VecDeque<Piece>,
    /// Bytes that have not left, frames included.
    left: u64,
    lengths: Vec<u64>,
    retrieval: Option<Retrieval<StoredInstance>>,
    _place: OwnedSemaphorePermit,
}

impl Sending {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        loop {
            match self.pieces.pop_front()? {
                Piece::Text(text) => return Some(self.sent(text).await),
                Piece::Instance(index) => {
                    let length = self.lengths.get(index).copied().unwrap_or_default();
                    let opened = match &mut self.retrieval {
                        Some(retrieval) => retrieval.open(index).await,
                        None => Err(Stopped::Withdrawn),
                    };
                    match opened {
                        Ok(bytes) => self.pieces.push_front(Piece::Open(bytes, length)),
                        Err(error) => return Some(self.broken(&error)),
                    }
                }
                Piece::Open(mut bytes, left) => match bytes.next().await {
                    Some(Ok(chunk)) => {
                        let left = left.saturating_sub(chunk.len() as u64);
                        match left {
                            // The last chunk is given only after the digest held.
                            0 => self.retrieval.iter_mut().for_each(Retrieval::count_item),
                            left => self.pieces.push_front(Piece::Open(bytes, left)),
                        }
                        if let Some(retrieval) = &mut self.retrieval {
                            retrieval.count(chunk.len() as u64);
                        }
                        return Some(self.sent(chunk).await);
                    }
                    Some(Err(error)) => return Some(self.broken(&error)),
                    None => {}
                },
            }
        }
    }

    /// The records are closed with the last chunk: HTTP/1 does not ask again once Content-Length is reached.
    async fn sent(mut self, chunk: Bytes) -> (Result<Bytes, std::io::Error>, Self) {
        self.left = self.left.saturating_sub(chunk.len() as u64);
        if self.left == 0
            && let Some(retrieval) = self.retrieval.take()
        {
            retrieval.close("200").await;
        }
        (Ok(chunk), self)
    }

    /// Dropping the retrieval closes its records with what had left.
    fn broken(mut self, error: &dyn std::error::Error) -> (Result<Bytes, std::io::Error>, Self) {
        tracing::error!(cause = %error, "an answer of WADO-RS is broken off");
        self.retrieval = None;
        self.pieces.clear();
        (Err(std::io::Error::other("the answer cannot be completed")), self)
    }
}

/// The answer with all instances of a retrieval, which has at least one; `first` is the first of them, open.
pub fn respond(
    central: &Central,
    frame: Frame,
    retrieval: Retrieval<StoredInstance>,
    first: ByteStream,
    place: OwnedSemaphorePermit,
) -> Response {
    let lengths: Vec<u64> = retrieval.items().map(|item| item.length()).collect();
    let parts: Vec<String> =
        retrieval.items().map(|item| format!("application/dicom; transfer-syntax={}", item.transfer_syntax_uid)).collect();
    let mut first = Some(first);
    let mut piece = |index: usize| match first.take() {
        Some(bytes) => Piece::Open(bytes, lengths.first().copied().unwrap_or_default()),
        None => Piece::Instance(index),
    };
    let mut pieces = VecDeque::new();
    let content_type = match frame {
        Frame::Single => {
            pieces.push_back(piece(0));
            parts.first().cloned().unwrap_or_default()
        }
        Frame::Multipart => {
            let boundary = central.random_id().simple().to_string();
            let writer = multipart::Writer::new(boundary).expect("32 hex digits are a boundary");
            for (index, part) in parts.iter().enumerate() {
                pieces.push_back(Piece::Text(writer.head(index == 0, &[("Content-Type", part)]).into()));
                pieces.push_back(piece(index));
            }
            pieces.push_back(Piece::Text(writer.closing().into()));
            format!("multipart/related; type=\"application/dicom\"; boundary=\"{}\"", writer.boundary())
        }
    };
    let length = |piece: &Piece| match piece {
        Piece::Text(text) => text.len() as u64,
        Piece::Instance(index) => lengths.get(*index).copied().unwrap_or_default(),
        Piece::Open(_, length) => *length,
    };
    let left = pieces.iter().map(length).sum();
    let sending = Sending { pieces, left, lengths, retrieval: Some(retrieval), _place: place };
    let mut response = Response::new(Body::from_stream(stream::unfold(sending, Sending::next).fuse()));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CONTENT_LENGTH, left.into());
    response
}
