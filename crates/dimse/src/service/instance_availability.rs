//! Instance Availability Notification: N-CREATE (PS3.4 Annex R).
//!
//! A device or its workstation says which instances of a study are to be had where. [`Notice::read`] reads the data set.
//!
//! # Bounds
//! At most as many instances as the caller says; the caller bounds the length of the data set.

use dicom_core::Tag;
pub use dicom_dictionary_std::uids::INSTANCE_AVAILABILITY_NOTIFICATION as SOP_CLASS_UID;

use super::data_set::{Header, REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID, ReadError, Reader, Reference};

const INSTANCE_AVAILABILITY: Tag = Tag(0x0008, 0x0056);
const REFERENCED_SERIES_SEQUENCE: Tag = Tag(0x0008, 0x1115);
const REFERENCED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1199);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);

/// The data set of an N-CREATE-RQ (PS3.4 Table R.3.2-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Study Instance UID (0020,000D).
    pub study_uid: String,
    /// Instances of all series, at least one, with what Instance Availability (0008,0056) says of each.
    pub instances: Vec<(Reference, Availability)>,
}

/// Instance Availability (0008,0056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Availability {
    /// `ONLINE`, `NEARLINE`, `OFFLINE`: there is such an instance.
    Kept,
    /// `UNAVAILABLE`: it cannot be had (any more).
    Unavailable,
}

impl Notice {
    /// Reads the data set of an N-CREATE-RQ.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(transfer_syntax: &str, bytes: &[u8], instances_max: usize) -> Result<Self, ReadError> {
        let mut reader = Reader::new(transfer_syntax, bytes)?;
        let mut notice = Notice { study_uid: String::new(), instances: Vec::new() };
        while let Some(header) = reader.next()? {
            match header.tag {
                STUDY_INSTANCE_UID => notice.study_uid = reader.uid(&header)?,
                REFERENCED_SERIES_SEQUENCE => {
                    let instances = &mut notice.instances;
                    reader.items(&header, |reader, end| {
                        while let Some(header) = reader.next_of_item(end)? {
                            match header.tag {
                                REFERENCED_SOP_SEQUENCE => references(reader, &header, instances, instances_max)?,
                                _ => reader.skip(&header, 0)?,
                            }
                        }
                        Ok(())
                    })?;
                }
                _ => reader.skip(&header, 0)?,
            }
        }
        if notice.study_uid.is_empty() {
            return Err(ReadError::Missing(STUDY_INSTANCE_UID));
        }
        if notice.instances.is_empty() {
            return Err(ReadError::Missing(REFERENCED_SERIES_SEQUENCE));
        }
        Ok(notice)
    }
}

fn references(
    reader: &mut Reader<'_>,
    header: &Header,
    instances: &mut Vec<(Reference, Availability)>,
    instances_max: usize,
) -> Result<(), ReadError> {
    reader.items(header, |reader, end| {
        if instances.len() >= instances_max {
            return Err(ReadError::TooMany(instances_max));
        }
        let (mut class, mut instance, mut availability) = (String::new(), String::new(), None);
        while let Some(header) = reader.next_of_item(end)? {
            match header.tag {
                REFERENCED_SOP_CLASS_UID => class = reader.uid(&header)?,
                REFERENCED_SOP_INSTANCE_UID => instance = reader.uid(&header)?,
                INSTANCE_AVAILABILITY => {
                    availability = match reader.value(&header)?.trim_ascii() {
                        b"ONLINE" | b"NEARLINE" | b"OFFLINE" => Some(Availability::Kept),
                        b"UNAVAILABLE" => Some(Availability::Unavailable),
                        b"" => None,
                        _ => return Err(ReadError::Invalid(INSTANCE_AVAILABILITY)),
                    }
                }
                _ => reader.skip(&header, 0)?,
            }
        }
        for (value, tag) in [(&class, REFERENCED_SOP_CLASS_UID), (&instance, REFERENCED_SOP_INSTANCE_UID)] {
            if value.is_empty() {
                return Err(ReadError::Missing(tag));
            }
        }
        let availability = availability.ok_or(ReadError::Missing(INSTANCE_AVAILABILITY))?;
        instances.push((Reference { sop_class_uid: class, sop_instance_uid: instance }, availability));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::data_set::{TRANSFER_SYNTAXES, Writer};
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    /// A notice of one study; each series has two instances of this availability.
    fn notice(syntax: &str, study: &str, series: &[&str]) -> Vec<u8> {
        let writer = Writer::new(syntax).unwrap();
        let mut number = 0;
        let mut instance = |availability: &str| {
            number += 1;
            let padded = if availability.len() % 2 == 1 { format!("{availability} ") } else { availability.to_owned() };
            let mut item = writer.element(INSTANCE_AVAILABILITY, *b"CS", padded.as_bytes());
            item.extend(writer.uid(REFERENCED_SOP_CLASS_UID, CT));
            item.extend(writer.uid(REFERENCED_SOP_INSTANCE_UID, &format!("1.2.3.{number}")));
            item
        };
        let series: Vec<Vec<u8>> = series
            .iter()
            .map(|availability| {
                let instances = [instance(availability), instance(availability)];
                [writer.sequence(REFERENCED_SOP_SEQUENCE, instances.into_iter()), writer.uid(Tag(0x0020, 0x000E), "1.2.7")].concat()
            })
            .collect();
        [
            writer.element(Tag(0x0008, 0x1111), *b"SQ", b""),
            writer.sequence(REFERENCED_SERIES_SEQUENCE, series.into_iter()),
            writer.uid(STUDY_INSTANCE_UID, study),
        ]
        .concat()
    }

    fn read(study: &str, series: &[&str]) -> Result<Notice, ReadError> {
        Notice::read(TRANSFER_SYNTAXES[1], &notice(TRANSFER_SYNTAXES[1], study, series), 4)
    }

    #[test]
    fn instances_of_all_series_are_listed_with_their_availability() {
        for syntax in TRANSFER_SYNTAXES {
            let notice = Notice::read(syntax, &notice(syntax, "1.2.9", &["ONLINE", "UNAVAILABLE"]), 4).unwrap();
            assert_eq!(notice.study_uid, "1.2.9");
            let listed: Vec<_> =
                notice.instances.iter().map(|(reference, availability)| (reference.sop_instance_uid.as_str(), *availability)).collect();
            let (kept, gone) = (Availability::Kept, Availability::Unavailable);
            assert_eq!(listed, [("1.2.3.1", kept), ("1.2.3.2", kept), ("1.2.3.3", gone), ("1.2.3.4", gone)]);
        }
    }

    #[test]
    fn what_is_missing_wrong_or_too_much_is_named() {
        assert_eq!(read("", &["ONLINE"]), Err(ReadError::Missing(STUDY_INSTANCE_UID)));
        assert_eq!(read("1.2.9", &[]), Err(ReadError::Missing(REFERENCED_SERIES_SEQUENCE)));
        assert_eq!(read("1.2.9", &[""]), Err(ReadError::Missing(INSTANCE_AVAILABILITY)));
        assert_eq!(read("1.2.9", &["PERHAPS"]), Err(ReadError::Invalid(INSTANCE_AVAILABILITY)));
        assert_eq!(read("1.2.9", &["ONLINE"; 3]), Err(ReadError::TooMany(4)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>, explicit: bool) {
            let _ = Notice::read(TRANSFER_SYNTAXES[usize::from(explicit)], &bytes, 10);
        }

        #[test]
        fn a_notice_with_a_flipped_byte_is_read_or_refused_without_a_panic(at in 0usize..1000, value: u8, explicit: bool) {
            let syntax = TRANSFER_SYNTAXES[usize::from(explicit)];
            let mut bytes = notice(syntax, "1.2.9", &["ONLINE", "ONLINE"]);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = Notice::read(syntax, &bytes, 10);
        }
    }
}
