//! The namespaces that IHE messages use.

/// A namespace known here. `Other` is bound, but none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ns {
    /// SOAP 1.2 envelope.
    Envelope,
    /// SOAP 1.1 envelope, known only to be refused.
    Envelope11,
    /// WS-Addressing 1.0.
    Addressing,
    /// WS-Security 1.0 extensions.
    Security,
    /// WS-Security 1.0 utility.
    Utility,
    /// ebRIM 3.0.
    Rim,
    /// ebRS 3.0.
    Rs,
    /// ebRS 3.0 life cycle management.
    Lcm,
    /// ebRS 3.0 query.
    Query,
    /// XDS.b document repository.
    Xdsb,
    /// XDS-I.b imaging document source.
    Xdsi,
    /// Remove metadata and documents.
    Rmd,
    /// XOP include.
    Xop,
    /// XInclude, known only to be refused.
    XInclude,
    /// Detail of a refusal.
    Refusal,
    /// Custody receipts.
    Custody,
    /// No namespace.
    Unbound,
    /// Bound to a namespace that is none of the above.
    Other,
}

impl Ns {
    /// All known namespaces with their URI and the prefix that [`super::Writer`] uses.
    const TABLE: [(Ns, &'static str, &'static str); 16] = [
        (Ns::Envelope, "http://www.w3.org/2003/05/soap-envelope", "env"),
        (Ns::Envelope11, "http://schemas.xmlsoap.org/soap/envelope/", "env11"),
        (Ns::Addressing, "http://www.w3.org/2005/08/addressing", "wsa"),
        (Ns::Security, "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd", "wsse"),
        (Ns::Utility, "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd", "wsu"),
        (Ns::Rim, "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0", "rim"),
        (Ns::Rs, "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0", "rs"),
        (Ns::Lcm, "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0", "lcm"),
        (Ns::Query, "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0", "query"),
        (Ns::Xdsb, "urn:ihe:iti:xds-b:2007", "xdsb"),
        (Ns::Xdsi, "urn:ihe:rad:xdsi-b:2009", "iherad"),
        (Ns::Rmd, "urn:ihe:iti:rmd:2017", "rmd"),
        (Ns::Xop, "http://www.w3.org/2004/08/xop/include", "xop"),
        (Ns::XInclude, "http://www.w3.org/2001/XInclude", "xi"),
        (Ns::Refusal, "urn:x-idr:fault", "idr"),
        (Ns::Custody, "urn:x-idr:custody", "idr"),
    ];

    /// The namespace of a URI.
    pub fn of(uri: &str) -> Self {
        if uri.is_empty() {
            return Ns::Unbound;
        }
        Self::TABLE.iter().find(|(_, known, _)| *known == uri).map_or(Ns::Other, |(ns, _, _)| *ns)
    }

    /// URI; empty for `Unbound` and `Other`.
    pub fn uri(self) -> &'static str {
        Self::TABLE.iter().find(|(ns, _, _)| *ns == self).map_or("", |(_, uri, _)| uri)
    }

    /// The prefix that [`super::Writer`] uses; empty for `Unbound` and `Other`.
    pub fn prefix(self) -> &'static str {
        Self::TABLE.iter().find(|(ns, _, _)| *ns == self).map_or("", |(_, _, prefix)| prefix)
    }

    /// Namespaces in which an element that we do not know refuses the message (profile 08 S-32).
    pub fn is_closed(self) -> bool {
        matches!(self, Ns::Rim | Ns::Rs | Ns::Lcm | Ns::Query | Ns::Xdsb | Ns::Xdsi | Ns::Rmd)
    }
}
