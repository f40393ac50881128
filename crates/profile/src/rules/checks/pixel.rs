//! Pixel data (group D6, D822, D823).

use super::super::check::PixelFault;
use super::super::facts::Facts;
use super::{Found, any, fails, has_native_pixels};
use crate::scan::{Bulk, Fragments, Vr, is_encapsulated, is_native, tags};
use dicom_core::Tag;

/// What a transfer syntax compresses with, as far as its first bytes tell (PS3.5 §8.2, §10, Annex G).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Jpeg,
    Jpeg2000,
    Rle,
    Mpeg2,
    Mpeg4,
    Other,
}

fn codec(transfer_syntax: &str) -> Codec {
    let Some(rest) = transfer_syntax.strip_prefix("1.2.840.10008.1.2.") else { return Codec::Other };
    let number: Option<u32> = rest.strip_prefix("4.").and_then(|rest| rest.split('.').next()).and_then(|number| number.parse().ok());
    match number {
        _ if rest == "5" => Codec::Rle,
        Some(50..=70 | 80 | 81) => Codec::Jpeg,
        Some(90..=93 | 201..=203) => Codec::Jpeg2000,
        Some(100 | 101) => Codec::Mpeg2,
        Some(102..=108) => Codec::Mpeg4,
        _ => Codec::Other,
    }
}

pub(super) fn pixel(facts: &Facts<'_>, fault: PixelFault) -> Found {
    let top = facts.top;
    let syntax = facts.scan.transfer_syntax.as_str();
    let pixels = facts.scan.bulk(tags::PIXEL_DATA);
    let fragments = pixels.and_then(|bulk| bulk.fragments.as_ref());
    let native_length = pixels.and_then(|bulk| bulk.length).filter(|_| has_native_pixels(facts)).map(u128::from);
    let number = |tag| top.unsigned(tag);
    match fault {
        PixelFault::Absent => {
            let any_here =
                [tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA, tags::PIXEL_DATA].into_iter().any(|tag| top.element(tag).is_some());
            fails(facts.class?.pixels && !any_here && facts.scan.passed(tags::PIXEL_DATA))
        }
        PixelFault::Empty => fails(pixels?.is_empty() && fragments.is_none_or(|fragments| fragments.count == 0)),
        PixelFault::RowsColumnsZero => any([tags::ROWS, tags::COLUMNS].into_iter().filter(|tag| number(*tag) == Some(0))),
        PixelFault::Short => fails(native_length? < expected_bytes(facts)?),
        PixelFault::Long => fails(native_length? > expected_bytes(facts)?.saturating_add(1)),
        PixelFault::DecodedTooLarge => fails(expected_bytes(facts)? > u128::from(facts.parameters.decoded_bytes_max)),
        PixelFault::BitsInconsistent => {
            let (allocated, stored, high) = (number(tags::BITS_ALLOCATED), number(tags::BITS_STORED), number(tags::HIGH_BIT));
            let not_allowed = allocated.is_some_and(|bits| bits != 1 && (bits % 8 != 0 || !(8..=64).contains(&bits)));
            let above = |value: Option<u64>, most: Option<u64>, equal: bool| {
                value.zip(most).is_some_and(|(value, most)| value > most || equal && value == most)
            };
            let low = high.zip(stored).is_some_and(|(high, stored)| high.saturating_add(1) < stored);
            fails(not_allowed || stored == Some(0) || above(stored, allocated, false) || above(high, allocated, true) || low)
        }
        PixelFault::HighBit => fails(number(tags::HIGH_BIT)?.saturating_add(1) != number(tags::BITS_STORED)?),
        PixelFault::PlanarMissing => {
            let planar = number(tags::PLANAR_CONFIGURATION);
            fails(number(tags::SAMPLES_PER_PIXEL)? > 1 && !matches!(planar, Some(0 | 1)))
        }
        PixelFault::FramesInvalid => fails(top.element(tags::NUMBER_OF_FRAMES)?.unsigned().is_none_or(|frames| frames == 0)),
        PixelFault::FramesTooMany => fails(number(tags::NUMBER_OF_FRAMES)? > facts.parameters.frames_max),
        PixelFault::Vr => fails(has_native_pixels(facts) && pixels?.vr == Vr::OB && number(tags::BITS_ALLOCATED)? > 8),
        PixelFault::Palette => palette(facts),
        PixelFault::OverlayShort => overlays(facts),
        PixelFault::EncapsulatedHasLength => fails(is_encapsulated(syntax) && pixels?.length.is_some()),
        PixelFault::NativeIsEncapsulated => fails(is_native(syntax) && pixels?.length.is_none()),
        PixelFault::FragmentEmpty => fails(fragments?.empty > 0),
        PixelFault::FragmentsTooFew => {
            let (count, frames) = (fragments?.count, frames(facts));
            match codec(syntax) {
                Codec::Mpeg2 | Codec::Mpeg4 => None,
                Codec::Rle => fails(count != frames),
                _ => fails(count < frames),
            }
        }
        PixelFault::OffsetTable => offset_table(facts, fragments?),
        PixelFault::Signature => signature(facts, pixels?, fragments?),
        PixelFault::Geometry => {
            let said = fragments?.geometry().filter(|_| !matches!(codec(syntax), Codec::Rle | Codec::Mpeg4 | Codec::Other))?;
            let stated = [
                (said.width, number(tags::COLUMNS)),
                (said.height, number(tags::ROWS)),
                (said.components, number(tags::SAMPLES_PER_PIXEL)),
                (said.precision, number(tags::BITS_STORED)),
            ];
            fails(stated.into_iter().any(|(said, stated)| said != 0 && stated.is_some_and(|stated| stated != u64::from(said))))
        }
        PixelFault::EndMarker => {
            let marked = matches!(codec(syntax), Codec::Jpeg | Codec::Jpeg2000) && fragments?.count > 0;
            let tail = &pixels?.tail;
            let end = tail.iter().rposition(|byte| !matches!(byte, 0 | 0xFF)).map_or(0, |last| last + 1);
            fails(marked && !tail[..end].ends_with(&[0xFF, 0xD9]))
        }
        PixelFault::LossyUndeclared => {
            const LOSSY_IMAGE_COMPRESSION: Tag = Tag(0x0028, 0x2110);
            let number =
                syntax.strip_prefix("1.2.840.10008.1.2.4.").and_then(|rest| rest.split('.').next()).and_then(|number| number.parse().ok());
            let lossy = matches!(number, Some(50_u32 | 51 | 100..=108));
            fails(lossy && facts.text(LOSSY_IMAGE_COMPRESSION).as_deref() != Some("01"))
        }
        PixelFault::VideoFragments => {
            let video = matches!(codec(syntax), Codec::Mpeg2 | Codec::Mpeg4) && !syntax.ends_with(".1");
            fails(video && fragments?.count > 1)
        }
    }
}

fn frames(facts: &Facts<'_>) -> u64 {
    facts.top.unsigned(tags::NUMBER_OF_FRAMES).unwrap_or(1)
}

/// E of D604 in bytes; `None` while an attribute that it needs is missing.
fn expected_bytes(facts: &Facts<'_>) -> Option<u128> {
    let number = |tag| facts.top.unsigned(tag).map(u128::from);
    // Halves of samples: YBR_PARTIAL_420 has 1.5 per pixel.
    let halves = match facts.text(tags::PHOTOMETRIC_INTERPRETATION).as_deref() {
        Some("YBR_FULL_422" | "YBR_PARTIAL_422") => 4,
        Some("YBR_PARTIAL_420") => 3,
        _ => 2 * number(tags::SAMPLES_PER_PIXEL)?,
    };
    let factors = [number(tags::COLUMNS)?, number(tags::BITS_ALLOCATED)?, halves, u128::from(frames(facts))];
    Some(factors.into_iter().fold(number(tags::ROWS)?, u128::saturating_mul).div_ceil(16))
}

fn palette(facts: &Facts<'_>) -> Found {
    if facts.text(tags::PHOTOMETRIC_INTERPRETATION)? != "PALETTE COLOR" {
        return None;
    }
    fails((0..3_u16).any(|colour| {
        let table = facts.top.element(Tag(0x0028, 0x1201 + colour));
        let segmented = facts.top.element(Tag(0x0028, 0x1221 + colour)).is_some();
        let descriptor = facts.top.element(Tag(0x0028, 0x1101 + colour)).map(|element| element.bytes());
        let needed = descriptor.and_then(|bytes| match bytes {
            &[a, b, _, _, c, d, ..] => Some((u32::from(u16::from_le_bytes([a, b])), u32::from(u16::from_le_bytes([c, d])))),
            _ => None,
        });
        let needed = needed.map_or(0, |(entries, bits)| if entries == 0 { 65_536 } else { entries } * bits / 8);
        !segmented && table.and_then(|table| table.length()).is_none_or(|length| length == 0 || length < needed)
    }))
}

fn overlays(facts: &Facts<'_>) -> Found {
    any((0x6000..=0x601E_u16).step_by(2).filter_map(|group| {
        let data = facts.top.element(Tag(group, 0x3000))?;
        let number = |element| facts.top.unsigned(Tag(group, element)).map(u128::from);
        let frames = number(0x0015).unwrap_or(1);
        let needed = (number(0x0010)? * number(0x0011)?).saturating_mul(frames).div_ceil(8);
        (u128::from(data.length()?) < needed).then(|| data.tag())
    }))
}

/// D625: basic and extended offset table against the places where the fragments begin.
fn offset_table(facts: &Facts<'_>, fragments: &Fragments) -> Found {
    let extended = |tag| facts.top.element(tag).filter(|table| !table.is_empty());
    let wrong_basic = fragments.table_bytes > 0 && {
        let entries =
            fragments.offsets.chunks_exact(4).map(|entry| entry.try_into().map_or(u64::MAX, |entry| u32::from_le_bytes(entry).into()));
        !is_table(facts, fragments, u64::from(fragments.table_bytes), 4, entries)
    };
    let wrong_extended = extended(tags::EXTENDED_OFFSET_TABLE).is_some_and(|table| {
        let lengths = extended(tags::EXTENDED_OFFSET_TABLE_LENGTHS).map_or(&[][..], |lengths| lengths.bytes());
        let sum = numbers(lengths).fold(0, u64::saturating_add);
        sum > fragments.bytes || !is_table(facts, fragments, table.length().map_or(0, u64::from), 8, numbers(table.bytes()))
    });
    fails(wrong_basic || wrong_extended)
}

/// One entry of `width` bytes per frame, from 0, rising, each the place where a fragment begins, counted from the first one.
fn is_table(facts: &Facts<'_>, fragments: &Fragments, bytes: u64, width: u64, entries: impl Iterator<Item = u64>) -> bool {
    let mut starts = fragments.lengths.iter().scan(0_u64, |next, length| {
        let start = *next;
        *next += 8 + u64::from(*length);
        Some(start)
    });
    // A table with more entries than fragments has one that is no start, also where its end was not kept.
    let fits = bytes.is_multiple_of(width) && bytes / width == frames(facts) && bytes / width <= fragments.count;
    let mut first = true;
    fits && entries.into_iter().all(|entry| {
        let begins = !std::mem::take(&mut first) || entry == 0;
        begins && starts.by_ref().find(|start| *start >= entry) == Some(entry)
    })
}

/// Values of VR OV; the last of a value that was not kept to its end may be cut, and is none.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|number| number.try_into().map_or(u64::MAX, u64::from_le_bytes))
}

/// D626. Where every frame is one fragment, each is judged by its first 8 bytes; else the first frame.
fn signature(facts: &Facts<'_>, pixels: &Bulk, fragments: &Fragments) -> Found {
    let codec = codec(&facts.scan.transfer_syntax);
    if fragments.count == 0 || codec == Codec::Other {
        return None;
    }
    let video = matches!(codec, Codec::Mpeg2 | Codec::Mpeg4);
    let fits = |head: &[u8]| match codec {
        Codec::Jpeg => head.starts_with(&[0xFF, 0xD8]),
        Codec::Jpeg2000 => head.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]),
        Codec::Rle => matches!(head, &[1..=15, 0, 0, 0, 64, 0, 0, 0, ..]),
        Codec::Mpeg2 => head.starts_with(&[0, 0, 1, 0xB3]) || is_transport_stream(head),
        Codec::Mpeg4 => {
            head.starts_with(&[0, 0, 1]) || head.starts_with(&[0, 0, 0, 1]) || head.get(4..8) == Some(b"ftyp") || is_transport_stream(head)
        }
        Codec::Other => true,
    };
    let first = fits(&pixels.head) && (codec != Codec::Rle || pixels.head.len() >= 64);
    let others = video || fragments.count != frames(facts) || fragments.heads.iter().all(|head| fits(head));
    fails(!first || !others)
}

/// MPEG transport stream: sync byte each 188 bytes.
fn is_transport_stream(head: &[u8]) -> bool {
    head.first() == Some(&0x47) && head.iter().step_by(188).all(|byte| *byte == 0x47)
}

pub(super) fn photometric(facts: &Facts<'_>, one_sample: &[String], three_samples: &[String], other: &[String]) -> Found {
    let photometric = facts.text(tags::PHOTOMETRIC_INTERPRETATION)?;
    let samples = facts.top.unsigned(tags::SAMPLES_PER_PIXEL);
    let is = |list: &[String]| list.contains(&photometric);
    fails(match (is(one_sample), is(three_samples)) {
        (true, _) => samples.is_some_and(|samples| samples != 1),
        (_, true) => samples.is_some_and(|samples| samples != 3),
        _ => !is(other),
    })
}
