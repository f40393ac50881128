//! SOAP 1.2 faults.

use super::write::{Answer, write_answer};
use super::{ADDRESSING_FAULT, SOAP_FAULT};
use crate::xml::{Element, Ns, Reader, Writer, XmlError};

/// `env:Code/env:Value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultCode {
    /// Envelope of another SOAP version.
    VersionMismatch,
    /// A mandatory header block was not understood.
    MustUnderstand,
    /// The message is at fault.
    Sender,
    /// The service is at fault.
    Receiver,
    /// `DataEncodingUnknown`, or a value outside of the SOAP namespace; read only.
    Unknown,
}

/// What WS-Addressing puts into `env:Detail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// `wsa:ProblemHeaderQName`.
    ProblemHeader {
        /// Namespace URI.
        namespace: String,
        /// Local name.
        local: String,
    },
    /// `wsa:ProblemAction/wsa:Action`.
    ProblemAction(String),
    /// `wsa:ProblemIRI`.
    ProblemIri(String),
    /// `wsa:RetryAfter`, on the wire in milliseconds.
    RetryAfter {
        /// Seconds.
        seconds: u32,
    },
}

/// A fault (SOAP 1.2 part 1 §5.4; profile 09 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Code.
    pub code: FaultCode,
    /// Subcodes, outermost first: namespace and local name.
    pub subcodes: Vec<(Ns, String)>,
    /// English text.
    pub reason: String,
    /// `idr:Refusal/@code`, `IDR-S-nn` or `IDR-X-nn`.
    pub refusal: Option<String>,
    /// `idr:Refusal/@incident`.
    pub incident: Option<String>,
    /// WS-Addressing detail.
    pub detail: Option<Detail>,
    /// Header blocks not understood: namespace URI and local name.
    pub not_understood: Vec<(String, String)>,
}

impl Fault {
    /// A fault with code and reason only.
    pub fn new(code: FaultCode, reason: &str) -> Self {
        Self {
            code,
            subcodes: Vec::new(),
            reason: reason.to_owned(),
            refusal: None,
            incident: None,
            detail: None,
            not_understood: Vec::new(),
        }
    }

    /// A fault of the sender.
    pub fn sender(reason: &str) -> Self {
        Self::new(FaultCode::Sender, reason)
    }

    /// Adds a subcode inside the present ones.
    #[must_use]
    pub fn subcode(mut self, ns: Ns, local: &str) -> Self {
        self.subcodes.push((ns, local.to_owned()));
        self
    }

    /// Sets the WS-Addressing detail.
    #[must_use]
    pub fn detail(mut self, detail: Detail) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Sets the refusal code.
    #[must_use]
    pub fn refusal(mut self, code: String) -> Self {
        self.refusal = Some(code);
        self
    }

    /// `wsa:Action` of the answer that carries the fault.
    pub fn action(&self) -> &'static str {
        if self.subcodes.first().is_some_and(|(ns, _)| *ns == Ns::Addressing) { ADDRESSING_FAULT } else { SOAP_FAULT }
    }
}

/// Writes the answer that carries a fault. `fault_detail` = false leaves `idr:Refusal` out (profile 04 §12).
pub fn write_fault(fault: &Fault, message_id: &str, relates_to: Option<&str>, fault_detail: bool) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Envelope, "Fault").start(Ns::Envelope, "Code");
    writer.leaf(Ns::Envelope, "Value", code_text(fault.code));
    for (ns, local) in &fault.subcodes {
        writer.start(Ns::Envelope, "Subcode").start(Ns::Envelope, "Value");
        if ns.prefix() != "env" && ns.prefix() != "wsa" && !ns.prefix().is_empty() {
            writer.declare(*ns);
        }
        let value = if ns.prefix().is_empty() { local.clone() } else { format!("{}:{local}", ns.prefix()) };
        writer.text(&value).end();
    }
    for _ in &fault.subcodes {
        writer.end();
    }
    writer.end();
    writer.start(Ns::Envelope, "Reason").start(Ns::Envelope, "Text").attribute("xml:lang", "en").text(&fault.reason).end().end();
    let refusal = fault.refusal.as_deref().filter(|_| fault_detail);
    if refusal.is_some() || fault.detail.is_some() {
        writer.start(Ns::Envelope, "Detail");
        if let Some(code) = refusal {
            writer.start(Ns::Refusal, "Refusal").declare(Ns::Refusal).attribute("code", code);
            writer.attribute_if("incident", fault.incident.as_deref()).end();
        }
        match &fault.detail {
            Some(Detail::ProblemHeader { namespace, local }) => {
                writer.start(Ns::Addressing, "ProblemHeaderQName").attribute("xmlns:p", namespace).text(&format!("p:{local}")).end();
            }
            Some(Detail::ProblemAction(action)) => {
                writer.start(Ns::Addressing, "ProblemAction").leaf(Ns::Addressing, "Action", action).end();
            }
            Some(Detail::ProblemIri(iri)) => {
                writer.leaf(Ns::Addressing, "ProblemIRI", iri);
            }
            Some(Detail::RetryAfter { seconds }) => {
                writer.leaf(Ns::Addressing, "RetryAfter", &(u64::from(*seconds) * 1000).to_string());
            }
            None => {}
        }
        writer.end();
    }
    writer.end();
    let body = writer.finish();

    let mut headers = Writer::new();
    if fault.code == FaultCode::VersionMismatch {
        headers.start(Ns::Envelope, "Upgrade").start(Ns::Envelope, "SupportedEnvelope");
        headers.attribute("qname", "env:Envelope").end().end();
    }
    for (namespace, local) in &fault.not_understood {
        headers.start(Ns::Envelope, "NotUnderstood");
        if namespace.is_empty() {
            headers.attribute("qname", local);
        } else {
            headers.attribute("xmlns:p", namespace).attribute("qname", &format!("p:{local}"));
        }
        headers.end();
    }
    let headers = headers.finish();
    write_answer(&Answer { action: fault.action(), message_id, relates_to, headers: &headers, body: &body })
}

/// Reads the content of the `env:Fault` that the reader has just entered. Header blocks of the fault are not part of it.
///
/// # Errors
/// [`XmlError`].
pub fn read_fault(reader: &mut Reader<'_>) -> Result<Fault, XmlError> {
    let mut fault = Fault::new(FaultCode::Unknown, "");
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Envelope, "Code") => code(reader, &mut fault, true)?,
            (Ns::Envelope, "Reason") => {
                while let Some(text) = reader.child()? {
                    let wanted = text.is(Ns::Envelope, "Text") && fault.reason.is_empty();
                    let text = reader.text()?;
                    if wanted {
                        fault.reason = text;
                    }
                }
            }
            (Ns::Envelope, "Detail") => {
                while let Some(entry) = reader.child()? {
                    detail(reader, &entry, &mut fault)?;
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(fault)
}

/// Code or Subcode: a value and, nested, the next subcode. Depth is bounded by the reader.
fn code(reader: &mut Reader<'_>, fault: &mut Fault, outermost: bool) -> Result<(), XmlError> {
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Envelope, "Value") => {
                let (ns, local) = reader.qualified_text()?;
                if !outermost {
                    fault.subcodes.push((ns, local));
                } else if ns == Ns::Envelope {
                    fault.code = match local.as_str() {
                        "VersionMismatch" => FaultCode::VersionMismatch,
                        "MustUnderstand" => FaultCode::MustUnderstand,
                        "Sender" => FaultCode::Sender,
                        "Receiver" => FaultCode::Receiver,
                        _ => FaultCode::Unknown,
                    };
                }
            }
            (Ns::Envelope, "Subcode") => code(reader, fault, false)?,
            _ => reader.skip()?,
        }
    }
    Ok(())
}

fn detail(reader: &mut Reader<'_>, entry: &Element<'_>, fault: &mut Fault) -> Result<(), XmlError> {
    match (entry.ns, entry.local()) {
        (Ns::Refusal, "Refusal") => {
            fault.refusal = entry.attribute("code");
            fault.incident = entry.attribute("incident");
            reader.skip()
        }
        (Ns::Addressing, "ProblemHeaderQName") => {
            let (ns, local) = reader.qualified_text()?;
            fault.detail = Some(Detail::ProblemHeader { namespace: ns.uri().to_owned(), local });
            Ok(())
        }
        (Ns::Addressing, "ProblemAction") => {
            while let Some(child) = reader.child()? {
                if child.is(Ns::Addressing, "Action") {
                    fault.detail = Some(Detail::ProblemAction(reader.text()?.trim().to_owned()));
                } else {
                    reader.skip()?;
                }
            }
            Ok(())
        }
        (Ns::Addressing, "ProblemIRI") => {
            fault.detail = Some(Detail::ProblemIri(reader.text()?.trim().to_owned()));
            Ok(())
        }
        (Ns::Addressing, "RetryAfter") => {
            let milliseconds: Option<u64> = reader.text()?.trim().parse().ok();
            fault.detail = milliseconds.map(|ms| Detail::RetryAfter { seconds: u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX) });
            Ok(())
        }
        _ => reader.skip(),
    }
}

fn code_text(code: FaultCode) -> &'static str {
    match code {
        FaultCode::VersionMismatch => "env:VersionMismatch",
        FaultCode::MustUnderstand => "env:MustUnderstand",
        FaultCode::Sender => "env:Sender",
        FaultCode::Receiver | FaultCode::Unknown => "env:Receiver",
    }
}
