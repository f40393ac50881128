//! One accepted and one refused example per rule (profile 01 §12.1).

use super::{Case, H264, How, JPEG, MR_IMAGE, found, hetu};
use crate::identifier::Environment;
use crate::rules::{Answer, Disposition, Level, Reply, Stage};
use crate::scan::tags;
use crate::scan::testing::{CT_IMAGE, DEFLATED, EXPLICIT, IMPLICIT, Set, ct, deflate, element, file_meta, is_sequence, issuer, part10};
use dicom_core::Tag;
use std::collections::BTreeSet;

const SERIES: Tag = tags::SERIES_INSTANCE_UID;

/// Refused and accepted example of every rule that judges a data set; tags where the rule names those that it found.
// A table: one line per rule where it fits.
#[rustfmt::skip]
fn examples() -> Vec<(&'static str, Case, Case, Vec<Tag>)> {
    let ct_ok = Case::new;
    let mut list: Vec<(&'static str, Case, Case, Vec<Tag>)> = Vec::new();
    let mut add = |id, refused: Case, accepted: Case, found: &[Tag]| list.push((id, refused, accepted, found.to_vec()));
    let no_pixels = |edit: &dyn Fn(&mut Set)| Case::ct(|set| edit(set.remove(tags::PIXEL_DATA)));
    let raw = |tag: Tag, bytes: Vec<u8>| no_pixels(&move |set| { set.raw(tag, &bytes); });

    add("D010", ct_ok().with(|case| case.abstract_syntax = MR_IMAGE.to_owned()), ct_ok(), &[]);
    add("D011", ct_ok().with(|case| case.affected_instance = String::new()), ct_ok(), &[]);

    add("D101", ct_ok().with(|case| case.data = Some(Vec::new())), ct_ok(), &[]);
    add("D102", ct_ok().by(How::Stow).with(|case| case.file = Some([&[0xFF, 0xD8, 0xFF, 0xE0][..], &[1; 200]].concat())), ct_ok().by(How::Stow), &[]);
    let no_syntax = {
        let mut meta = Set::default();
        meta.set(tags::MEDIA_STORAGE_SOP_CLASS_UID, CT_IMAGE).set(tags::MEDIA_STORAGE_SOP_INSTANCE_UID, "1.2.3");
        part10(&meta, &ct().explicit())
    };
    add("D103", ct_ok().by(How::Stow).with(|case| case.file = Some(no_syntax)), ct_ok().by(How::Stow), &[tags::TRANSFER_SYNTAX_UID]);
    let mut wrong_length = Set::default();
    wrong_length.ul(tags::FILE_META_INFORMATION_GROUP_LENGTH, u32::MAX);
    add("D104", ct_ok().by(How::Stow).with(|case| case.meta = wrong_length), ct_ok().by(How::Stow), &[]);
    let implicit_meta = [&[0; 128], &b"DICM"[..], &file_meta(CT_IMAGE, "1.2.3", IMPLICIT).implicit(), &ct().implicit()].concat();
    add("D105", ct_ok().by(How::Stow).with(|case| case.file = Some(implicit_meta)), ct_ok().by(How::Stow), &[]);
    add("D106", ct_ok().with(|case| case.affected_instance = "1.2.246.10.90000011.77.1.1.2".to_owned()), ct_ok(), &[]);
    add("D107", ct_ok().with(|case| case.data = Some(ct().implicit())), ct_ok(), &[]);
    let past_end = element(Tag(0x0020, 0x4000), "UT", 4_294_967_200, b"text");
    add("D108", ct_ok().with(|case| case.data = Some([ct().remove(tags::PIXEL_DATA).explicit(), past_end].concat())), ct_ok(), &[Tag(0x0020, 0x4000)]);
    let open = element(Tag(0x0040, 0xA730), "SQ", u32::MAX, b"");
    add("D109", ct_ok().with(|case| case.data = Some([ct().remove(tags::PIXEL_DATA).explicit(), open].concat())), ct_ok(), &[Tag(0x0038, 0x0010)]);
    let early = element(tags::MODALITY, "CS", 2, b"CT");
    add("D110", raw(Tag(0x0020, 0x0010), early.clone()).with(|case| { case.set.remove(tags::MODALITY); }), ct_ok(), &[tags::MODALITY]);
    let twice = [element(tags::PATIENT_ID, "LO", 2, b"A "), element(tags::PATIENT_ID, "LO", 2, b"B ")].concat();
    add("D111", raw(tags::PATIENT_ID, twice), ct_ok(), &[tags::PATIENT_ID]);
    add("D112", Case::ct(|set| { set.put(Tag(0x0008, 0x1010), "ZZ", "CT"); }), ct_ok(), &[Tag(0x0008, 0x1010)]);
    add("D113", Case::ct(|set| { set.put(Tag(0x0008, 0x1010), "ST", "CT"); }), ct_ok(), &[Tag(0x0008, 0x1010)]);
    add("D114", raw(Tag(0x0008, 0x1010), element(Tag(0x0008, 0x1010), "SH", 3, b"CT1")), ct_ok(), &[Tag(0x0008, 0x1010)]);
    let nested = |levels: usize| {
        let mut set = Set::default();
        for _ in 0..levels {
            let inner = std::mem::take(&mut set);
            set.items(Tag(0x0040, 0xA730), vec![inner]);
        }
        Case::ct(|base| base.merge(&set))
    };
    add("D115", nested(65), nested(64), &[Tag(0x0040, 0xA730)]);
    add("D116", ct_ok().with(|case| case.data = Some([ct().explicit(), vec![0; 37]].concat())), ct_ok(), &[]);
    add("D117", Case::ct(|set| { set.ul(Tag(0x0008, 0x0000), 4); }), ct_ok(), &[Tag(0x0008, 0x0000)]);
    add("D118", Case::ct(|set| { set.set(tags::TRANSFER_SYNTAX_UID, EXPLICIT); }), ct_ok(), &[tags::TRANSFER_SYNTAX_UID]);
    let private = |creator: bool| Case::ct(|set| {
        set.put(Tag(0x0029, 0x1008), "LO", "X");
        if creator {
            set.put(Tag(0x0029, 0x0010), "LO", "TEST");
        }
    });
    add("D119", private(false), private(true), &[Tag(0x0029, 0x1008)]);
    let deflated = deflate(&ct().explicit());
    let half = deflated[..deflated.len() / 2].to_vec();
    add("D120", ct_ok().syntax(DEFLATED).with(|case| case.data = Some(half)), ct_ok().syntax(DEFLATED), &[]);
    add("D122", ct_ok().by(How::Stow).syntax("1.2.840.10008.1.2.2"), ct_ok().by(How::Stow).syntax(JPEG), &[]);
    let video = |set: &mut Set| {
        set.set(tags::NUMBER_OF_FRAMES, "250").set(tags::FRAME_TIME, "40").set(Tag(0x0028, 0x2110), "01");
        set.fragments(&[b"", b"\0\0\0\x01gstream!"]);
    };
    add("D123", Case::ct(video).by(How::Stow).syntax(H264), Case::of("77.1.1.1", "ES", video).by(How::Stow).syntax(H264), &[]);
    let part = |syntax| ct_ok().by(How::Stow).with(|case| case.part_syntax = Some(syntax));
    add("D124", part(JPEG), part(EXPLICIT), &[]);
    let url = |study| ct_ok().by(How::Stow).with(|case| case.url_study = Some(study));
    add("D125", url("1.2.3"), url("1.2.246.10.90000011.77.1"), &[]);
    add("D126", raw(Tag(0x0008, 0x1010), element(Tag(0x0008, 0x1010), "UT", u32::MAX, b"text")), ct_ok(), &[Tag(0x0008, 0x1010)]);
    add("D127", raw(Tag(0x0008, 0x1140), element(Tag(0x0008, 0x1140), "SQ", 8, b"no items")), ct_ok(), &[Tag(0x0008, 0x1140)]);

    add("D201", Case::ct(|set| { set.set(tags::SOP_INSTANCE_UID, ""); }), ct_ok(), &[]);
    add("D202", Case::ct(|set| { set.remove(tags::STUDY_INSTANCE_UID); }), ct_ok(), &[]);
    add("D203", Case::ct(|set| { set.remove(SERIES); }), ct_ok(), &[]);
    let series = |uid: &str| Case::ct(|set| { set.set(SERIES, uid); });
    add("D204", series(&format!("1.2.{}", "3".repeat(61))), series(&format!("1.2.{}", "3".repeat(60))), &[SERIES]);
    add("D205", series("../../etc/passwd"), series("1.2.246.10.12345671.1"), &[SERIES]);
    add("D206", series("3.2.246.1"), series("2.25.42"), &[SERIES]);
    add("D207", series("1.2.05"), series("1.2.0.5"), &[SERIES]);
    add("D208", series("1.2..3"), series("1.2.3"), &[SERIES]);
    add("D209", series("1.2"), series("2.25.42"), &[SERIES]);
    add("D210", series("1.2.3 "), series("1.2.3"), &[SERIES]);
    add("D211", series("1.2.3\\1.2.4"), series("1.2.3"), &[SERIES]);
    add("D212", series("2.25.1.2"), series("2.25.340282366920938463463374607431768211455"), &[SERIES]);
    add("D213", series("1.2.246.10.90000011.77.1"), ct_ok(), &[tags::STUDY_INSTANCE_UID, SERIES]);
    add("D214", series("1.2.840.10008.1.9"), ct_ok(), &[SERIES]);
    let pattern = "levels = { D215 = 'WARN' }\nparameters = { study_uid_pattern = '^1\\.2\\.246\\.' }\nallow_stricter = true";
    add("D215", Case::ct(|set| { set.set(tags::STUDY_INSTANCE_UID, "2.25.42"); }).site(pattern), ct_ok().site(pattern), &[]);
    let reference = |uid: &str| Case::ct(|set| {
        set.items(Tag(0x0008, 0x1140), vec![Set::item(|item| { item.set(Tag(0x0008, 0x1155), uid); })]);
    });
    add("D216", reference("1.2."), reference("1.2.3"), &[Tag(0x0008, 0x1155)]);

    let id = |id: &str| Case::ct(|set| { set.set(tags::PATIENT_ID, id); });
    let no_issuer = |set: &mut Set| { set.remove(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE); };
    let from = |oid: &str| Case::ct(|set| { set.items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![issuer(oid)]); });
    add("D301", id(""), ct_ok(), &[]);
    add("D302", Case::ct(no_issuer), ct_ok(), &[]);
    add("D303", from("1.2.840.99.1"), ct_ok(), &[]);
    let both = |oid: &str| Case::ct(|set| { set.set(tags::ISSUER_OF_PATIENT_ID, oid); });
    add("D304", both("1.2.246.10.90000011.22.2026"), both("1.2.246.21"), &[]);
    add("D305", id("010190 900p"), ct_ok(), &[]);
    add("D306", id(&hetu("290201", 'A', 910)), id("290200A910N"), &[]);
    add("D307", id("010190-900R"), ct_ok(), &[]);
    add("D308", id(&hetu("010190", '-', 1)), ct_ok(), &[]);
    let production = |case: Case| case.with(|case| case.environment = Environment::Production);
    add("D309", production(ct_ok()), production(id(&hetu("010190", '-', 308))), &[]);
    let temporary = |year: &str, id: &str| Case::ct(|set| {
        set.set(tags::PATIENT_ID, id);
        set.items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![issuer(&format!("1.2.246.10.90000011.22.{year}"))]);
    });
    add("D310", temporary("1899", "010190-900P"), temporary("2026", "010190-900P"), &[]);
    add("D311", temporary("2026", "UNKNOWN 1"), temporary("2026", "010190-900P"), &[]);
    add("D312", temporary("2026", &hetu("010190", '-', 308)), temporary("2026", "010190-900P"), &[]);
    let birth = |date: &str| Case::ct(|set| { set.set(tags::PATIENT_BIRTH_DATE, date); });
    add("D313", birth(""), ct_ok(), &[]);
    add("D314", birth("19900000"), ct_ok(), &[]);
    add("D315", birth("19900110"), ct_ok(), &[]);
    let sex = |sex: &str| Case::ct(|set| { set.set(tags::PATIENT_SEX, sex); });
    add("D316", sex("N"), ct_ok(), &[]);
    add("D317", sex("M"), ct_ok(), &[]);
    let name = |name: &str| Case::ct(|set| { set.set(tags::PATIENT_NAME, name); });
    add("D318", name("^"), ct_ok(), &[]);
    add("D319", name(&"Ö".repeat(65)), name("A^B^C^D^E"), &[]);
    add("D320", name("Oh\nman"), ct_ok(), &[]);
    let other = |id: &str| Case::ct(|set| {
        let mut item = Set::default();
        item.set(tags::PATIENT_ID, id).items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![issuer("1.2.246.21")]);
        set.items(tags::OTHER_PATIENT_I_DS_SEQUENCE, vec![item]);
    });
    add("D321", other("290200A910N"), other("010190-900P"), &[]);
    let real = |name: &str| production(Case::ct(|set| { set.set(tags::PATIENT_ID, hetu("010190", '-', 308)).set(tags::PATIENT_NAME, name); }));
    add("D322", real("Phantom^CT"), real("Öhman^Sanni"), &[]);

    let description = |text: &str| Case::ct(|set| { set.set(tags::STUDY_DESCRIPTION, text); });
    add("D401", description(""), ct_ok(), &[]);
    add("D402", description("Pään TT"), description("  aa1ad Pään TT"), &[]);
    let listed = |description: &str, procedure: &str, edit: &dyn Fn(&mut Set)| Case::ct(|set| {
        set.set(tags::STUDY_DESCRIPTION, description).set(tags::STUDY_DATE, "20260115");
        set.items(tags::PROCEDURE_CODE_SEQUENCE, vec![Set::item(|item| {
            item.set(tags::CODE_VALUE, procedure).set(tags::CODING_SCHEME_DESIGNATOR, "1.2.246.537.6.2");
        })]);
        edit(set);
    }).with(|case| case.code_list = true);
    let listed_ok = || listed("AA1AD Pään TT", "AA1AD", &|_| {});
    add("D403", listed("ZZ9ZZ Muu", "ZZ9ZZ", &|_| {}), listed_ok(), &[]);
    add("D404", listed("BB1BB Vanha", "BB1BB", &|_| {}), listed_ok(), &[]);
    add("D407", listed("AA1AD Pään TT", "GD1AA", &|_| {}), listed_ok(), &[]);
    add("D408", listed("AA1AD Pään TT", "AA1AD", &|set| { set.set(tags::MODALITY, "MG"); }), listed_ok(), &[]);
    add("D405", Case::ct(|set| { set.remove(tags::PROCEDURE_CODE_SEQUENCE); }), ct_ok(), &[]);
    let scheme = |scheme: &str| Case::ct(|set| {
        set.items(tags::PROCEDURE_CODE_SEQUENCE, vec![Set::item(|item| { item.set(tags::CODING_SCHEME_DESIGNATOR, scheme); })]);
    });
    add("D406", scheme("99LOCAL"), scheme("1.2.246.537.6.2"), &[]);
    let accession = |text: &str| Case::ct(|set| { set.set(tags::ACCESSION_NUMBER, text); });
    add("D411", accession(""), ct_ok(), &[]);
    add("D412", accession("T0420591187061234"), accession("T042059118706123"), &[]);
    add("D413", accession("T04^2059"), ct_ok(), &[]);
    let without = Case::ct(|set| { set.remove(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE); });
    add("D414", without.clone(), without.with(|case| case.accession_issuer = Some("1.2.246.10.90000011.12.5")), &[]);
    let request = |text: &str| Case::ct(|set| {
        set.items(Tag(0x0040, 0x0275), vec![Set::item(|item| { item.set(tags::ACCESSION_NUMBER, text); })]);
    });
    add("D415", request("OTHER"), request("T042059118706"), &[]);
    let event = |text: &str| Case::ct(|set| { set.set(tags::ADMISSION_ID, text); });
    add("D421", event(""), ct_ok(), &[]);
    add("D422", event("1001"), ct_ok(), &[tags::ADMISSION_ID]);
    add("D423", event("1.2.246.10.12345671.14.2026.1001"), ct_ok(), &[tags::ADMISSION_ID]);
    add("D431", Case::ct(|set| { set.set(tags::INSTITUTION_NAME, ""); }), ct_ok(), &[]);
    add("D432", Case::ct(|set| { set.remove(tags::INSTITUTION_CODE_SEQUENCE); }), ct_ok(), &[]);
    let institution = |tag: Tag, code: &str| Case::ct(|set| {
        set.items(tags::INSTITUTION_CODE_SEQUENCE, vec![Set::item(|item| { item.set(tag, code); })]);
    });
    add("D433", institution(tags::CODE_VALUE, "HOSP1"), ct_ok(), &[]);
    add("D434", institution(tags::URN_CODE_VALUE, "urn:oid:1.2.246.10.12345671.10.0"), ct_ok(), &[]);
    let checked = |arc: &str| production(Case::ct(|set| { set.set(tags::ADMISSION_ID, format!("1.2.246.10.{arc}.14.2026.1001")); }));
    add("D435", checked("12345670"), checked("12345671"), &[tags::ADMISSION_ID]);
    add("D436", Case::ct(|set| { set.set(Tag(0x0008, 0x0090), ""); }), ct_ok(), &[]);

    let latin = |charset: Option<&str>, name: &[u8]| Case::ct(|set| {
        set.remove(Tag(0x0008, 0x0090)).set(tags::STUDY_DESCRIPTION, "AA1AD").set(tags::PATIENT_NAME, name);
        match charset {
            Some(charset) => set.set(tags::SPECIFIC_CHARACTER_SET, charset),
            None => set.remove(tags::SPECIFIC_CHARACTER_SET),
        };
    });
    add("D501", latin(None, b"\xD6hman"), latin(Some("ISO_IR 100"), b"\xD6hman"), &[]);
    add("D502", latin(Some("UTF-8"), b"Ohman"), latin(Some("ISO_IR 192"), b"Ohman"), &[]);
    add("D503", latin(Some("ISO_IR 192"), b"\xD6hman"), latin(Some("ISO_IR 192"), "Öhman".as_bytes()), &[tags::PATIENT_NAME]);
    add("D504", Case::ct(|set| { set.set(tags::STUDY_DESCRIPTION, b"AA1AD P\xE4"); }), ct_ok(), &[tags::STUDY_DESCRIPTION]);
    add("D505", latin(Some("ISO_IR 100"), "Öhman".as_bytes()), latin(Some("ISO_IR 100"), b"\xD6hman"), &[tags::PATIENT_NAME]);
    let station = |text: &str| Case::ct(|set| { set.set(Tag(0x0008, 0x1010), text); });
    add("D506", station("SYN\t01"), station("SYN01"), &[Tag(0x0008, 0x1010)]);
    let institution_name = |length: usize| Case::ct(|set| { set.set(tags::INSTITUTION_NAME, "ä".repeat(length)); });
    add("D507", institution_name(65), institution_name(64), &[tags::INSTITUTION_NAME]);
    let image_type = |text: &str| Case::ct(|set| { set.set(Tag(0x0008, 0x0008), text); });
    add("D508", image_type("Original"), image_type("ORIGINAL"), &[Tag(0x0008, 0x0008)]);
    let number = |text: &str| Case::ct(|set| { set.set(tags::INSTANCE_NUMBER, text); });
    add("D509", number("one"), number("1"), &[tags::INSTANCE_NUMBER]);
    add("D510", latin(Some("ISO 2022 IR 6\\ISO 2022 IR 87"), b"Ohman"), latin(Some("ISO_IR 100"), b"Ohman"), &[]);
    let escaped = b"\x1b$B;3ED\x1b(B^Taro";
    add("D511", latin(Some("ISO_IR 100"), escaped), latin(Some("\\ISO 2022 IR 87"), escaped), &[tags::PATIENT_NAME]);

    add("D601", no_pixels(&|_| {}), ct_ok(), &[]);
    add("D602", Case::ct(|set| { set.put(tags::PIXEL_DATA, "OW", b""); }), ct_ok(), &[]);
    add("D603", Case::ct(|set| { set.us(tags::ROWS, 0); }), ct_ok(), &[tags::ROWS]);
    add("D604", Case::ct(|set| { set.put(tags::PIXEL_DATA, "OW", [7; 30]); }), ct_ok(), &[]);
    add("D605", Case::ct(|set| { set.put(tags::PIXEL_DATA, "OW", [7; 34]); }), ct_ok(), &[]);
    add("D606", Case::ct(|set| { set.us(tags::BITS_ALLOCATED, 8); }), ct_ok(), &[]);
    add("D607", Case::ct(|set| { set.us(tags::HIGH_BIT, 15); }), ct_ok(), &[]);
    add("D608", Case::ct(|set| { set.us(tags::SAMPLES_PER_PIXEL, 3); }), ct_ok(), &[]);
    let colour = |planar: Option<u16>| Case::ct(|set| {
        set.us(tags::SAMPLES_PER_PIXEL, 3).set(tags::PHOTOMETRIC_INTERPRETATION, "RGB").put(tags::PIXEL_DATA, "OW", [7; 96]);
        if let Some(planar) = planar {
            set.us(tags::PLANAR_CONFIGURATION, planar);
        }
    });
    add("D609", colour(None), colour(Some(0)), &[]);
    let frames = |text: &str| Case::ct(|set| { set.set(tags::NUMBER_OF_FRAMES, text); });
    add("D610", frames("0"), frames("1"), &[]);
    let cut = element(tags::PIXEL_DATA, "OW", 524_288, &[7; 400]);
    add("D611", Case::ct(|set| { set.raw(tags::PIXEL_DATA, cut); }), ct_ok(), &[]);
    add("D612", Case::ct(|set| { set.put(tags::PIXEL_DATA, "OB", [7; 32]); }), ct_ok(), &[]);
    let palette = |tables: u16| Case::ct(|set| {
        set.set(tags::PHOTOMETRIC_INTERPRETATION, "PALETTE COLOR");
        for colour in 0..3 {
            set.put(Tag(0x0028, 0x1101 + colour), "US", [0, 1, 0, 0, 16, 0]);
        }
        for colour in 0..tables {
            set.put(Tag(0x0028, 0x1201 + colour), "OW", [0; 512]);
        }
    });
    add("D613", palette(2), palette(3), &[]);
    let overlay = |length: usize| Case::ct(|set| {
        set.us(Tag(0x6000, 0x0010), 512).us(Tag(0x6000, 0x0011), 512).put(Tag(0x6000, 0x3000), "OW", vec![0; length]);
    });
    add("D614", overlay(32_000), overlay(32_768), &[Tag(0x6000, 0x3000)]);
    let jpeg = |fragments: &[&[u8]]| Case::ct(|set| { set.fragments(fragments); }).syntax(JPEG);
    let frame: &[u8] = &[0xFF, 0xD8, 1, 2, 3, 4, 5, 6, 0xFF, 0xD9];
    add("D620", ct_ok().syntax(JPEG), jpeg(&[b"", frame]), &[]);
    add("D621", jpeg(&[b"", frame]).syntax(EXPLICIT), ct_ok(), &[]);
    let no_delimiter = jpeg(&[b"", frame]).set.explicit();
    let no_delimiter = no_delimiter[..no_delimiter.len() - 8].to_vec();
    add("D622", jpeg(&[b"", frame]).with(|case| case.data = Some(no_delimiter)), jpeg(&[b"", frame]), &[]);
    add("D623", jpeg(&[b"", frame, b""]), jpeg(&[b"", frame]), &[]);
    let ten = |count: usize| {
        let fragments: Vec<&[u8]> = std::iter::once(&b""[..]).chain(std::iter::repeat_n(frame, count)).collect();
        Case::ct(|set| { set.fragments(&fragments).set(tags::NUMBER_OF_FRAMES, "10"); }).syntax(JPEG)
    };
    add("D624", ten(9), ten(12), &[]);
    let table = |second: u32| {
        let table = [0_u32.to_le_bytes(), second.to_le_bytes()].concat();
        Case::ct(|set| { set.fragments(&[&table, frame, frame]).set(tags::NUMBER_OF_FRAMES, "2"); }).syntax(JPEG)
    };
    add("D625", table(19), table(18), &[]);
    add("D626", jpeg(&[b"", &[1; 32]]), jpeg(&[b"", frame]), &[]);
    // SOI and a frame header of lossless JPEG: 12 bits, one component.
    let sized = |rows: u8, columns: u8| [0xFF, 0xD8, 0xFF, 0xC3, 0, 11, 12, 0, rows, 0, columns, 1, 1, 0x11, 0, 0xFF, 0xD9, 0];
    add("D627", jpeg(&[b"", &sized(4, 5)]), jpeg(&[b"", &sized(4, 4)]), &[]);
    add("D628", jpeg(&[b"", &[0xFF, 0xD8, 1, 2, 0xA8, 0x1C]]), jpeg(&[b"", &[0xFF, 0xD8, 1, 2, 0xFF, 0xD9, 0, 0]]), &[]);
    let lossy = |value: &str| jpeg(&[b"", frame]).syntax("1.2.840.10008.1.2.4.50").with(|case| { case.set.set(Tag(0x0028, 0x2110), value); });
    add("D629", lossy("00"), lossy("01"), &[]);
    let ecg = |edit: &dyn Fn(&mut Set)| Case::of("9.1.1", "ECG", |set| {
        let mut item = Set::default();
        item.set(Tag(0x003A, 0x0004), "ORIGINAL").us(Tag(0x003A, 0x0005), 2).ul(Tag(0x003A, 0x0010), 10).set(Tag(0x003A, 0x001A), "500");
        item.items(Tag(0x003A, 0x0200), vec![Set::default(), Set::default()]);
        item.us(Tag(0x5400, 0x1004), 16).set(Tag(0x5400, 0x1006), "SS").put(tags::WAVEFORM_DATA, "OW", [0; 40]);
        edit(&mut item);
        set.set(tags::ACQUISITION_DATE_TIME, "20260115101530").items(tags::WAVEFORM_SEQUENCE, vec![item]).remove(tags::PIXEL_DATA);
    });
    let ecg_ok = || ecg(&|_| {});
    add("D631", ecg(&|item| { item.put(tags::WAVEFORM_DATA, "OW", [0; 38]); }), ecg_ok(), &[]);
    add("D632", ecg(&|item| { item.items(Tag(0x003A, 0x0200), vec![Set::default()]); }), ecg_ok(), &[]);
    add("D633", ecg(&|item| { item.set(Tag(0x003A, 0x001A), "0"); }), ecg_ok(), &[]);
    let pdf = |edit: &dyn Fn(&mut Set)| Case::of("104.1", "DOC", |set| {
        set.put(tags::ENCAPSULATED_DOCUMENT, "OB", b"%PDF-1.7 page %%EOF\n").set(Tag(0x0042, 0x0012), "application/pdf");
        set.ul(Tag(0x0042, 0x0015), 20).remove(tags::PIXEL_DATA);
        edit(set);
    });
    let pdf_ok = || pdf(&|_| {});
    add("D641", pdf(&|set| { set.put(tags::ENCAPSULATED_DOCUMENT, "OB", b"PK page %%EOF\n"); }), pdf_ok(), &[]);
    add("D642", pdf(&|set| { set.set(Tag(0x0042, 0x0012), "text/plain"); }), pdf_ok(), &[]);
    add("D643", pdf(&|set| { set.put(tags::ENCAPSULATED_DOCUMENT, "OB", b"%PDF-1.7 half of a pa"); }), pdf_ok(), &[]);
    let encrypted = b"%PDF-1.7\ntrailer << /Size 6 /Encrypt 5 0 R >>\n%%EOF\n";
    add("D644", pdf(&|set| { set.put(tags::ENCAPSULATED_DOCUMENT, "OB", encrypted); }), pdf_ok(), &[]);
    add("D645", pdf(&|set| { set.ul(Tag(0x0042, 0x0015), 10); }), pdf_ok(), &[]);
    let endoscope = |edit: &dyn Fn(&mut Set)| Case::of("77.1.1.1", "ES", |set| { video(set); edit(set); }).syntax(H264);
    add("D651", endoscope(&|set| { set.fragments(&[b"", b"\0\0\0\x01gs", b"part"]); }), endoscope(&|_| {}), &[]);

    let day = |date: &str| Case::ct(|set| { set.set(tags::STUDY_DATE, date); });
    add("D801", day(""), ct_ok(), &[]);
    add("D802", day("20261340"), ct_ok(), &[]);
    add("D803", Case::ct(|set| { set.set(tags::SERIES_DATE, "2026.01.15"); }), ct_ok(), &[tags::SERIES_DATE]);
    add("D804", Case::ct(|set| { set.set(tags::SERIES_TIME, "25:99"); }), ct_ok(), &[tags::SERIES_TIME]);
    let clock = |date: &str, time: &str| Case::ct(|set| {
        for (day, clock) in [(tags::STUDY_DATE, tags::STUDY_TIME), (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME)] {
            set.set(day, date).set(clock, time);
        }
    });
    add("D805", clock("20260117", "140001"), clock("20260115", "150000"), &[]);
    add("D806", Case::ct(|set| { set.set(tags::PATIENT_ID, hetu("011225", 'A', 910)).set(tags::STUDY_DATE, "20251130"); }), ct_ok(), &[]);
    add("D807", clock("19691231", "10"), clock("19980101", "10"), &[]);
    let offset = |text: &str| Case::ct(|set| { set.set(tags::TIMEZONE_OFFSET_FROM_UTC, text); });
    add("D808", offset("EET"), offset("+0200"), &[]);
    add("D809", offset("+0000"), offset("+0200"), &[]);
    add("D810", clock("20250330", "033000"), clock("20250330", "025900"), &[]);
    add("D811", clock("20251026", "033000"), clock("20251026", "040000"), &[]);
    add("D812", clock("20251201", "10"), clock("20260112", "10"), &[]);
    add("D813", Case::ct(|set| { set.set(tags::ACQUISITION_DATE, "20260106"); }), ct_ok(), &[]);
    let small = "parameters = { instance_bytes_max = 1048576, header_bytes_max = 65536, elements_max = 1000 }";
    let big = |bytes: usize| Case::ct(|set| { set.put(tags::PIXEL_DATA, "OW", vec![7; bytes]); }).site(small);
    add("D821", big(2 << 20), big(32), &[]);
    add("D822", endoscope(&|set| { set.set(tags::NUMBER_OF_FRAMES, "200000"); }), endoscope(&|set| { set.set(tags::NUMBER_OF_FRAMES, "2000"); }), &[]);
    let huge = Case::ct(|set| { set.us(tags::ROWS, 40_000).us(tags::COLUMNS, 40_000).set(tags::NUMBER_OF_FRAMES, "100"); });
    add("D823", huge, ct_ok(), &[]);
    let many = |items: usize| Case::ct(|set| { set.items(Tag(0x0040, 0xA730), vec![Set::default(); items]); }).site(small);
    add("D824", many(1000), many(900), &[]);
    let long = |bytes: usize| Case::ct(|set| { set.put(Tag(0x0020, 0x4000), "LT", vec![b'x'; bytes / 8]); set.put(Tag(0x0040, 0xA160), "UT", vec![b'x'; bytes]); }).site(small);
    add("D825", long(70_000), long(2_000), &[]);
    let modality = |text: &str| Case::ct(|set| { set.set(tags::MODALITY, text); });
    add("D831", modality("XY"), ct_ok(), &[]);
    let private_class = |case: Case| case.with(|case| {
        case.affected_class = "1.2.840.113619.4.26".to_owned();
        case.set.set(tags::SOP_CLASS_UID, "1.2.840.113619.4.26");
    });
    add("D833", private_class(ct_ok().by(How::Stow)), ct_ok().by(How::Stow), &[]);
    add("D834", modality("MR"), ct_ok(), &[]);
    add("D835", Case::of("6", "US", |_| {}), Case::of("6.1", "US", |_| {}), &[]);
    let intent = |text: &str| Case::ct(|set| { set.set(Tag(0x0008, 0x0068), text); });
    add("D836", intent("FOR PROCESSING"), intent("FOR PRESENTATION"), &[]);

    let mr = |case: Case| case.with(|case| (case.affected_class, case.abstract_syntax) = (MR_IMAGE.to_owned(), MR_IMAGE.to_owned()));
    add("D901", mr(ct_ok()), ct_ok(), &[]);
    add("D902", Case::ct(|set| { set.remove(tags::SOP_CLASS_UID); }), ct_ok(), &[]);
    add("D903", Case::ct(|set| { set.remove(tags::MODALITY); }), ct_ok(), &[]);
    let lacks = |tag: Tag| Case::ct(|set| { set.remove(tag); });
    add("D904", lacks(Tag(0x0008, 0x0008)), ct_ok(), &[Tag(0x0008, 0x0008)]);
    add("D905", lacks(Tag(0x0020, 0x0013)), Case::ct(|set| { set.set(Tag(0x0020, 0x0013), ""); }), &[Tag(0x0020, 0x0013)]);
    let lossy = |value: &'static str| Case::ct(move |set| { set.set(Tag(0x0028, 0x2110), value); });
    add("D906", lossy("NO"), lossy("00"), &[Tag(0x0028, 0x2110)]);
    add("D910", lacks(tags::PHOTOMETRIC_INTERPRETATION), ct_ok(), &[tags::PHOTOMETRIC_INTERPRETATION]);
    add("D911", lacks(Tag(0x0028, 0x1052)), ct_ok(), &[Tag(0x0028, 0x1052)]);
    let put_all = |set: &mut Set, tags: &[(u16, u16)]| tags.iter().for_each(|(group, element)| {
        let tag = Tag(*group, *element);
        match is_sequence(tag) {
            true => set.items(tag, vec![Set::default()]),
            false => set.set(tag, b"12"),
        };
    });
    // The attributes of a class, and all but the last of them.
    let class = |class: &'static str, modality: &'static str, needed: &'static [(u16, u16)]| {
        let whole = Case::of(class, modality, |set| put_all(set, needed));
        let last = needed.last().map_or(Tag(0, 0), |(group, element)| Tag(*group, *element));
        let mut lacking = whole.clone();
        lacking.set.remove(last);
        (lacking, whole, [last])
    };
    let frames_of = |case: Case, frames: &str, items: Option<usize>| case.with(|case| {
        case.set.set(tags::NUMBER_OF_FRAMES, frames).put(tags::PIXEL_DATA, "OW", [7; 64]);
        if let Some(items) = items {
            case.set.items(Tag(0x5200, 0x9229), vec![Set::default()]).items(Tag(0x5200, 0x9230), vec![Set::default(); items]);
        }
    });
    let ultrasound = |with: bool| frames_of(Case::of("3.1", "US", |set| { if with { set.put(Tag(0x0028, 0x0009), "AT", [0x18, 0, 0x63, 0x10]); } }), "2", None);
    add("D912", ultrasound(false), ultrasound(true), &[Tag(0x0028, 0x0009)]);
    let enhanced = |items| frames_of(Case::of("2.1", "CT", |_| {}), "2", Some(items));
    add("D913", enhanced(1), enhanced(2), &[Tag(0x5200, 0x9230)]);
    let (lacking, whole, tag) = class("1.2", "MG", &[(0x0008, 0x0008), (0x0008, 0x0068), (0x0008, 0x2218), (0x0054, 0x0220), (0x0020, 0x0062)]);
    add("D914", lacking, whole, &tag);
    let (lacking, whole, tag) = class("1.3", "IO", &[(0x0008, 0x0068), (0x0020, 0x0062), (0x0008, 0x2218)]);
    add("D915", lacking, whole, &tag);
    let (lacking, whole, tag) = class("77.1.5.1", "OP", &[(0x0008, 0x2218), (0x0022, 0x0015), (0x0028, 0x0301), (0x0020, 0x0062)]);
    add("D917", lacking, whole, &tag);
    let (lacking, whole, tag) = class("77.1.5.4", "OPT", &[(0x0020, 0x0062), (0x0008, 0x2218), (0x0022, 0x0015), (0x0028, 0x0008), (0x5200, 0x9229)]);
    add("D918", lacking, whole, &tag);
    let (lacking, whole, tag) = class("78.1", "LEN", &[(0x0020, 0x0013), (0x0008, 0x0033), (0x0008, 0x0023)]);
    add("D919", lacking.with(|case| { case.set.remove(tags::PIXEL_DATA); }), whole, &tag);
    add("D920", endoscope(&|set| { set.remove(tags::FRAME_TIME); }), endoscope(&|_| {}), &[tags::FRAME_TIME, tags::FRAME_TIME_VECTOR]);
    add("D921", ecg(&|item| { item.remove(Tag(0x003A, 0x0200)); }), ecg_ok(), &[Tag(0x003A, 0x0200)]);
    add("D922", ecg(&|item| { item.set(Tag(0x003A, 0x001A), "100"); }), ecg_ok(), &[]);
    add("D923", pdf(&|set| { set.put(tags::ENCAPSULATED_DOCUMENT, "OB", b""); }), pdf_ok(), &[tags::ENCAPSULATED_DOCUMENT]);
    let report = |edit: &dyn Fn(&mut Set)| Case::of("88.33", "SR", |set| {
        set.set(Tag(0x0040, 0xA040), "CONTAINER").items(Tag(0x0040, 0xA043), vec![Set::default()]);
        set.set(Tag(0x0040, 0xA491), "COMPLETE").set(Tag(0x0040, 0xA493), "VERIFIED").remove(tags::PIXEL_DATA);
        edit(set);
    });
    add("D924", report(&|set| { set.remove(Tag(0x0040, 0xA491)); }), report(&|_| {}), &[Tag(0x0040, 0xA491)]);
    let (lacking, whole, tag) = class("88.59", "KO", &[(0x0040, 0xA043), (0x0040, 0xA375)]);
    add("D925", lacking, whole, &tag);
    let (lacking, whole, tag) = class("11.1", "PR", &[(0x0070, 0x0080), (0x0008, 0x1115)]);
    add("D926", lacking, whole, &tag);
    let (lacking, whole, tag) = class("66.1", "REG", &[(0x0070, 0x0308)]);
    add("D927", lacking, whole, &tag);
    let (lacking, whole, tag) = class("128", "PT", &[(0x0054, 0x1102), (0x0008, 0x0031), (0x0054, 0x1001)]);
    add("D928", lacking, whole, &tag);
    let (lacking, whole, tag) = class("77.1.6", "SM", &[(0x0048, 0x0007), (0x0048, 0x0105), (0x0040, 0x0512), (0x5200, 0x9229), (0x0048, 0x0006)]);
    add("D929", lacking, whole, &tag);
    list
}

#[test]
fn every_rule_accepts_its_accepted_example() {
    for (id, _, accepted, _) in examples() {
        assert!(!found(&accepted.judge()).contains(&id), "{id}");
    }
}

#[test]
fn every_rule_finds_its_refused_example_and_answers_as_its_row_says() {
    for (id, refused, _, tags) in examples() {
        let rules = refused.rules();
        let rule = rules.rule(id).expect("built");
        let verdict = refused.judge();
        let finding = verdict.findings.iter().find(|finding| finding.rule == id);
        let finding = finding.unwrap_or_else(|| panic!("{id} not found, but {:?}", found(&verdict)));
        let at: jiff::Timestamp = refused.received.parse().expect("instant");
        let level = rule.levels.at(jiff::tz::TimeZone::UTC.to_datetime(at).date(), refused.environment);
        let mut expected = rule.offending.tags(&tags);
        expected.sort_unstable();
        assert_eq!((finding.level, &finding.tags), (level, &expected), "{id}");
        if level.rejects() {
            let Reply::Status(status) = rule.reply else { panic!("{id} has no status") };
            let answer = Answer { status, offending: expected, comment: rule.comment.clone() };
            assert_eq!(verdict.disposition, Disposition::Refuse(answer), "{id}: {:?}", found(&verdict));
        } else {
            assert!(level > Level::Off, "{id}");
        }
    }
}

#[test]
fn every_rule_that_judges_a_data_set_has_examples() {
    let rules = Case::new().rules();
    let judged: BTreeSet<&str> =
        rules.iter().filter(|rule| rule.stage != Stage::T && rule.check().occurrence().is_none()).map(|rule| rule.id.as_str()).collect();
    let shown: BTreeSet<&str> = examples().iter().map(|example| example.0).collect();
    assert_eq!(judged, shown);
}
