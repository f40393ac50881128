//! The walk: what it reads, what it finds, and that neither chunks nor hostile bytes matter.

use super::testing::{DEFLATED, EXPLICIT, IMPLICIT, Set, ct, deflate, element, file_meta, issuer, part10};
use super::*;
use proptest::prelude::*;

const JPEG: &str = "1.2.840.10008.1.2.4.70";

fn scan(transfer_syntax: &str, bytes: &[u8]) -> Scan {
    let mut scanner = Scanner::new(transfer_syntax, Limits::default());
    scanner.feed(bytes);
    scanner.finish()
}

fn scan_chunks(transfer_syntax: &str, bytes: &[u8], sizes: &[usize]) -> Scan {
    let mut scanner = Scanner::new(transfer_syntax, Limits::default());
    in_chunks(bytes, sizes, |chunk| scanner.feed(chunk));
    scanner.finish()
}

fn in_chunks<'a>(mut bytes: &'a [u8], sizes: &[usize], mut each: impl FnMut(&'a [u8])) {
    let mut sizes = sizes.iter().cycle();
    while !bytes.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).clamp(1, bytes.len());
        let (chunk, rest) = bytes.split_at(size);
        each(chunk);
        bytes = rest;
    }
}

fn kinds(scan: &Scan) -> Vec<DefectKind> {
    scan.defects.iter().map(|defect| defect.kind).collect()
}

/// Data sets that differ in encoding, with the transfer syntax to read them with.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut jpeg = ct();
    jpeg.fragments(&[b"", &[0xFF, 0xD8, 1, 2, 3, 4, 5, 6, 7, 8, 0xFF, 0xD9], &[0xFF, 0xD8, 9, 9]]);
    let mut nested = ct();
    nested.items(
        Tag(0x0008, 0x1140),
        vec![Set::item(|item| {
            item.set(Tag(0x0008, 0x1155), "1.2.3").items(Tag(0x0040, 0xA170), vec![Set::default(), issuer("1.2")]);
        })],
    );
    nested.raw(Tag(0x0009, 0x0010), element(Tag(0x0009, 0x0010), "LO", 4, b"TEST"));
    // UN of undefined length: Implicit VR inside.
    let unknown = b"\xFE\xFF\x00\xE0\x0A\0\0\0\x08\0\x60\0\x02\0\0\0CT\xFE\xFF\xDD\xE0\0\0\0\0";
    nested.raw(Tag(0x0009, 0x1001), element(Tag(0x0009, 0x1001), "UN", u32::MAX, unknown));
    vec![
        (EXPLICIT, ct().explicit()),
        (IMPLICIT, ct().implicit()),
        (DEFLATED, deflate(&ct().explicit())),
        (JPEG, jpeg.explicit()),
        (EXPLICIT, nested.explicit()),
    ]
}

#[test]
fn every_encoding_gives_the_same_values() {
    for (syntax, bytes) in samples() {
        let scan = scan(syntax, &bytes);
        assert_eq!(kinds(&scan), [], "{syntax}");
        let top = scan.data_set();
        assert_eq!(top.text(tags::PATIENT_NAME).as_deref(), Some("Öhman^Sanni"), "{syntax}");
        assert_eq!(top.unsigned(tags::ROWS), Some(4), "{syntax}");
        assert_eq!(top.uid(tags::SOP_INSTANCE_UID), Some("1.2.246.10.90000011.77.1.1.1"), "{syntax}");
        let issuer = top.items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE).next().and_then(|item| item.text(tags::UNIVERSAL_ENTITY_ID));
        assert_eq!(issuer.as_deref(), Some("1.2.246.21"), "{syntax}");
        assert!(scan.passed(tags::PIXEL_DATA), "{syntax}");
        assert_eq!(scan.data_set_bytes, bytes.len() as u64);
    }
}

#[test]
fn an_item_is_decoded_by_its_own_character_set() {
    let mut set = ct();
    set.items(
        tags::PROCEDURE_CODE_SEQUENCE,
        vec![Set::item(|item| {
            item.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 100").set(Tag(0x0008, 0x0104), b"P\xE4\xE4n TT");
        })],
    );
    let scan = scan(EXPLICIT, &set.explicit());
    let meaning = scan.data_set().items(tags::PROCEDURE_CODE_SEQUENCE).next().and_then(|item| item.text(Tag(0x0008, 0x0104)));
    assert_eq!(meaning.as_deref(), Some("Pään TT"));
}

#[test]
fn bulk_data_is_noted_and_not_kept() {
    let mut set = ct();
    set.put(tags::PIXEL_DATA, "OW", vec![7; 1 << 20]);
    let scan = scan(EXPLICIT, &set.explicit());
    assert!(scan.header.bytes.len() < 2048);
    assert_eq!(scan.bulk(tags::PIXEL_DATA).and_then(|bulk| bulk.length), Some(1 << 20));
}

#[test]
fn fragments_are_counted_with_their_edges() {
    let mut set = ct();
    let long = [&[0xFF, 0xD8][..], &[1; 5000], &[0xFF, 0xD9]].concat();
    set.fragments(&[&[0; 8], &long, b"", &[0xFF, 0xD8, 2, 0xFF]]);
    let scan = scan_chunks(JPEG, &set.explicit(), &[7]);
    let bulk = scan.bulk(tags::PIXEL_DATA).expect("pixel data");
    let fragments = bulk.fragments.as_ref().expect("encapsulated");
    assert_eq!((fragments.table_bytes, fragments.count, fragments.empty, fragments.bytes), (8, 3, 1, 5008));
    assert_eq!(bulk.head.len(), 1024);
    assert_eq!(bulk.tail, [0xFF, 0xD8, 2, 0xFF]);
    assert_eq!(fragments.heads[0][..3], [0xFF, 0xD8, 1]);
    assert_eq!(fragments.heads[2], [0xFF, 0xD8, 2, 0xFF, 0, 0, 0, 0]);
}

#[test]
fn offset_tables_of_repeated_pixel_data_are_kept_up_to_one_measure() {
    let table = vec![0; 3_000_000];
    let mut set = ct();
    set.fragments(&[&table, &[0xFF, 0xD8]]);
    let mut bytes = set.explicit();
    let mut pixels = Set::default();
    pixels.fragments(&[&table, &[0xFF, 0xD8]]);
    (0..9).for_each(|_| bytes.extend(pixels.explicit()));
    let scan = scan(JPEG, &bytes);
    let kept: Vec<usize> = scan.bulk.iter().filter_map(|bulk| bulk.fragments.as_ref()).map(|fragments| fragments.offsets.len()).collect();
    assert_eq!(kept, [3_000_000, 3_000_000, 2_000_000, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_kept_header_is_read_back() {
    for (syntax, bytes) in samples() {
        let header = scan(syntax, &bytes).header;
        let again = Header::read(&header.to_explicit_le(), Limits::default()).expect("readable");
        let list = |header: &Header| {
            let mut all = Vec::new();
            header.for_each(&mut |element| {
                if !tags::is_bulk(element.tag()) {
                    all.push((element.tag(), element.bytes().to_vec()));
                }
            });
            all
        };
        assert_eq!(list(&header), list(&again), "{syntax}");
    }
}

#[test]
fn more_values_than_are_kept_leave_the_walk_whole() {
    let mut set = ct();
    set.set(Tag(0x0008, 0x0115), vec![b'x'; 3000]);
    let limits = Limits { kept_bytes_max: 200, ..Limits::default() };
    let mut scanner = Scanner::new(EXPLICIT, limits);
    scanner.feed(&set.explicit());
    let scan = scanner.finish();
    assert_eq!(kinds(&scan), []);
    assert!(scan.header.bytes.len() <= 200);
    assert!(scan.data_set().element(tags::PATIENT_ID).is_some_and(|element| !element.is_whole() && !element.is_empty()));
}

#[test]
fn a_million_elements_stay_within_the_memory_of_an_association() {
    let mut scanner = Scanner::new(EXPLICIT, Limits::default());
    scanner.feed(&element(Tag(0x0008, 0x1140), "SQ", u32::MAX, b""));
    let item = Set::item(|item| {
        item.set(Tag(0x0008, 0x0100), [b'x'; 44]);
    });
    let item = [&b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF"[..], &item.explicit(), b"\xFE\xFF\x0D\xE0\0\0\0\0"].concat();
    for _ in 0..600_000 {
        scanner.feed(&item);
    }
    assert!(scanner.failed());
    let scan = scanner.finish();
    assert!(scan.defect(DefectKind::ElementsTooMany).is_some());
    let held = scan.header.nodes.capacity() * size_of::<super::header::Node>() + scan.header.bytes.capacity();
    // Growth holds the old and the new buffer for a moment.
    assert!(held + held / 2 <= 96 << 20, "{held} bytes");
}

/// Feeds in steps, and holds the memory of each against what was foretold.
fn scan_in_steps(syntax: &str, bytes: &[u8], step: usize) -> usize {
    let mut scanner = Scanner::new(syntax, Limits::default());
    in_chunks(bytes, &[step], |mut chunk| {
        while !chunk.is_empty() {
            let (now, later) = chunk.split_at(scanner.step_bytes().min(chunk.len()));
            let most = scanner.memory_bytes_after(now.len());
            scanner.feed(now);
            assert!(scanner.memory_bytes() <= most, "{syntax}: {} of {most} bytes after {}", scanner.memory_bytes(), now.len());
            chunk = later;
        }
    });
    scanner.memory_bytes()
}

#[test]
fn the_memory_of_a_walk_is_known_before_it_is_taken() {
    let table = vec![0; 3_000];
    let mut pixels = Set::default();
    pixels.fragments(&[&table, &[0xFF, 0xD8], &[1; 5000], b"", b""]);
    let many: Vec<u8> = (0..30_000).flat_map(|_| b"\x08\0\x60\0CS\0\0".iter().copied()).collect();
    let mut fragments = ct();
    let tiny: Vec<&[u8]> = std::iter::repeat_n(&[1_u8, 2][..], 9_000).collect();
    fragments.fragments(&tiny);
    let repeated = [ct().explicit(), (0..70).flat_map(|_| pixels.explicit()).collect()].concat();
    let more = [(EXPLICIT, many.clone()), (DEFLATED, deflate(&many)), (JPEG, fragments.explicit()), (JPEG, repeated)];
    for (syntax, bytes) in samples().into_iter().chain(more) {
        for step in [1, 9, 400, usize::MAX] {
            scan_in_steps(syntax, &bytes, step);
            let (mut reader, file) = (Part10Reader::new(Limits::default()), part10(&file_meta("1.2", "1.2.3", syntax), &bytes));
            in_chunks(&file, &[step], |mut chunk| {
                while !chunk.is_empty() {
                    let (now, later) = chunk.split_at(reader.step_bytes().min(chunk.len()));
                    let most = reader.memory_bytes_after(now.len());
                    reader.feed(now);
                    assert!(reader.memory_bytes() <= most, "{syntax}: {} of {most} bytes after {}", reader.memory_bytes(), now.len());
                    chunk = later;
                }
            });
        }
    }
}

#[test]
fn the_steps_of_an_ordinary_object_take_little_memory() {
    let mut set = ct();
    set.put(tags::PIXEL_DATA, "OW", vec![7; 1 << 20]);
    for (syntax, bytes) in [(EXPLICIT, set.explicit()), (EXPLICIT, part10(&file_meta("1.2", "1.2.3", EXPLICIT), &ct().explicit()))] {
        let mut scanner = Scanner::new(syntax, Limits::default());
        let (mut reader, mut most, mut rest) = (Part10Reader::new(Limits::default()), 0, &bytes[..]);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(scanner.step_bytes().min(reader.step_bytes()).min(rest.len()));
            most = most.max(scanner.memory_bytes_after(now.len())).max(reader.memory_bytes_after(now.len()));
            scanner.feed(now);
            reader.feed(now);
            rest = later;
        }
        assert!(most <= 384 << 10, "{most}");
    }
}

/// Found by the fuzz targets `scanner` and `part10`.
#[test]
fn a_damaged_deflate_stream_gives_the_same_scan_in_any_chunks() {
    let found = "c39878e0e2a47bd805f686410d24c222bbc49bca4d0ff2057fe1877c87092f616d2686e8854e265de9aae9ea6e8d7d0c03147d50414e0241102c46d4\
                 092e648c8921c6c39878e0e2a47bd805f686410d24c2f2";
    let found = hex::decode(found).expect("hex");
    let mut half = deflate(&ct().explicit());
    let middle = half.len() / 2;
    half[middle..].fill(0xff);
    for bytes in [found, half] {
        let whole = scan(DEFLATED, &bytes);
        for length in [1, 3, 16] {
            assert!(whole == scan_chunks(DEFLATED, &bytes, &[length]), "{length}: {whole:?}");
        }
    }
}

#[test]
fn deflate_is_bounded_by_what_comes_out() {
    let mut set = ct();
    set.put(tags::PIXEL_DATA, "OW", vec![0; 4 << 20]);
    let bytes = deflate(&set.explicit());
    assert!(bytes.len() < 64 << 10, "a bomb");
    let mut scanner = Scanner::new(DEFLATED, Limits { inflate_bytes_max: 1 << 20, ..Limits::default() });
    scanner.feed(&bytes);
    assert!(scanner.failed());
    assert_eq!(kinds(&scanner.finish()), [DefectKind::Deflate]);
}

#[test]
fn a_repeated_tag_is_found_behind_other_tags() {
    let late = element(tags::PATIENT_ID, "LO", 2, b"X ");
    let scan = scan(EXPLICIT, &[ct().remove(tags::PIXEL_DATA).explicit(), late].concat());
    assert_eq!(kinds(&scan), [DefectKind::TagOrder, DefectKind::TagRepeated]);
    assert_eq!(scan.defect(DefectKind::TagRepeated).map(|defect| defect.tags.clone()), Some(vec![tags::PATIENT_ID]));
}

#[test]
fn an_undefined_item_cannot_leave_the_defined_sequence_around_it() {
    let item = [&b"\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF"[..], &element(tags::MODALITY, "CS", 2, b"CT")].concat();
    let bytes = [element(Tag(0x0008, 0x1140), "SQ", item.len() as u32, &item), element(tags::PATIENT_ID, "LO", 2, b"X ")].concat();
    assert_eq!(kinds(&scan(EXPLICIT, &bytes)), [DefectKind::Encoding]);
}

#[test]
fn the_front_of_a_file_hands_out_exactly_the_data_set() {
    for (syntax, data_set) in samples() {
        let file = part10(&file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", syntax), &data_set);
        for sizes in [&[1][..], &[131, 1, 300], &[usize::MAX]] {
            let (mut reader, mut out) = (Part10Reader::new(Limits::default()), Vec::new());
            in_chunks(&file, sizes, |chunk| {
                let fed = reader.feed(chunk);
                out.extend_from_slice(&fed.carried);
                out.extend_from_slice(fed.rest);
            });
            assert!(out == data_set, "{syntax} in chunks of {sizes:?}");
            let scan = reader.finish();
            assert_eq!(kinds(&scan), [], "{syntax}");
            assert_eq!(scan.transfer_syntax, syntax);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn chunks_do_not_matter(which in 0..5_usize, sizes in prop::collection::vec(1..40_usize, 1..8)) {
        let (syntax, bytes) = samples().swap_remove(which);
        prop_assert!(scan_chunks(syntax, &bytes, &sizes) == scan(syntax, &bytes));
    }

    #[test]
    fn chunks_do_not_matter_for_damaged_data_either(
        which in 0..5_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let (syntax, mut bytes) = samples().swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() / 2 + cut.index(bytes.len() / 2));
        let (whole, pieces) = (scan(syntax, &bytes), scan_chunks(syntax, &bytes, &sizes));
        prop_assert!(whole == pieces, "{:?} {:?}", whole, pieces);
    }

    #[test]
    fn any_bytes_end_in_a_bounded_scan(bytes in prop::collection::vec(any::<u8>(), 0..4096), syntax in prop::sample::select(vec![IMPLICIT, EXPLICIT, DEFLATED, JPEG])) {
        let scan = scan(syntax, &bytes);
        prop_assert!(scan.header.bytes.len() <= bytes.len().max(4 << 10) * 1032);
        prop_assert!(scan.header.nodes.len() <= bytes.len() * 1032 / 8 + 1);
        let mut reader = Part10Reader::new(Limits::default());
        reader.feed(&[&[0; 128], &b"DICM"[..], &bytes].concat());
        reader.finish();
    }

    /// Valid beginnings bring the walk further than random bytes do.
    #[test]
    fn any_end_of_a_valid_data_set_is_read(which in 0..5_usize, cut in any::<prop::sample::Index>(), tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let (syntax, mut bytes) = samples().swap_remove(which);
        bytes.truncate(cut.index(bytes.len()));
        bytes.extend(tail);
        let scan = scan(syntax, &bytes);
        scan.header.for_each(&mut |element| {
            let _ = (element.text(), element.unsigned(), element.decimal(), element.is_empty());
        });
    }
}

#[test]
fn real_files_are_walked_without_panic_and_in_any_chunks() {
    let Some(files) = crate::testing::shared_dicom_files() else { return };
    assert!(files.len() > 100);
    for (path, bytes) in files {
        let read = |sizes: &[usize]| {
            let mut reader = Part10Reader::new(Limits::default());
            in_chunks(&bytes, sizes, |chunk| {
                reader.feed(chunk);
            });
            reader.finish()
        };
        let whole = read(&[usize::MAX]);
        assert!(whole == read(&[997, 13]), "{}", path.display());
        let header = Header::read(&whole.header.to_explicit_le(), Limits::default());
        assert!(header.is_some(), "{}", path.display());
        // As bare data sets of another encoding: garbage, but bounded.
        for syntax in [IMPLICIT, EXPLICIT, DEFLATED] {
            scan(syntax, &bytes);
        }
    }
}
