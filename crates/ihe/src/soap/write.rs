//! Envelopes of requests and answers.

use super::ANONYMOUS;
use crate::xml::{Ns, Writer};

/// A request envelope.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `wsa:Action`.
    pub action: &'a str,
    /// `wsa:MessageID`, `urn:uuid:…`.
    pub message_id: &'a str,
    /// `wsa:To`: address of the endpoint.
    pub to: &'a str,
    /// The whole `wsse:Security` element with its own namespace declarations.
    pub security: &'a str,
    /// The Body's child with its own namespace declarations.
    pub body: &'a str,
}

/// An answer envelope.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// `wsa:Action`.
    pub action: &'a str,
    /// `wsa:MessageID`, `urn:uuid:…`.
    pub message_id: &'a str,
    /// MessageID of the request, if it could be read.
    pub relates_to: Option<&'a str>,
    /// Further header blocks; the prefixes `env` and `wsa` are declared.
    pub headers: &'a str,
    /// The Body's child; the prefixes `env` and `wsa` are declared.
    pub body: &'a str,
}

/// Writes a request: Action (mustUnderstand), MessageID, ReplyTo anonymous, To, Security (profile 08 §3).
pub fn write_request(request: &Request<'_>) -> String {
    let mut writer = Writer::new();
    open(&mut writer, request.action, request.message_id);
    writer.start(Ns::Addressing, "ReplyTo").leaf(Ns::Addressing, "Address", ANONYMOUS).end();
    writer.leaf(Ns::Addressing, "To", request.to).raw(request.security).end();
    writer.start(Ns::Envelope, "Body").raw(request.body);
    writer.finish()
}

/// Writes an answer: Action (mustUnderstand), MessageID, RelatesTo, To anonymous.
pub fn write_answer(answer: &Answer<'_>) -> String {
    let mut writer = Writer::new();
    open(&mut writer, answer.action, answer.message_id);
    if let Some(relates_to) = answer.relates_to {
        writer.leaf(Ns::Addressing, "RelatesTo", relates_to);
    }
    writer.leaf(Ns::Addressing, "To", ANONYMOUS).raw(answer.headers).end();
    writer.start(Ns::Envelope, "Body").raw(answer.body);
    writer.finish()
}

fn open(writer: &mut Writer, action: &str, message_id: &str) {
    writer.start(Ns::Envelope, "Envelope").declare(Ns::Envelope).declare(Ns::Addressing).start(Ns::Envelope, "Header");
    writer.start(Ns::Addressing, "Action").attribute("env:mustUnderstand", "1").text(action).end();
    writer.leaf(Ns::Addressing, "MessageID", message_id);
}
