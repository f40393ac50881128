//! Transfer syntaxes as far as a walk must know them (PS3.5 Annex A, PS3.6 Table A-1).

/// How the elements of a data set are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Implicit VR Little Endian (PS3.5 §A.1).
    Implicit,
    /// Explicit VR Little Endian (PS3.5 §A.2), also around encapsulated pixel data (§A.4).
    Explicit,
    /// Explicit VR Little Endian inside raw deflate (PS3.5 §A.5).
    DeflatedExplicit,
    /// Explicit VR Big Endian (retired): counted, not read.
    BigEndian,
}

/// Encoding of a transfer syntax. A private or unknown one is taken as Explicit VR Little Endian, as PS3.5 §10 demands of
/// every syntax but the two named here.
pub fn encoding_of(transfer_syntax: &str) -> Encoding {
    match transfer_syntax {
        "1.2.840.10008.1.2" => Encoding::Implicit,
        "1.2.840.10008.1.2.2" => Encoding::BigEndian,
        // Deflated Explicit VR LE, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate.
        "1.2.840.10008.1.2.1.99" | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205" => Encoding::DeflatedExplicit,
        _ => Encoding::Explicit,
    }
}

/// Pixel data is native: (7FE0,0010) has a defined length.
pub fn is_native(transfer_syntax: &str) -> bool {
    matches!(transfer_syntax, "1.2.840.10008.1.2" | "1.2.840.10008.1.2.1" | "1.2.840.10008.1.2.1.99" | "1.2.840.10008.1.2.2")
}

/// Pixel data is encapsulated: (7FE0,0010) has undefined length. Neither this nor [`is_native`] holds for the JPIP syntaxes,
/// whose pixel data is elsewhere, and for private ones.
pub fn is_encapsulated(transfer_syntax: &str) -> bool {
    match transfer_syntax.strip_prefix("1.2.840.10008.1.2.") {
        Some("5" | "1.98" | "8.1") => true,
        Some(rest) => rest.starts_with("4.") && !matches!(rest, "4.94" | "4.95" | "4.204" | "4.205"),
        None => false,
    }
}
