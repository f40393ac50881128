//! A `multipart/related` body, as MTOM and as STOW-RS. First byte: length of the pieces; then a line with the Content-Type;
//! then the body.
#![no_main]

use idr_fuzz::{pieces, seed, seeds, split};
use idr_ihe::soap::multipart::{self, Limits};
use idr_ihe::soap::{Framing, mtom};
use libfuzzer_sys::fuzz_target;

/// Small, so that inputs of a few kilobytes reach them.
const LIMITS: Limits = Limits { preamble_bytes: 64, parts: 8, head_bytes: 512, head_fields: 8, part_bytes: 2_048, total_bytes: 8_192 };

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (length, data) = split(data);
    let (line, body) = data.split_at(data.iter().position(|b| *b == b'\n').unwrap_or(0));
    let body = body.get(1..).unwrap_or_default();
    let framing = std::str::from_utf8(line).ok().and_then(|line| Framing::of(Some(line)).ok());
    let (boundary, start) = match framing {
        Some(Framing::Mtom { boundary, start }) => (boundary, start),
        Some(Framing::Plain) => return,
        None => ("b".to_owned(), None),
    };
    // A message with two faults may be refused for either; that it is refused does not depend on the cut.
    for limits in [Limits::MTOM, LIMITS] {
        let whole = message(&boundary, start.clone(), limits, [body].into_iter());
        let cut = message(&boundary, start.clone(), limits, pieces(body, length));
        assert_eq!(whole.ok(), cut.ok(), "the cut changes the message");
        let whole = parts(&boundary, limits, [body].into_iter());
        let cut = parts(&boundary, limits, pieces(body, length));
        assert_eq!(whole.ok(), cut.ok(), "the cut changes the parts");
    }
});

/// The root part and the other parts; or the rule that is broken.
fn message<'a>(
    boundary: &str,
    start: Option<String>,
    limits: Limits,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, Vec<Vec<u8>>), String> {
    let mut reader = mtom::Reader::new(boundary, start, limits).map_err(|error| error.to_string())?;
    let (mut root, mut documents, mut ended) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        reader.feed(piece).map_err(|error| error.to_string())?;
        while let Some(event) = reader.poll().map_err(|refusal| format!("{} {refusal}", refusal.rule()))? {
            match event {
                mtom::Event::Root(bytes) => root = bytes,
                mtom::Event::Part(_) => documents.push(Vec::new()),
                mtom::Event::Data(bytes) => documents.last_mut().expect("data belongs to a part").extend_from_slice(&bytes),
                mtom::Event::PartEnd => {}
                mtom::Event::End => ended = true,
            }
        }
    }
    reader.finish().map_err(|error| error.to_string())?;
    assert!(ended, "a message is whole only with its closing delimiter");
    Ok((root, documents))
}

fn parts<'a>(boundary: &str, limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, String> {
    let mut reader = multipart::Reader::new(boundary, limits).map_err(|error| error.to_string())?;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        reader.feed(piece).map_err(|error| error.to_string())?;
        while let Some(event) = reader.poll().map_err(|error| error.to_string())? {
            match event {
                multipart::Event::Part(head) => {
                    let _ = head.content_id();
                    parts.push(Vec::new());
                }
                multipart::Event::Data(bytes) => parts.last_mut().expect("data belongs to a part").extend_from_slice(&bytes),
                multipart::Event::PartEnd | multipart::Event::End => {}
            }
        }
    }
    reader.finish().map_err(|error| error.to_string())?;
    Ok(parts)
}

fn all() -> Vec<Vec<u8>> {
    let writer = mtom::Writer::new("0123456789abcdef0123456789abcdef".to_owned()).expect("a boundary");
    let body = format!("{}{}text{}", writer.root("<x/>"), writer.document(1, "text/plain"), writer.closing());
    let base64 = "\n--b\r\nContent-Type: application/xop+xml\r\nContent-Transfer-Encoding: base64\r\n\r\nPHgv\r\nPg==\r\n--b--\r\n";
    let folded = "\npreamble\r\n--b\r\nContent-Type: application/xop+xml;\r\n charset=utf-8\r\nContent-ID: <a@b>\r\n\r\n\r\n--b \r\n\r\nx\r\n--b--epilogue";
    vec![
        seed(&[0], format!("{}\n{body}", writer.content_type())),
        seed(&[5], format!("{}\n{body}", writer.content_type())),
        seed(&[1], base64),
        seed(&[3], folded),
    ]
}
