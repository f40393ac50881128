//! The invented study: one CT series of small images.

use jiff::civil::DateTime;
use rand::Rng;

/// CT Image Storage.
pub(crate) const SOP_CLASS_UID: &str = dicom_dictionary_std::uids::CT_IMAGE_STORAGE;
/// Explicit VR Little Endian.
pub(crate) const EXPLICIT_VR_LITTLE_ENDIAN: &str = idr_ihe::manifest::EXPLICIT_VR_LITTLE_ENDIAN;
/// Rows and columns.
const MATRIX: u16 = 64;
/// Characters of the check of an identity code, by remainder.
const CHECK: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";

/// A study that nobody has.
pub(crate) struct Synthetic {
    /// UIDs are made of it and of what follows it.
    root: u128,
    uid: String,
    instances: u32,
    accession: String,
    patient_id: String,
    birth_date: String,
    date: String,
    time: String,
    noise: u32,
    /// Rows and columns.
    pub(crate) matrix: u16,
}

impl Synthetic {
    /// Of a person of the test range (individual number 900–999), at a time of the site's zone.
    pub(crate) fn new(instances: u32, wrong_birth_date: bool, at: &DateTime, random: &mut impl Rng) -> Self {
        let (day, month, year) = (random.random_range(1..=28_u32), random.random_range(1..=12_u32), random.random_range(50..=89_u32));
        let individual = random.random_range(900..=998_u32) & !1;
        let digits = format!("{day:02}{month:02}{year:02}{individual:03}");
        let remainder = digits.bytes().fold(0_usize, |rest, digit| (rest * 10 + usize::from(digit - b'0')) % CHECK.len());
        let check = char::from(CHECK[remainder]);
        let root = random.random::<u128>() >> 1;
        Self {
            root,
            uid: uid(root),
            instances,
            accession: format!("T{:012}", random.random_range(0..1_000_000_000_000_u64)),
            patient_id: format!("{day:02}{month:02}{year:02}-{individual:03}{check}"),
            birth_date: format!("19{year:02}{month:02}{:02}", if wrong_birth_date { day % 28 + 1 } else { day }),
            date: at.strftime("%Y%m%d").to_string(),
            time: at.strftime("%H%M%S").to_string(),
            noise: random.random(),
            matrix: MATRIX,
        }
    }

    pub(crate) fn study_uid(&self) -> &str {
        &self.uid
    }

    pub(crate) fn instances(&self) -> u32 {
        self.instances
    }

    /// SOP Instance UID; instances count from 1.
    pub(crate) fn instance_uid(&self, number: u32) -> String {
        uid(self.root + 10 + u128::from(number))
    }

    /// The data set, in Explicit VR Little Endian and the order of the tags.
    pub(crate) fn data_set(&self, number: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut text = |group: u16, element: u16, vr: &[u8; 2], value: &str| {
            let pad = if vr == b"UI" { b'\0' } else { b' ' };
            let mut value = value.as_bytes().to_vec();
            if value.len() % 2 == 1 {
                value.push(pad);
            }
            put(&mut bytes, group, element, vr, &value);
        };
        text(0x0008, 0x0005, b"CS", "ISO_IR 192");
        text(0x0008, 0x0008, b"CS", "ORIGINAL\\PRIMARY\\AXIAL");
        text(0x0008, 0x0016, b"UI", SOP_CLASS_UID);
        text(0x0008, 0x0018, b"UI", &self.instance_uid(number));
        text(0x0008, 0x0020, b"DA", &self.date);
        text(0x0008, 0x0021, b"DA", &self.date);
        text(0x0008, 0x0023, b"DA", &self.date);
        text(0x0008, 0x0030, b"TM", &self.time);
        text(0x0008, 0x0033, b"TM", &self.time);
        text(0x0008, 0x0050, b"SH", &self.accession);
        text(0x0008, 0x0060, b"CS", "CT");
        text(0x0008, 0x0070, b"LO", "IDR-SYNTHETIC");
        text(0x0008, 0x0080, b"LO", "Testisairaala");
        text(0x0008, 0x0090, b"PN", "Tester^Test");
        text(0x0008, 0x1030, b"LO", "AA1AD TT");
        text(0x0010, 0x0010, b"PN", "Testihenkilo^Testi");
        text(0x0010, 0x0020, b"LO", &self.patient_id);
        text(0x0010, 0x0021, b"LO", "1.2.246.21");
        text(0x0010, 0x0030, b"DA", &self.birth_date);
        text(0x0010, 0x0040, b"CS", "F");
        text(0x0018, 0x0015, b"CS", "HEAD");
        text(0x0018, 0x0050, b"DS", "1");
        text(0x0020, 0x000D, b"UI", &self.uid);
        text(0x0020, 0x000E, b"UI", &uid(self.root + 1));
        text(0x0020, 0x0010, b"SH", "1");
        text(0x0020, 0x0011, b"IS", "1");
        text(0x0020, 0x0013, b"IS", &number.to_string());
        text(0x0020, 0x0032, b"DS", &format!("0\\0\\{number}"));
        text(0x0020, 0x0037, b"DS", "1\\0\\0\\0\\1\\0");
        text(0x0020, 0x0052, b"UI", &uid(self.root + 2));
        put(&mut bytes, 0x0028, 0x0002, b"US", &1_u16.to_le_bytes());
        put(&mut bytes, 0x0028, 0x0004, b"CS", b"MONOCHROME2 ");
        put(&mut bytes, 0x0028, 0x0010, b"US", &self.matrix.to_le_bytes());
        put(&mut bytes, 0x0028, 0x0011, b"US", &self.matrix.to_le_bytes());
        put(&mut bytes, 0x0028, 0x0030, b"DS", b"0.5\\0.5 ");
        for (element, value) in [(0x0100, 16_u16), (0x0101, 12), (0x0102, 11), (0x0103, 0)] {
            put(&mut bytes, 0x0028, element, b"US", &value.to_le_bytes());
        }
        put(&mut bytes, 0x0028, 0x1052, b"DS", b"-1024 ");
        put(&mut bytes, 0x0028, 0x1053, b"DS", b"1 ");
        let pixels: Vec<u8> = (0..u32::from(self.matrix) * u32::from(self.matrix))
            .flat_map(|at| ((at.wrapping_mul(2_654_435_761).wrapping_add(self.noise ^ number) >> 20) as u16 & 0x0FFF).to_le_bytes())
            .collect();
        put(&mut bytes, 0x7FE0, 0x0010, b"OW", &pixels);
        bytes
    }
}

/// A UID derived from a UUID (PS3.5 §B.2).
fn uid(number: u128) -> String {
    format!("2.25.{number}")
}

/// An element of Explicit VR Little Endian (PS3.5 §7.1.2); the length is even.
fn put(bytes: &mut Vec<u8>, group: u16, element: u16, vr: &[u8; 2], value: &[u8]) {
    bytes.extend(group.to_le_bytes());
    bytes.extend(element.to_le_bytes());
    bytes.extend(vr);
    match (vr, u16::try_from(value.len())) {
        (b"OW", _) | (_, Err(_)) => {
            bytes.extend([0, 0]);
            bytes.extend(u32::try_from(value.len()).expect("some 9 KiB").to_le_bytes());
        }
        (_, Ok(length)) => bytes.extend(length.to_le_bytes()),
    }
    bytes.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use idr_profile::scan::{Header, Limits};
    use rand::SeedableRng as _;

    #[test]
    fn every_instance_is_a_data_set_of_its_own_with_an_identity_code_of_the_test_range() {
        let at = jiff::civil::date(2026, 1, 15).at(10, 15, 30, 0);
        for seed in 0..50 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let study = Synthetic::new(3, seed % 2 == 1, &at, &mut random);
            assert!(study.study_uid().len() <= 64 && study.instance_uid(100).len() <= 64, "{}", study.study_uid());
            let id = &study.patient_id;
            assert!(id.len() == 11 && id[7..10].parse::<u32>().is_ok_and(|number| (900..=999).contains(&number)), "{id}");
            assert_eq!(study.birth_date[6..8] == id[..2], seed % 2 == 0, "{id} {}", study.birth_date);
            let sets: Vec<Vec<u8>> = (1..=3).map(|number| study.data_set(number)).collect();
            assert!(sets.iter().all(|set| Header::read(set, Limits::default()).is_some() && set.len() % 2 == 0));
            assert!(sets[0] != sets[1] && sets[1] != sets[2]);
        }
    }
}
