//! Waveforms and encapsulated documents (D631–D645, D922).

use super::super::check::{DocumentFault, WaveformFault};
use super::super::facts::Facts;
use super::{Found, fails};
use crate::scan::{DataSet, tags};
use dicom_core::Tag;

const CHANNELS: Tag = Tag(0x003A, 0x0005);
const SAMPLES: Tag = Tag(0x003A, 0x0010);
const SAMPLING_FREQUENCY: Tag = Tag(0x003A, 0x001A);
const CHANNEL_DEFINITIONS: Tag = Tag(0x003A, 0x0200);
const BITS_ALLOCATED: Tag = Tag(0x5400, 0x1004);
const SAMPLE_INTERPRETATION: Tag = Tag(0x5400, 0x1006);
const DOCUMENT_LENGTH: Tag = Tag(0x0042, 0x0015);

pub(super) fn waveform(facts: &Facts<'_>, fault: WaveformFault) -> Found {
    let mut items = facts.top.items(tags::WAVEFORM_SEQUENCE);
    let rate = |item: DataSet<'_>| item.decimal(SAMPLING_FREQUENCY);
    fails(match fault {
        WaveformFault::Short => items.any(|item| {
            let number = |tag| item.unsigned(tag).map(u128::from);
            let needed = || Some(number(CHANNELS)?.saturating_mul(number(SAMPLES)?).saturating_mul(number(BITS_ALLOCATED)?) / 8);
            let length = item.element(tags::WAVEFORM_DATA).and_then(|data| data.length());
            length.zip(needed()).is_some_and(|(length, needed)| u128::from(length) < needed)
        }),
        WaveformFault::Channels => items.any(|item| {
            let channels = item.unsigned(CHANNELS);
            channels.is_some_and(|channels| channels == 0 || channels != item.items(CHANNEL_DEFINITIONS).count() as u64)
        }),
        WaveformFault::Rate => items.any(|item| rate(item).is_none_or(|rate| rate <= 0.0)),
        WaveformFault::EcgBounds => {
            let groups = facts.top.items(tags::WAVEFORM_SEQUENCE).count();
            let outside = |item: DataSet<'_>| {
                !item.unsigned(CHANNELS).is_some_and(|channels| (1..=13).contains(&channels))
                    || !rate(item).is_some_and(|rate| (200.0..=1000.0).contains(&rate))
                    || item.text(SAMPLE_INTERPRETATION).as_deref() != Some("SS")
            };
            !(1..=5).contains(&groups) || items.any(outside) || facts.text(tags::MODALITY).as_deref() != Some("ECG")
        }
    })
}

pub(super) fn document(facts: &Facts<'_>, fault: DocumentFault) -> Found {
    let document = facts.scan.bulk(tags::ENCAPSULATED_DOCUMENT).filter(|document| !document.is_empty())?;
    let contains = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    fails(match fault {
        DocumentFault::Signature => !contains(&document.head, b"%PDF-"),
        DocumentFault::EndMark => !contains(&document.tail, b"%%EOF"),
        DocumentFault::Encrypted => document.is_encrypted(),
        DocumentFault::Length => {
            let (stated, length) = (facts.top.unsigned(DOCUMENT_LENGTH)?, u64::from(document.length?));
            stated != length && stated.saturating_add(1) != length
        }
    })
}
