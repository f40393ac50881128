//! WADO-RS, one instance: `GET /dicomweb/studies/{study}/series/{series}/instances/{instance}` (PS3.18 §10.4).
//!
//! The data set goes out byte for byte as it was stored, under file meta of our own; nothing is transcoded. Unknown, of another
//! study or series, rejected and denied are one answer: 404.
//!
//! # Failure
//! Bytes that are not those that were committed end the stream before its last chunk; the body is then shorter than its
//! `Content-Length`, or the HTTP/2 stream is reset: never a normal end.
//!
//! # Standard
//! PS3.18 §8.7.3, §10.4; profile 05 §9, 09 §6, §8.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use idr_ihe::soap::{MediaType, multipart};
use idr_profile::xua::Transaction;
use tokio::sync::OwnedSemaphorePermit;

use super::enter;
use super::problem::{self, Problem};
use super::server::Client;
use super::stow::is_uid;
use crate::archive::retrieve::{self, Retrieval, Stopped, Stored as _};
use crate::central::{Central, Work};
use crate::consent::gate::Unanswered;
use crate::objects::ByteStream;
use crate::store::instances::{StoredInstance, Which};

/// `Retry-After` when all places are taken or the store does not answer, seconds.
const RETRY_SECONDS: u32 = 120;
/// What a media range without `transfer-syntax` asks for (PS3.18 §8.7.3.5.2).
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Media ranges of one `Accept` that are looked at.
const RANGES_MAX: usize = 32;

/// The route.
pub async fn instance(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series, instance)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request_id = problem::request_id(&headers).unwrap_or_default();
    let answer = |problem: Problem| problem.response(&central, &request_id);
    let who = match enter(&central, &client, &headers, &uri, Transaction::WadoRs).await {
        Ok(who) => who,
        Err(response) => return *response,
    };
    if ![&study, &series, &instance].into_iter().all(|uid| is_uid(uid)) {
        return answer(Problem::bad_request());
    }
    let ranges = ranges(&headers);
    let not_acceptable = || Problem::new("W-06", StatusCode::NOT_ACCEPTABLE);
    if ranges.is_empty() {
        return answer(not_acceptable());
    }
    let Some(place) = central.places.take(Work::Retrieve).await else { return answer(Problem::unavailable(RETRY_SECONDS)) };
    let which = Which::Instance { series_uid: &series, sop_instance_uid: &instance };
    let first_byte = Duration::from_secs(u64::from(central.xds.timeout.first_byte));
    let Ok(found) = tokio::time::timeout(first_byte, retrieve::instances(&central, &who, &study, which, 1)).await else {
        return answer(Problem::unavailable(RETRY_SECONDS));
    };
    let mut retrieval = match found {
        Ok(retrieval) => retrieval,
        Err(Unanswered::Refused(refusal)) => return answer(Problem::refused(&central, &refusal)),
        Err(Unanswered::Store(error)) => {
            tracing::error!(cause = %error, "an instance cannot be looked up");
            return answer(Problem::unavailable(RETRY_SECONDS));
        }
    };
    let Some(found) = retrieval.items().next().cloned() else {
        retrieval.close("404").await;
        return answer(Problem::not_found());
    };
    let Some(frame) = ranges.iter().find_map(|range| range.frame(&found.transfer_syntax_uid)) else {
        retrieval.close("406").await;
        return answer(not_acceptable());
    };
    let opened = match retrieval.check(0).await {
        Ok(()) => retrieval.open(0).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(bytes) => respond(&central, frame, &found, bytes, retrieval, place),
        Err(Stopped::Withdrawn) => {
            retrieval.close("404").await;
            answer(Problem::not_found())
        }
        Err(error) => {
            let incident = problem::incident(&central, &error);
            retrieval.close("500").await;
            answer(Problem::internal(&incident))
        }
    }
}

/// How the instance is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// `multipart/related` with one part.
    Multipart,
    /// `application/dicom`.
    Single,
}

/// One media range of `Accept` that could fit an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MediaRange {
    frame: Frame,
    /// Transfer syntax asked for; `None`: any.
    transfer_syntax: Option<String>,
    /// `q` in thousandths.
    weight: u16,
}

impl MediaRange {
    fn read(text: &str) -> Option<Self> {
        let media_type = MediaType::parse(text.trim()).ok()?;
        let weight = match media_type.parameter("q") {
            None => 1000,
            Some(q) => (q.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q))? * 1000.0) as u16,
        };
        let named = || match media_type.parameter("transfer-syntax") {
            Some("*") => None,
            Some(uid) => Some(uid.to_owned()),
            None => Some(EXPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        };
        let (frame, transfer_syntax) = match media_type.essence.as_str() {
            "*/*" | "multipart/*" => (Frame::Multipart, None),
            "application/*" => (Frame::Single, None),
            "application/dicom" => (Frame::Single, named()),
            "multipart/related" => match media_type.parameter("type").map(str::to_ascii_lowercase).as_deref() {
                None | Some("application/dicom" | "application/*" | "*/*") => (Frame::Multipart, named()),
                Some(_) => return None,
            },
            _ => return None,
        };
        (weight > 0).then_some(Self { frame, transfer_syntax, weight })
    }

    fn frame(&self, stored: &str) -> Option<Frame> {
        self.transfer_syntax.as_deref().is_none_or(|asked| asked == stored).then_some(self.frame)
    }
}

/// The ranges that could fit, most wanted first. No `Accept` is any; an empty list: nothing fits.
fn ranges(headers: &HeaderMap) -> Vec<MediaRange> {
    if !headers.contains_key(ACCEPT) {
        return vec![MediaRange { frame: Frame::Multipart, transfer_syntax: None, weight: 1000 }];
    }
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(split);
    let mut ranges: Vec<MediaRange> = values.take(RANGES_MAX).filter_map(MediaRange::read).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.weight));
    ranges
}

/// Splits at commas outside of quotes.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// An instance while it is sent.
struct Sending {
    front: Option<Bytes>,
    bytes: ByteStream,
    /// Bytes of the instance that have not left.
    left: u64,
    back: Option<Bytes>,
    retrieval: Option<Retrieval<StoredInstance>>,
    _place: OwnedSemaphorePermit,
}

impl Sending {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        if let Some(front) = self.front.take() {
            return Some((Ok(front), self));
        }
        match self.bytes.next().await {
            Some(Ok(chunk)) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                if let Some(retrieval) = &mut self.retrieval {
                    retrieval.count(chunk.len() as u64);
                }
                // The records are closed with the last chunk: HTTP/1 does not ask again once Content-Length is reached.
                if self.left == 0 {
                    self.complete().await;
                }
                Some((Ok(chunk), self))
            }
            Some(Err(error)) => {
                // Dropping the retrieval closes its records with what had left.
                tracing::error!(cause = %error, "an instance is broken off");
                self.retrieval = None;
                self.back = None;
                Some((Err(std::io::Error::other("the instance cannot be read")), self))
            }
            None => {
                self.complete().await;
                let back = self.back.take()?;
                Some((Ok(back), self))
            }
        }
    }
}

impl Sending {
    async fn complete(&mut self) {
        if let Some(mut retrieval) = self.retrieval.take() {
            retrieval.count_item();
            retrieval.close("200").await;
        }
    }
}

fn respond(
    central: &Central,
    frame: Frame,
    found: &StoredInstance,
    bytes: ByteStream,
    retrieval: Retrieval<StoredInstance>,
    place: OwnedSemaphorePermit,
) -> Response {
    let part = format!("application/dicom; transfer-syntax={}", found.transfer_syntax_uid);
    let (content_type, front, back) = match frame {
        Frame::Single => (part, None, None),
        Frame::Multipart => {
            let boundary = central.random_id().simple().to_string();
            let writer = multipart::Writer::new(boundary).expect("32 hex digits are a boundary");
            let content_type = format!("multipart/related; type=\"application/dicom\"; boundary=\"{}\"", writer.boundary());
            let (front, back) = (writer.head(true, &[("Content-Type", &part)]), writer.closing());
            (content_type, Some(Bytes::from(front)), Some(Bytes::from(back)))
        }
    };
    let length = [&front, &back].into_iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>() + found.length();
    let sending = Sending { front, bytes, left: found.length(), back, retrieval: Some(retrieval), _place: place };
    let mut response = Response::new(Body::from_stream(stream::unfold(sending, Sending::next).fuse()));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &str = "1.2.840.10008.1.2.4.70";

    fn frame(accept: Option<&str>, stored: &str) -> Option<Frame> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("a value"));
        }
        ranges(&headers).iter().find_map(|range| range.frame(stored))
    }

    #[test]
    fn the_stored_encoding_is_given_where_the_client_takes_it() {
        for (accept, stored, expected) in [
            (None, JPEG, Some(Frame::Multipart)),
            (Some("*/*"), JPEG, Some(Frame::Multipart)),
            (Some("multipart/related; type=\"application/dicom\"; transfer-syntax=*"), JPEG, Some(Frame::Multipart)),
            (Some("multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.70"), JPEG, Some(Frame::Multipart)),
            (Some("multipart/related; type=application/dicom"), EXPLICIT_VR_LITTLE_ENDIAN, Some(Frame::Multipart)),
            (Some("multipart/related; type=application/dicom"), JPEG, None),
            (Some("application/dicom; transfer-syntax=*"), JPEG, Some(Frame::Single)),
            (
                Some("application/dicom; transfer-syntax=*; q=0.5, multipart/related; type=\"application/dicom\"; transfer-syntax=*"),
                JPEG,
                Some(Frame::Multipart),
            ),
            (Some("application/dicom; transfer-syntax=*; q=0"), JPEG, None),
            (Some("application/dicom+json"), JPEG, None),
            (Some("multipart/related; type=\"application/dicom+xml\""), JPEG, None),
        ] {
            assert_eq!(frame(accept, stored), expected, "{accept:?} for {stored}");
        }
    }
}
