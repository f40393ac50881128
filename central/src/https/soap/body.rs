//! A request body as it comes: bounded, at a least rate, decompressed if it was compressed.

use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::time::Instant;

use crate::https::pace::{Chunk, Pace, RATE, WINDOW};

/// Why a body is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// BD-13, BD-14, BD-20: 413.
    #[error("the body is larger than {limit} bytes, or compressed too much")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// BD-12: 408.
    #[error("the body comes slower than {RATE} bytes/s over {} s, or takes longer than {} s", WINDOW.as_secs(), LONGEST.as_secs())]
    TooSlow,
    /// S-29: 415.
    #[error("the content coding is not accepted; send identity or gzip")]
    Coding,
    /// The compressed data is damaged: 400.
    #[error("the compressed body is damaged")]
    Damaged,
    /// The peer went away or broke the framing.
    #[error("the body ended early")]
    Broken,
}

/// Reads a body in pieces.
pub struct BodyReader {
    stream: BodyDataStream,
    gzip: Option<Gzip>,
    limit: u64,
    taken: u64,
    began: Instant,
    pace: Pace,
    ended: bool,
}

struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    read: u64,
}

impl BodyReader {
    /// A reader of at most `limit` bytes after decompression.
    ///
    /// # Errors
    /// [`BodyError::Coding`] (S-29).
    pub fn new(headers: &HeaderMap, body: Body, limit: u64) -> Result<Self, BodyError> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let gzip = match (codings.next(), codings.next()) {
            (None, _) => None,
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"identity") => None,
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"gzip") => {
                Some(Gzip { decoder: MultiGzDecoder::new(Vec::new()), read: 0 })
            }
            _ => return Err(BodyError::Coding),
        };
        Ok(Self { stream: body.into_data_stream(), gzip, limit, taken: 0, began: Instant::now(), pace: Pace::default(), ended: false })
    }

    /// The next bytes, never empty; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.ended {
            let Some(bytes) = self.received().await? else {
                self.ended = true;
                return match &mut self.gzip {
                    Some(gzip) => Ok(Some(gzip.finish(self.limit, &mut self.taken)?).filter(|bytes| !bytes.is_empty())),
                    None => Ok(None),
                };
            };
            let bytes = match &mut self.gzip {
                Some(gzip) => gzip.take(&bytes, self.limit, &mut self.taken)?,
                None => {
                    self.taken += bytes.len() as u64;
                    if self.taken > self.limit {
                        return Err(BodyError::TooLarge { limit: self.limit });
                    }
                    bytes
                }
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn received(&mut self) -> Result<Option<Bytes>, BodyError> {
        let bytes = match self.pace.next(&mut self.stream).await {
            Chunk::Bytes(bytes) => bytes,
            Chunk::End => return Ok(None),
            Chunk::TooSlow => return Err(BodyError::TooSlow),
            Chunk::Gone => return Err(BodyError::Broken),
        };
        if self.began.elapsed() >= LONGEST {
            return Err(BodyError::TooSlow);
        }
        Ok(Some(bytes))
    }
}

impl Gzip {
    fn take(&mut self, bytes: &[u8], limit: u64, taken: &mut u64) -> Result<Bytes, BodyError> {
        // In slices: what one slice may become is bounded by the coding (1 032 : 1).
        for slice in bytes.chunks(GZIP_SLICE) {
            self.read += slice.len() as u64;
            self.decoder.write_all(slice).map_err(|_| BodyError::Damaged)?;
            let made = *taken + self.decoder.get_ref().len() as u64;
            if made > limit || made > GZIP_FREE && made > self.read * GZIP_RATIO {
                return Err(BodyError::TooLarge { limit });
            }
        }
        Ok(self.given(taken))
    }

    fn finish(&mut self, limit: u64, taken: &mut u64) -> Result<Bytes, BodyError> {
        self.decoder.try_finish().map_err(|_| BodyError::Damaged)?;
        let bytes = self.given(taken);
        if *taken > limit { Err(BodyError::TooLarge { limit }) } else { Ok(bytes) }
    }

    fn given(&mut self, taken: &mut u64) -> Bytes {
        let made = std::mem::take(self.decoder.get_mut());
        *taken += made.len() as u64;
        made.into()
    }
}

/// Longest body. Documents that are staged while it comes must be registered before the sweep takes them for strays (30 min);
/// an assertion of the default lifetime is over long before.
const LONGEST: Duration = Duration::from_secs(20 * 60);
const GZIP_SLICE: usize = 1024;
/// Output that is free of the ratio (BD-20).
const GZIP_FREE: u64 = 1_048_576;
const GZIP_RATIO: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(coding: Option<&str>, body: Vec<u8>, limit: u64) -> Result<Vec<u8>, BodyError> {
        let mut headers = HeaderMap::new();
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        }
        let mut reader = BodyReader::new(&headers, Body::from(body), limit)?;
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound() {
        assert_eq!(read(None, b"12345".to_vec(), 5).await, Ok(b"12345".to_vec()));
        assert_eq!(read(None, b"123456".to_vec(), 5).await, Err(BodyError::TooLarge { limit: 5 }));
        assert_eq!(read(Some("br"), b"12345".to_vec(), 5).await, Err(BodyError::Coding));
    }

    #[tokio::test]
    async fn a_compressed_body_is_bounded_after_decompression() {
        let text = "abcdefgh".repeat(100).into_bytes();
        assert_eq!(read(Some("gzip"), gzip(&text), 800).await, Ok(text.clone()));
        assert_eq!(read(Some("gzip"), gzip(&text), 799).await, Err(BodyError::TooLarge { limit: 799 }));
        assert_eq!(read(Some("gzip"), b"no gzip at all".to_vec(), 800).await, Err(BodyError::Damaged));
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(read(Some("gzip"), bomb, 1 << 30).await, Err(BodyError::TooLarge { limit: 1 << 30 }));
    }
}
