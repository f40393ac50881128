//! MLLP and HL7 v2: a stream is cut into frames within its bounds, a frame read, answered, and read again as written.
#![no_main]

use idr_fuzz::{seed, seeds, split};
use idr_ihe::hl7::mllp::{Deframer, Frame, FrameLimits, frame};
use idr_ihe::hl7::{Ack, AckCode, Charset, Header, Limits, Message, time};
use libfuzzer_sys::fuzz_target;

const LIMITS: FrameLimits = FrameLimits { message_bytes_max: 4096, skipped_bytes_max: 64 };

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (choice, data) = split(data);
    let mut deframer = Deframer::new(LIMITS);
    let mut count = 0;
    'stream: for mut piece in data.chunks(usize::from(choice) + 1) {
        loop {
            match deframer.push(&mut piece) {
                Ok(Some(Frame::Message(message))) => {
                    assert!(message.len() <= LIMITS.message_bytes_max);
                    count += 1;
                    one(&message);
                }
                Ok(Some(Frame::TooLarge(head))) => assert!(head.len() <= LIMITS.message_bytes_max),
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    assert!(count <= data.len() / 3 + 1);
    one(data);
});

fn one(bytes: &[u8]) {
    let Ok(header) = Header::read(bytes) else { return };
    let ack = Ack { code: AckCode::Aa, errors: Vec::new() }.write(&header, "20250615120000", "C-1");
    assert!(Header::read(&ack).is_ok(), "an answer has a header");
    for charset in [Charset::Ascii, Charset::Latin1, Charset::Latin9, Charset::Utf8] {
        let Ok(message) = Message::read(bytes, &header, charset, &Limits::default()) else { continue };
        for segment in message.segments() {
            for n in 1..40 {
                for part in segment.field(n).repetitions() {
                    let text = part.component(4).subcomponent(2).text();
                    let _ = (time::instant(&text.value, &jiff::tz::TimeZone::UTC), time::date(&part.value()));
                }
            }
        }
        let written = message.write();
        assert_eq!(Message::read(&written, &header, charset, &Limits::default()).as_ref(), Ok(&message));
    }
}

fn all() -> Vec<Vec<u8>> {
    let merge = "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250615143000+0300||ADT^A40^ADT_A39|A1-0002|T|2.5.1||||||UNICODE UTF-8\r\
                 EVN||20250615142955+0300\rPID|1||010190-900P^^^&1.2.246.21&ISO^NNFIN||TESTINEN^TAINA||19900101|F\r\
                 MRG|150625-9T01^^^&1.2.246.10.90000011.22.2025&ISO";
    let escapes = "MSH|$~\\&|A|B|C|D|2025||ADT$A08|1|T|2.3\nPID|a\\F\\b\\XC3A4\\\\.br\\~c\\H\\";
    vec![seed(&[255], frame(merge.as_bytes())), seed(&[3], [frame(merge.as_bytes()), frame(escapes.as_bytes())].concat()), seed(&[1], escapes)]
}
