//! Frames of an instance: `GET …/instances/{instance}/frames/{frames}` (PS3.18 §10.4.1.1.6).
//!
//! Pixel data goes out as it is encoded: native frames are cut from the value, encapsulated ones are the fragments that the
//! basic offset table, or their number, assigns to them. What cannot be cut so (no whole bytes, an offset table that does not
//! fit, deflated or fragmented without a table) is 406. The bytes of a part of an object cannot be held against its digest:
//! whoever needs that retrieves the instance.
//!
//! # Bounds
//! `FRAMES_MAX` frames of one request, and only these are looked up. Of encapsulated pixel data the object is read once to find its fragments.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use idr_ihe::soap::multipart;
use idr_profile::scan::{Bulk, Scan, is_native, tags};
use idr_profile::xua::Transaction;
use tokio::sync::OwnedSemaphorePermit;

use super::{Call, Ended, Target, found, media, not_acceptable, stopped};
use crate::archive::header::Until;
use crate::archive::retrieve::Retrieval;
use crate::central::Central;
use crate::https::problem::Problem;
use crate::https::server::Client;
use crate::objects::ByteStream;
use crate::store::instances::StoredInstance;

/// Frames of one request.
const FRAMES_MAX: usize = 1_000;

/// `GET …/frames/{frames}`.
pub async fn frames(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series, instance, list)): Path<(String, String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: Some(series), instance: Some(instance) };
    answer(Call { central, client, headers, uri }, target, &list).await.unwrap_or_else(|response| *response)
}

async fn answer(call: Call, target: Target, list: &str) -> Ended<Response> {
    let Some(numbers) = numbers(list) else {
        super::entered(&call, Transaction::WadoRs).await?;
        return Err(Box::new(call.answer(&Problem::bad_request())));
    };
    let (mut retrieval, place) = found(&call, Transaction::WadoRs, &target, true).await?;
    let syntax = retrieval.items().next().map(|item| item.transfer_syntax_uid.clone()).unwrap_or_default();
    let Some(media_type) = media_type(&syntax).filter(|kind| media::takes_frames(&call.headers, kind, &syntax)) else {
        retrieval.close("406").await;
        return Err(Box::new(call.answer(&not_acceptable())));
    };
    let until = if is_native(&syntax) { Until::PixelData } else { Until::End };
    let scan = match retrieval.header(0, until).await {
        Ok(scan) => scan,
        Err(error) => return Err(stopped(&call, retrieval, error).await),
    };
    let Some(wanted) = cut(&scan, &numbers) else {
        retrieval.close("406").await;
        return Err(Box::new(call.answer(&not_acceptable())));
    };
    let Some(wanted) = wanted else {
        retrieval.close("404").await;
        return Err(Box::new(call.answer(&Problem::not_found())));
    };
    let writer = multipart::Writer::new(call.central.random_id().simple().to_string()).expect("32 hex digits are a boundary");
    let part = if is_native(&syntax) { media_type.to_owned() } else { format!("{media_type}; transfer-syntax={syntax}") };
    let mut pieces = VecDeque::new();
    for (at, ranges) in wanted.into_iter().enumerate() {
        pieces.push_back(Piece::Text(writer.head(at == 0, &[("Content-Type", &part)]).into()));
        pieces.extend(ranges.into_iter().map(Piece::Range));
    }
    pieces.push_back(Piece::Text(writer.closing().into()));
    let left: u64 = pieces.iter().map(Piece::length).sum();
    let content_type = format!("multipart/related; type=\"{media_type}\"; boundary=\"{}\"", writer.boundary());
    let cutting = Cutting { pieces, left, open: None, retrieval: Some(retrieval), _place: place };
    let mut response = Response::new(Body::from_stream(stream::unfold(cutting, Cutting::next).fuse()));
    if let Ok(value) = HeaderValue::from_str(&content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response.headers_mut().insert(CONTENT_LENGTH, left.into());
    Ok(response)
}

/// `1,4,2`: numbers from 1.
fn numbers(list: &str) -> Option<Vec<usize>> {
    let numbers: Vec<usize> = list.split(',').map(|number| number.parse().ok().filter(|number| *number > 0)).collect::<Option<_>>()?;
    (numbers.len() <= FRAMES_MAX).then_some(numbers)
}

/// The media type of frames of a transfer syntax (PS3.18 Table 8.7.3-5); `None`: it has none of single frames.
fn media_type(transfer_syntax: &str) -> Option<&'static str> {
    if matches!(transfer_syntax, "1.2.840.10008.1.2" | "1.2.840.10008.1.2.1") {
        return Some("application/octet-stream");
    }
    match transfer_syntax.strip_prefix("1.2.840.10008.1.2.")? {
        "4.50" | "4.51" | "4.57" | "4.70" => Some("image/jpeg"),
        "4.80" | "4.81" => Some("image/jls"),
        "4.90" | "4.91" => Some("image/jp2"),
        "4.92" | "4.93" => Some("image/jpx"),
        "4.201" | "4.202" | "4.203" => Some("image/jphc"),
        "5" => Some("image/dicom-rle"),
        _ => None,
    }
}

/// Where frames are in the data set; `Some(None)`: one of them is not there.
type Cut = Option<Vec<Vec<Range<u64>>>>;

/// Where the frames of these numbers are, and of no others: an object may have millions. `None`: it cannot be said.
fn cut(scan: &Scan, wanted: &[usize]) -> Option<Cut> {
    let data_set = scan.data_set();
    let frames = match data_set.unsigned(tags::NUMBER_OF_FRAMES) {
        None => 1,
        Some(frames) => usize::try_from(frames).ok().filter(|frames| *frames > 0)?,
    };
    let pixels = [tags::PIXEL_DATA, tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA].into_iter().find_map(|tag| scan.bulk(tag))?;
    match &pixels.fragments {
        Some(fragments) => encapsulated(pixels, fragments, frames, wanted),
        None => {
            let number = |tag| data_set.unsigned(tag);
            let bits = number(tags::ROWS)?.checked_mul(number(tags::COLUMNS)?)?.checked_mul(number(tags::BITS_ALLOCATED)?)?;
            let bits = bits.checked_mul(number(tags::SAMPLES_PER_PIXEL).unwrap_or(1))?;
            let length = bits / 8;
            let total = length.checked_mul(frames as u64)?;
            if bits % 8 != 0 || length == 0 || total > u64::from(pixels.length?) {
                return None;
            }
            let frame = |number: &usize| {
                let start = pixels.at + (*number as u64 - 1) * length;
                (*number <= frames).then(|| std::iter::once(start..start + length).collect())
            };
            Some(wanted.iter().map(frame).collect())
        }
    }
}

fn encapsulated(pixels: &Bulk, fragments: &idr_profile::scan::Fragments, frames: usize, wanted: &[usize]) -> Option<Cut> {
    if fragments.lengths.len() as u64 != fragments.count {
        return None;
    }
    // Items: eight bytes of tag and length before each.
    let first = pixels.at + 8 + u64::from(fragments.table_bytes);
    let mut at = first;
    let items: Vec<(u64, Range<u64>)> = fragments
        .lengths
        .iter()
        .map(|length| {
            let (item, value) = (at - first, at + 8..at + 8 + u64::from(*length));
            at = value.end;
            (item, value)
        })
        .collect();
    let values = |items: &[(u64, Range<u64>)]| items.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
    let each = |of: &dyn Fn(usize) -> Vec<Range<u64>>| wanted.iter().map(|number| (*number <= frames).then(|| of(*number - 1))).collect();
    if frames == 1 {
        return (!items.is_empty()).then(|| each(&|_| values(&items)));
    }
    if items.len() == frames {
        return Some(each(&|at| values(&items[at..=at])));
    }
    let offsets: Vec<u64> =
        fragments.offsets.chunks_exact(4).map(|at| u64::from(u32::from_le_bytes([at[0], at[1], at[2], at[3]]))).collect();
    if offsets.len() != frames || fragments.table_bytes as usize != 4 * frames {
        return None;
    }
    let starts: Option<Vec<usize>> = offsets.iter().map(|offset| items.binary_search_by_key(offset, |(item, _)| *item).ok()).collect();
    let starts = starts.filter(|starts| starts.first() == Some(&0) && starts.is_sorted_by(|a, b| a < b))?;
    let end = |at: usize| starts.get(at + 1).copied().unwrap_or(items.len());
    Some(each(&|at| values(&items[starts[at]..end(at)])))
}

enum Piece {
    Text(Bytes),
    /// Of the data set.
    Range(Range<u64>),
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.end - range.start,
        }
    }
}

/// Frames while they are sent.
struct Cutting {
    pieces: VecDeque<Piece>,
    left: u64,
    open: Option<ByteStream>,
    retrieval: Option<Retrieval<StoredInstance>>,
    _place: OwnedSemaphorePermit,
}

impl Cutting {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        loop {
            if let Some(open) = &mut self.open {
                match open.next().await {
                    Some(Ok(chunk)) => {
                        if let Some(retrieval) = &mut self.retrieval {
                            retrieval.count(chunk.len() as u64);
                        }
                        return Some(self.sent(chunk).await);
                    }
                    Some(Err(error)) => return Some(self.broken(&error)),
                    None => self.open = None,
                }
            }
            match self.pieces.pop_front()? {
                Piece::Text(text) => return Some(self.sent(text).await),
                Piece::Range(range) if range.is_empty() => {}
                Piece::Range(range) => {
                    let retrieval = self.retrieval.as_mut()?;
                    match retrieval.part(0, range).await {
                        Ok(bytes) => self.open = Some(bytes),
                        Err(error) => return Some(self.broken(&error)),
                    }
                }
            }
        }
    }

    async fn sent(mut self, chunk: Bytes) -> (Result<Bytes, std::io::Error>, Self) {
        self.left = self.left.saturating_sub(chunk.len() as u64);
        if self.left == 0
            && let Some(mut retrieval) = self.retrieval.take()
        {
            retrieval.count_described();
            retrieval.close("200").await;
        }
        (Ok(chunk), self)
    }

    /// Dropping the retrieval closes its records with what had left.
    fn broken(mut self, error: &dyn std::error::Error) -> (Result<Bytes, std::io::Error>, Self) {
        tracing::error!(cause = %error, "frames are broken off");
        self.retrieval = None;
        self.pieces.clear();
        self.open = None;
        (Err(std::io::Error::other("the answer cannot be completed")), self)
    }
}

#[cfg(test)]
mod tests {
    use idr_profile::scan::{Limits, Scanner};

    use super::*;

    fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
        crate::testing::element(tag, vr, value)
    }

    fn scan(frames: &str, pixels: &[u8]) -> (Vec<u8>, Scan) {
        let mut data_set = element((0x0008, 0x0016), "UI", b"1.2\0");
        data_set.extend(element((0x0028, 0x0002), "US", &[1, 0]));
        data_set.extend(element((0x0028, 0x0008), "IS", frames.as_bytes()));
        for tag in [(0x0028, 0x0010), (0x0028, 0x0011)] {
            data_set.extend(element(tag, "US", &[2, 0]));
        }
        data_set.extend(element((0x0028, 0x0100), "US", &[8, 0]));
        data_set.extend(pixels);
        let mut scanner = Scanner::new("1.2.840.10008.1.2.1", Limits::default());
        scanner.feed(&data_set);
        (data_set, scanner.finish())
    }

    /// Items of encapsulated pixel data, the offset table first.
    fn items(values: &[&[u8]]) -> Vec<u8> {
        let mut pixels = vec![0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
        for value in values {
            pixels.extend([0xFE, 0xFF, 0x00, 0xE0]);
            pixels.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            pixels.extend(*value);
        }
        pixels.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        pixels
    }

    fn values(frames: &str, pixels: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (bytes, scan) = scan(frames, pixels);
        let value =
            |ranges: &Vec<Range<u64>>| ranges.iter().flat_map(|range| bytes[range.start as usize..range.end as usize].to_vec()).collect();
        let all: Vec<usize> = (1..=frames.trim().parse().unwrap()).collect();
        assert!(cut(&scan, &[all.len() + 1]).is_none_or(|cut| cut.is_none()), "there is no frame behind the last");
        Some(cut(&scan, &all)?.expect("all are there").iter().map(value).collect())
    }

    #[test]
    fn native_frames_are_cut_by_their_size() {
        let native = |bytes: &[u8]| element((0x7FE0, 0x0010), "OB", bytes);
        assert_eq!(values("2 ", &native(b"aaaabbbb")), Some(vec![b"aaaa".to_vec(), b"bbbb".to_vec()]));
        assert_eq!(values("1 ", &native(b"aaaabb")), Some(vec![b"aaaa".to_vec()]));
        assert_eq!(values("3 ", &native(b"aaaabbbb")), None, "there are fewer bytes than frames");
        assert_eq!(values("0 ", &native(b"aaaa")), None);
    }

    #[test]
    fn encapsulated_frames_are_their_fragments() {
        let table = |offsets: &[u32]| offsets.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(values("1 ", &items(&[b"", b"aa", b"bbbb"])), Some(vec![b"aabbbb".to_vec()]));
        assert_eq!(values("2 ", &items(&[b"", b"aa", b"bbbb"])), Some(vec![b"aa".to_vec(), b"bbbb".to_vec()]));
        let split = items(&[&table(&[0, 22]), b"aa", b"bbbb", b"cc"]);
        assert_eq!(values("2 ", &split), Some(vec![b"aabbbb".to_vec(), b"cc".to_vec()]));
        for offsets in [&[0, 21][..], &[10, 22], &[0], &[22, 0]] {
            assert_eq!(values("2 ", &items(&[&table(offsets), b"aa", b"bbbb", b"cc"])), None, "{offsets:?}");
        }
        assert_eq!(values("2 ", &items(&[b"", b"aa", b"bbbb", b"cc"])), None, "nothing says which fragment begins the second");
    }

    #[test]
    fn frames_are_numbered_from_one() {
        assert_eq!(numbers("1,3,1"), Some(vec![1, 3, 1]));
        for list in ["0", "", "1,", "a", "-1", "1;2"] {
            assert_eq!(numbers(list), None, "{list}");
        }
        assert_eq!(numbers(&vec!["1"; FRAMES_MAX + 1].join(",")), None);
    }
}
