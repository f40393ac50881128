//! Fingerprint of a request, for the idempotency key (profile 08 §4.2).

use aws_lc_rs::digest::{Context, SHA256};
use bergshamra::c14n::{C14nMode, canonicalize};

use super::envelope::Envelope;
use super::refusal::Refusal;
use crate::xml::{Item, Limits, Ns, Reader, XmlError};

/// SHA-256 of action ‖ 00H ‖ exclusive C14N 1.0 without comments of the Body's child, in which the content of each
/// `xdsb:Document` is replaced by the lower-case hex SHA-256 of its bytes. `documents`: these digests, in document order.
///
/// Frame, in-line or XOP, boundary, Content-IDs and header blocks do not count; namespace prefixes do.
///
/// # Errors
/// [`Refusal::Xml`]; also when the number of digests is not the number of Documents.
pub fn fingerprint(envelope: &Envelope<'_>, documents: &[[u8; 32]], limits: Limits) -> Result<[u8; 32], Refusal> {
    let body = envelope.body_document();
    let mut out = Vec::with_capacity(body.len().min(1 << 20));
    let (mut copied, mut digests) = (0, documents.iter());
    let mut reader = Reader::new(&body, limits)?;
    loop {
        match reader.item()? {
            Item::Element(element) if element.is(Ns::Xdsb, "Document") => {
                let content = reader.position();
                reader.skip()?;
                let end = reader.position();
                let digest = digests.next().ok_or(XmlError::Malformed { position: element.position })?;
                let Some(tag) = body.get(copied..content) else { return Err(XmlError::Malformed { position: content }.into()) };
                // `<Document …/>` has no end tag of its own: both forms are written as start tag, digest, end tag.
                out.extend_from_slice(tag.strip_suffix(b"/>").unwrap_or_else(|| tag.strip_suffix(b">").unwrap_or(tag)));
                out.push(b'>');
                out.extend_from_slice(hex::encode(digest).as_bytes());
                let name = &body[element.position + 1..];
                let name = &name[..name.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>')).unwrap_or(0)];
                out.extend_from_slice(b"</");
                out.extend_from_slice(name);
                out.push(b'>');
                copied = end;
            }
            Item::Eof => break,
            Item::Element(_) | Item::End | Item::Text(_) => {}
        }
    }
    if digests.next().is_some() {
        return Err(XmlError::Malformed { position: body.len() }.into());
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    let text = String::from_utf8(out).map_err(|_| XmlError::NotUtf8)?;
    let canonical = canonicalize::<&str>(&text, C14nMode::Exclusive, None, &[]).map_err(|_| XmlError::Malformed { position: 0 })?;
    let mut context = Context::new(&SHA256);
    context.update(envelope.action().as_bytes());
    context.update(&[0]);
    context.update(&canonical);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    Ok(fingerprint)
}
