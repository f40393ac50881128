//! What a client takes: media ranges of `Accept` (PS3.18 §8.7.3).

use http::HeaderMap;
use http::header::ACCEPT;
use idr_ihe::soap::MediaType;

/// What a media range without `transfer-syntax` asks for (PS3.18 §8.7.3.5.2).
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Media ranges of one `Accept` that are looked at.
const RANGES_MAX: usize = 32;

/// How instances are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// `multipart/related` with a part for each.
    Multipart,
    /// `application/dicom`: one instance alone.
    Single,
}

/// One media range of `Accept` that could fit instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    frame: Frame,
    /// Transfer syntax asked for; `None`: any.
    transfer_syntax: Option<String>,
    /// `q` in thousandths.
    weight: u16,
}

impl MediaRange {
    fn read(text: &str) -> Option<Self> {
        let media_type = MediaType::parse(text.trim()).ok()?;
        let weight = weight(&media_type)?;
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

    /// The frame, if the range takes this stored transfer syntax.
    pub fn frame(&self, stored: &str) -> Option<Frame> {
        self.transfer_syntax.as_deref().is_none_or(|asked| asked == stored).then_some(self.frame)
    }
}

/// `q` in thousandths; `None` if it is no weight.
fn weight(media_type: &MediaType) -> Option<u16> {
    match media_type.parameter("q") {
        None => Some(1000),
        Some(q) => Some((q.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q))? * 1000.0) as u16),
    }
}

/// The ranges that could fit instances, most wanted first. No `Accept` is any; an empty list: nothing fits.
pub fn ranges(headers: &HeaderMap) -> Vec<MediaRange> {
    if !headers.contains_key(ACCEPT) {
        return vec![MediaRange { frame: Frame::Multipart, transfer_syntax: None, weight: 1000 }];
    }
    let mut ranges: Vec<MediaRange> = listed(headers).filter_map(MediaRange::read).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.weight));
    ranges
}

/// Whether a client takes DICOM JSON (PS3.18 §8.7.3.2).
pub fn takes_json(headers: &HeaderMap) -> bool {
    takes(headers, &["application/dicom+json", "application/json"])
}

/// Whether a client takes one of these media types, which are of `application/*`. No `Accept` is any.
pub fn takes(headers: &HeaderMap, offered: &[&str]) -> bool {
    let fits = |media_type: &MediaType| {
        let essence = media_type.essence.as_str();
        matches!(essence, "*/*" | "application/*") || offered.contains(&essence)
    };
    !headers.contains_key(ACCEPT) || wanted(headers).any(|media_type| fits(&media_type))
}

/// Whether a client takes frames of a media type in this transfer syntax, in parts (PS3.18 §8.7.3.3). A range that names no
/// transfer syntax asks for the default of its media type; frames of a compressed syntax may be asked for as mere bytes.
pub fn takes_frames(headers: &HeaderMap, media_type: &str, stored: &str) -> bool {
    let default = |named: &str| match named {
        "image/jpeg" => "1.2.840.10008.1.2.4.70",
        "image/jls" => "1.2.840.10008.1.2.4.80",
        "image/jp2" => "1.2.840.10008.1.2.4.90",
        "image/jpx" => "1.2.840.10008.1.2.4.92",
        "image/jphc" => "1.2.840.10008.1.2.4.201",
        "image/dicom-rle" => "1.2.840.10008.1.2.5",
        _ => EXPLICIT_VR_LITTLE_ENDIAN,
    };
    // Native pixels are the same bytes in both.
    let same = |asked: &str| asked == stored || asked == EXPLICIT_VR_LITTLE_ENDIAN && media_type == "application/octet-stream";
    let fits = |range: &MediaType| match range.essence.as_str() {
        "*/*" | "multipart/*" => true,
        "multipart/related" => {
            let named = range.parameter("type").map(str::to_ascii_lowercase);
            let syntax = range.parameter("transfer-syntax");
            match named.as_deref() {
                None | Some("*/*") => syntax.is_none_or(|asked| asked == "*" || same(asked)),
                Some(named) if named == media_type || named == "application/octet-stream" => match syntax {
                    Some("*") => true,
                    asked => same(asked.unwrap_or_else(|| default(named))),
                },
                Some(_) => false,
            }
        }
        _ => false,
    };
    !headers.contains_key(ACCEPT) || wanted(headers).any(|range| fits(&range))
}

/// Media ranges of a weight above 0.
fn wanted(headers: &HeaderMap) -> impl Iterator<Item = MediaType> {
    let read = |text: &str| MediaType::parse(text.trim()).ok().filter(|range| weight(range).is_some_and(|weight| weight > 0));
    listed(headers).filter_map(read)
}

/// Media ranges as they are written.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(split).take(RANGES_MAX)
}

/// Splits at commas outside of quotes.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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

    #[test]
    fn frames_are_given_in_the_stored_encoding_to_who_takes_it() {
        for (accept, media_type, stored, expected) in [
            (None, "image/jpeg", JPEG, true),
            (Some("*/*"), "image/jpeg", JPEG, true),
            (Some("multipart/related; type=\"image/jpeg\""), "image/jpeg", JPEG, true),
            (Some("multipart/related; type=\"image/jpeg\""), "image/jpeg", "1.2.840.10008.1.2.4.50", false),
            (Some("multipart/related; type=\"image/jpeg\"; transfer-syntax=*"), "image/jpeg", "1.2.840.10008.1.2.4.50", true),
            (Some("multipart/related; type=\"image/jp2\""), "image/jpeg", JPEG, false),
            (Some("multipart/related; type=\"application/octet-stream\""), "image/jpeg", JPEG, false),
            (Some("multipart/related; type=\"application/octet-stream\"; transfer-syntax=*"), "image/jpeg", JPEG, true),
            (Some("multipart/related; type=\"application/octet-stream\""), "application/octet-stream", "1.2.840.10008.1.2", true),
            (Some("image/jpeg"), "image/jpeg", JPEG, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(takes_frames(&headers, media_type, stored), expected, "{accept:?} for {stored}");
        }
    }

    #[test]
    fn json_is_given_to_who_takes_it() {
        for (accept, expected) in [
            (None, true),
            (Some("application/dicom+json"), true),
            (Some("application/json"), true),
            (Some("*/*"), true),
            (Some("application/dicom+json;q=0"), false),
            (Some("multipart/related; type=\"application/dicom+xml\""), false),
            (Some("multipart/related; type=\"application/dicom+xml\", application/dicom+json"), true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(takes_json(&headers), expected, "{accept:?}");
        }
    }
}
