//! Frames, text, time stamps and answers.

use super::mllp::{Deframer, Frame, FrameLimits, Unframed, frame};
use super::*;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const LIMITS: FrameLimits = FrameLimits { message_bytes_max: 64, skipped_bytes_max: 8 };

fn read(text: &str) -> Message {
    let header = Header::read(text.as_bytes()).expect("a header");
    Message::read(text.as_bytes(), &header, Charset::Utf8, &Limits::default()).expect("a message")
}

fn pid(message: &Message) -> Segment<'_> {
    message.segments().find(|segment| segment.name() == "PID").expect("a PID")
}

/// Everything that a deframer finds when the stream comes in pieces of `size`.
fn found(stream: &[u8], size: usize, limits: FrameLimits) -> Result<Vec<Frame>, Unframed> {
    let mut deframer = Deframer::new(limits);
    let mut frames = Vec::new();
    for mut piece in stream.chunks(size) {
        while let Some(frame) = deframer.push(&mut piece)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

#[test]
fn a_frame_is_found_at_the_bound_and_answered_one_byte_above() {
    for (length, whole) in [(0, true), (63, true), (64, true), (65, false), (200, false)] {
        let message: Vec<u8> = std::iter::repeat_n(b'x', length).collect();
        let stream = [frame(&message), b"\r\n".to_vec(), frame(b"next")].concat();
        for size in [1, 2, 3, 1000] {
            let frames = found(&stream, size, LIMITS).expect("in bounds");
            assert_eq!(frames[1], Frame::Message(b"next".to_vec()), "{length} in {size}");
            match &frames[0] {
                Frame::Message(found) => assert!(whole && *found == message, "{length} in {size}"),
                Frame::TooLarge(head) => assert!(!whole && head.starts_with(b"xx"), "{length} in {size}"),
            }
        }
    }
}

#[test]
fn bytes_between_messages_and_an_endless_message_are_bounded() {
    let stray = |count: usize| [vec![b'-'; count], frame(b"m")].concat();
    assert!(found(&stray(8), 3, LIMITS).is_ok());
    assert_eq!(found(&stray(9), 3, LIMITS), Err(Unframed::Skipped(8)));
    let endless = [vec![mllp::START], vec![b'x'; 300]].concat();
    assert_eq!(found(&endless, 7, LIMITS), Err(Unframed::Endless(64)));
}

#[test]
fn any_separators_are_read_and_segments_end_as_they_like() {
    for end in ["\r", "\r\n", "\n"] {
        let text = ["MSH|$~\\&|A", "PID|1||x$y&z~second", "PV1|1|N"].join(end);
        let message = read(&text);
        let field = pid(&message).field(3);
        let repetitions: Vec<String> = field.repetitions().map(|part| part.component(1).value()).collect();
        assert_eq!(repetitions, ["x", "second"], "{end:?}");
        assert_eq!(field.first().component(2).subcomponent(2).value(), "z");
        assert!(pid(&message).field(9).is_empty() && field.first().component(7).is_empty());
    }
    for bad in ["MSH||~\\&", "MSH|^~\\", "MSH|^^\\&|", "MSHA^~\\&|", "PID|1"] {
        assert!(Header::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn escapes_are_decoded_and_odd_ones_stay() {
    for (sent, value, odd) in [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f", false),
        ("\\XC3A4\\\\.br\\x", "ä x", false),
        ("\\H\\bold\\N\\", "\\H\\bold\\N\\", true),
        ("\\XZZ\\ \\", "\\XZZ\\ \\", true),
        ("ö\\ä", "ö\\ä", true),
    ] {
        let message = read(&format!("MSH|^~\\&|A\rPID|{sent}"));
        let text = pid(&message).field(1).text();
        assert_eq!((text.value.as_str(), text.odd_escape), (value, odd), "{sent}");
    }
    let decomposed = read("MSH|^~\\&|A\rPID|a\u{308}");
    assert_eq!(pid(&decomposed).field(1).value(), "ä", "NFC");
}

#[test]
fn character_sets_are_those_of_the_table() {
    let bytes = b"MSH|^~\\&|A\rPID|\xa6\xa4\xe4";
    let header = Header::read(bytes).expect("a header");
    let value = |charset| {
        let message = Message::read(bytes, &header, charset, &Limits::default())?;
        Ok::<_, MessageError>(pid(&message).field(1).value())
    };
    assert_eq!(value(Charset::Latin9), Ok("Š€ä".to_owned()));
    assert_eq!(value(Charset::Latin1), Ok("¦¤ä".to_owned()));
    assert_eq!(value(Charset::Utf8), Err(MessageError::Text));
    assert_eq!(value(Charset::Ascii), Err(MessageError::Text));
    assert_eq!(Charset::Latin9.encode("Š€ä¤"), b"\xa6\xa4\xe4?");
    assert_eq!(Charset::by_name("8859/15"), Some(Charset::Latin9));
    assert_eq!(Charset::by_name("ISO IR87"), None);
}

#[test]
fn counts_and_lengths_are_bounded() {
    let limits = Limits { segments_max: 3, field_bytes_max: 8, repetitions_max: 3 };
    let read = |rest: &str| {
        let text = format!("MSH|^~\\&|A\r{rest}");
        let header = Header::read(text.as_bytes()).expect("a header");
        Message::read(text.as_bytes(), &header, Charset::Utf8, &limits).err()
    };
    for (rest, fits) in [
        ("PID|1\rPV1|1", true),
        ("PID|1\rPV1|1\rZZ1|1", false),
        ("PID|12345678", true),
        ("PID|123456789", false),
        ("PID|1~2~3", true),
        ("PID|1~2~3~4", false),
        ("PI", false),
        ("PIDX|1", false),
    ] {
        assert_eq!(read(rest).is_none(), fits, "{rest}");
    }
}

#[test]
fn time_stamps_are_read_with_the_zone_of_their_source() {
    let helsinki = TimeZone::get("Europe/Helsinki").expect("bundled");
    for (text, at, adjusted) in [
        ("20250615120000+0300", "2025-06-15T09:00:00Z", false),
        ("20250615120000", "2025-06-15T09:00:00Z", false),
        ("202506151200", "2025-06-15T09:00:00Z", false),
        ("20250615120000.1234", "2025-06-15T09:00:00.1234Z", false),
        ("2025", "2024-12-31T22:00:00Z", false),
        ("20251026033000", "2025-10-26T00:30:00Z", true),
        ("20250330033000", "2025-03-30T01:30:00Z", true),
    ] {
        let read = time::instant(text, &helsinki).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!((read.at, read.adjusted), (at.parse().expect("an instant"), adjusted), "{text}");
    }
    for bad in ["", "202", "20251301", "2025061512000", "20250615120000.12345", "20250615120000.", "2025+99", "2025+0360", "x025", "20２5"]
    {
        assert!(time::instant(bad, &helsinki).is_err(), "{bad}");
    }
    assert_eq!(time::date("19900101"), Ok(jiff::civil::date(1990, 1, 1)));
    assert!(time::date("199001").is_err() && time::date("1990-01-01").is_err());
}

#[test]
fn an_answer_is_written_in_the_form_of_the_message_s_version() {
    let error = AckError {
        location: Some(Location::field("MRG", 1, 1)),
        condition: Condition::UnknownKeyIdentifier,
        severity: Severity::Error,
        code: "IDR-H-10".to_owned(),
        text: "Identifier to change is not known".to_owned(),
        remedy: String::new(),
    };
    let answer = |version: &str, kind: &str, errors: Vec<AckError>| {
        let text = format!("MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|2025||{kind}|A1-4|T|{version}||||||8859/15");
        let header = Header::read(text.as_bytes()).expect("a header");
        let code = if errors.is_empty() { AckCode::Aa } else { AckCode::Ae };
        let bytes = Ack { code, errors }.write(&header, "20250616090001", "C-78");
        String::from_utf8(bytes).expect("ASCII")
    };
    // The two answers of profile 06 §11.
    assert_eq!(
        answer("2.5", "ADT^A47^ADT_A30", vec![error.clone()]),
        "MSH|^~\\&|IDR|CENTRAL|HIS|A-SAIRAALA|20250616090001||ACK^A47^ACK|C-78|T|2.5||||||8859/15\rMSA|AE|A1-4\r\
         ERR||MRG^1^1^1|204^Unknown key identifier^HL70357|E|IDR-H-10^Identifier to change is not known^L\r"
    );
    assert!(answer("2.5.1", "ADT^A40^ADT_A39", Vec::new()).ends_with("\rMSA|AA|A1-4\r"));
    let old = answer("2.3", "ADT^A47", vec![error.clone()]);
    assert!(old.contains("||ACK|C-78|T|2.3|"), "{old}");
    assert!(
        old.ends_with("MSA|AE|A1-4|IDR-H-10 Identifier to change is not known\rERR|MRG^1^1^204&Unknown key identifier&HL70357\r"),
        "{old}"
    );
    let hostile = AckError { text: "a|b^c\r\nMSA|AA".to_owned(), ..error };
    assert!(answer("2.5", "ADT^A47", vec![hostile]).contains("a\\F\\b\\S\\c  MSA\\F\\AA"), "no text makes a field or segment");
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic_and_what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut framed = b"MSH|^~\\&|A\r".to_vec();
        framed.extend(&bytes);
        for frame in [&bytes, &framed] {
            let Ok(header) = Header::read(frame) else { continue };
            for charset in [Charset::Ascii, Charset::Latin1, Charset::Latin9, Charset::Utf8] {
                let Ok(message) = Message::read(frame, &header, charset, &Limits::default()) else { continue };
                for segment in message.segments() {
                    for n in 1..5 {
                        let _ = segment.field(n).first().component(1).subcomponent(1).text();
                    }
                }
                let written = message.write();
                prop_assert_eq!(Message::read(&written, &header, charset, &Limits::default()), Ok(message));
            }
            let ack = Ack { code: AckCode::Aa, errors: Vec::new() }.write(&header, "2025", "1");
            prop_assert!(Header::read(&ack).is_ok(), "an answer has a header");
        }
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut(messages in proptest::collection::vec("[a-z\r|]{0,30}", 0..6), size in 1_usize..40) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message.as_bytes())).collect();
        let expected: Vec<Frame> = messages.iter().map(|message| Frame::Message(message.as_bytes().to_vec())).collect();
        prop_assert_eq!(found(&stream, size, LIMITS), Ok(expected));
    }

    #[test]
    fn no_text_makes_the_reader_of_time_stamps_panic(text in "[0-9.+\\-äZ]{0,24}") {
        let _ = time::instant(&text, &TimeZone::UTC);
        let _ = time::date(&text);
    }
}
