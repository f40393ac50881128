//! The DICOM JSON model of a walked data set (PS3.18 Annex F): what WADO-RS metadata and QIDO-RS are made of.
//!
//! Text is UTF-8, so that (0008,0005), where the data set has it, says `ISO_IR 192`; group lengths and file meta are left out
//! (§F.2.2). Bulk data, and values longer than what the walk keeps, are named by a URI or left out: an attribute that is there
//! without a value would be read as an empty one.
//!
//! A number that JSON has no form for (an IS or DS that is none, a float that is not finite) keeps its text or is `null`: a
//! wrong number is never made of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_dictionary_std::StandardDataDictionary;
use serde_json::{Map, Number, Value, json};

use super::header::{DataSet, Element};
use super::{Vr, tags};

/// The attributes of a level by their eight hex digits (§F.2.2).
pub type Attributes = Map<String, Value>;

/// `00100020`: the name of an attribute (§F.2.2).
pub fn name(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.0, tag.1)
}

/// The attribute that a name of a query means: eight hex digits or a keyword (PS3.18 §8.3.1.1); `None`: no element of the dictionary.
pub fn tag(name: &str) -> Option<Tag> {
    match name.len() == 8 && name.is_ascii() && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Some(Tag(u16::from_str_radix(&name[..4], 16).ok()?, u16::from_str_radix(&name[4..], 16).ok()?)),
        false => StandardDataDictionary.by_name(name).map(|entry| entry.tag()),
    }
}

/// An attribute without a value, as a key that nothing is known of is returned.
pub fn empty(vr: Vr) -> Value {
    json!({ "vr": vr.to_string() })
}

/// An attribute of text values, separated by `\`.
pub fn texts(vr: Vr, text: &str) -> Value {
    let values: Vec<Value> = text.split('\\').map(|value| value_of(vr, value)).collect();
    with_values(vr, values)
}

impl<'a> DataSet<'a> {
    /// All attributes of this level and below. `link` gives the URI of bulk data of the top level, if there is one.
    pub fn to_json(self, link: &dyn Fn(Tag) -> Option<String>) -> Attributes {
        self.elements()
            .filter(|element| element.tag().1 != 0 && element.tag().0 > 0x0002)
            .filter_map(|element| Some((name(element.tag()), element.to_json(link)?)))
            .collect()
    }
}

impl Element<'_> {
    /// Its object of the model: `vr`, and `Value`, `InlineBinary` or `BulkDataURI` if it has a value (§F.2.3). `None`: its value is
    /// not here and has no URI.
    pub fn to_json(self, link: &dyn Fn(Tag) -> Option<String>) -> Option<Value> {
        let vr = if self.is_sequence() { Vr::SQ } else { known(self.value_vr()) };
        if self.is_sequence() {
            // What is inside has no place of its own that a URI could name.
            let items: Vec<Value> = self.items().map(|item| Value::Object(item.to_json(&|_| None))).collect();
            return Some(with_values(vr, items));
        }
        if self.tag() == tags::SPECIFIC_CHARACTER_SET {
            return Some(json!({ "vr": "CS", "Value": ["ISO_IR 192"] }));
        }
        if !self.is_whole() {
            return link(self.tag()).map(|uri| json!({ "vr": vr.to_string(), "BulkDataURI": uri }));
        }
        if self.is_empty() {
            return Some(empty(vr));
        }
        if vr.is_string() {
            let text = self.decoded().map(|decoded| decoded.text).unwrap_or_default();
            return Some(if vr.is_multi_valued() { texts(vr, &text) } else { with_values(vr, vec![json!(text)]) });
        }
        Some(match numbers(vr, self.bytes()) {
            Some(values) => with_values(vr, values),
            None => json!({ "vr": vr.to_string(), "InlineBinary": STANDARD.encode(self.bytes()) }),
        })
    }
}

/// A VR that the standard does not know is UN to a reader.
fn known(vr: Vr) -> Vr {
    if vr.is_known() { vr } else { Vr::UN }
}

/// Values that are all empty are none.
fn with_values(vr: Vr, values: Vec<Value>) -> Value {
    if values.iter().all(Value::is_null) {
        return empty(vr);
    }
    json!({ "vr": vr.to_string(), "Value": values })
}

/// One value of a string; an empty one is `null` (§F.2.5).
fn value_of(vr: Vr, text: &str) -> Value {
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Value::Null;
    }
    match &vr.0 {
        b"IS" => text.trim_start_matches('+').parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        b"DS" => match (text.parse::<i64>(), text.parse::<f64>().ok().and_then(Number::from_f64)) {
            // As it was written: 1 and not 1.0.
            (Ok(number), _) => json!(number),
            (_, Some(number)) => Value::Number(number),
            _ => json!(text),
        },
        b"PN" => person_name(text),
        _ => json!(text),
    }
}

/// Component groups by name; an empty one is left out (§F.2.2).
fn person_name(text: &str) -> Value {
    let groups = ["Alphabetic", "Ideographic", "Phonetic"].into_iter().zip(text.split('='));
    let groups: Attributes = groups.filter(|(_, group)| !group.is_empty()).map(|(name, group)| (name.to_owned(), json!(group))).collect();
    if groups.is_empty() { Value::Null } else { Value::Object(groups) }
}

/// Values of a binary VR; `None`: it is given in line (§F.2.7), and so is one whose length is no multiple of its values'.
fn numbers(vr: Vr, bytes: &[u8]) -> Option<Vec<Value>> {
    let width = match &vr.0 {
        b"SS" | b"US" => 2,
        b"AT" | b"FL" | b"SL" | b"UL" => 4,
        b"FD" | b"SV" | b"UV" => 8,
        _ => return None,
    };
    if !bytes.len().is_multiple_of(width) {
        return None;
    }
    let number = |value: &[u8]| -> Option<Value> {
        Some(match &vr.0 {
            b"SS" => json!(i16::from_le_bytes(*value.first_chunk()?)),
            b"US" => json!(u16::from_le_bytes(*value.first_chunk()?)),
            b"SL" => json!(i32::from_le_bytes(*value.first_chunk()?)),
            b"UL" => json!(u32::from_le_bytes(*value.first_chunk()?)),
            b"SV" => json!(i64::from_le_bytes(*value.first_chunk()?)),
            b"UV" => json!(u64::from_le_bytes(*value.first_chunk()?)),
            b"FL" => float(f32::from_le_bytes(*value.first_chunk()?).to_string().parse().unwrap_or(f64::NAN)),
            b"FD" => float(f64::from_le_bytes(*value.first_chunk()?)),
            _ => {
                let [a, b, c, d] = *value.first_chunk()?;
                json!(name(Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))))
            }
        })
    };
    bytes.chunks_exact(width).map(number).collect()
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Scanner};
    use super::*;

    fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
        let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        out.extend(vr.bytes());
        let length = u32::try_from(value.len()).unwrap();
        match Vr([vr.as_bytes()[0], vr.as_bytes()[1]]).has_long_length() {
            true => out.extend([[0; 2].as_slice(), &length.to_le_bytes()].concat()),
            false => out.extend(&length.to_le_bytes()[..2]),
        }
        out.extend(value);
        out
    }

    fn json_of(elements: &[Vec<u8>]) -> Value {
        let mut scanner = Scanner::new("1.2.840.10008.1.2.1", Limits::default());
        elements.iter().for_each(|element| scanner.feed(element));
        let scan = scanner.finish();
        Value::Object(scan.data_set().to_json(&|tag| Some(format!("bulk/{}", name(tag)))))
    }

    /// Each VR as PS3.18 Table F.2.3-1 has it.
    #[test]
    fn each_vr_has_the_form_of_the_standard() {
        let item = [element((0x0008, 0x0100), "SH", b"CODE"), element((0x0008, 0x0104), "LO", "Pää ".as_bytes())].concat();
        let mut sequence = vec![0xFE, 0xFF, 0x00, 0xE0];
        sequence.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
        sequence.extend(item);
        let written = json_of(&[
            element((0x0008, 0x0005), "CS", b"ISO_IR 192"),
            element((0x0008, 0x0008), "CS", b"ORIGINAL\\\\AXIAL "),
            element((0x0008, 0x0018), "UI", b"1.2.3\0"),
            element((0x0008, 0x0090), "PN", b""),
            element((0x0008, 0x1032), "SQ", &sequence),
            element((0x0008, 0x1140), "SQ", b""),
            element((0x0010, 0x0010), "PN", "Öhman^Sanni==fon".as_bytes()),
            element((0x0018, 0x0050), "DS", b"0.5\\x\\-3 "),
            element((0x0018, 0x9087), "FD", &1.5f64.to_le_bytes()),
            element((0x0020, 0x0013), "IS", b"+07 "),
            element((0x0020, 0x9165), "AT", &[0x18, 0, 0x50, 0]),
            element((0x0028, 0x0010), "US", &512u16.to_le_bytes()),
            element((0x0028, 0x9001), "UL", &7u32.to_le_bytes()),
            element((0x0029, 0x0010), "LO", b"TEST"),
            element((0x0029, 0x1001), "UN", &[1, 2, 3, 4]),
            element((0x0040, 0x4000), "ST", b"a\\b "),
            element((0x0070, 0x0022), "FL", &[0.1f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat()),
            element((0x7FE0, 0x0010), "OW", &[0; 8]),
        ]);
        let expected = json!({
            "00080005": { "vr": "CS", "Value": ["ISO_IR 192"] },
            "00080008": { "vr": "CS", "Value": ["ORIGINAL", null, "AXIAL"] },
            "00080018": { "vr": "UI", "Value": ["1.2.3"] },
            "00080090": { "vr": "PN" },
            "00081032": { "vr": "SQ", "Value": [{
                "00080100": { "vr": "SH", "Value": ["CODE"] }, "00080104": { "vr": "LO", "Value": ["Pää"] },
            }] },
            "00081140": { "vr": "SQ" },
            "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Öhman^Sanni", "Phonetic": "fon" }] },
            "00180050": { "vr": "DS", "Value": [0.5, "x", -3] },
            "00189087": { "vr": "FD", "Value": [1.5] },
            "00200013": { "vr": "IS", "Value": [7] },
            "00209165": { "vr": "AT", "Value": ["00180050"] },
            "00280010": { "vr": "US", "Value": [512] },
            "00289001": { "vr": "UL", "Value": [7] },
            "00290010": { "vr": "LO", "Value": ["TEST"] },
            "00291001": { "vr": "UN", "InlineBinary": "AQIDBA==" },
            "00404000": { "vr": "ST", "Value": ["a\\b"] },
            "00700022": { "vr": "FL", "Value": [0.1, null] },
            "7FE00010": { "vr": "OW", "BulkDataURI": "bulk/7FE00010" },
        });
        assert_eq!(written, expected, "{written:#}");
    }

    #[test]
    fn group_lengths_are_left_out_and_a_wrong_length_is_given_in_line() {
        let (class, length) = (element((0x0008, 0x0016), "UI", b"1.2\0"), element((0x0028, 0), "UL", &[4, 0, 0, 0]));
        let written = json_of(&[class, length, element((0x0028, 0x0010), "UL", &[1, 2])]);
        assert_eq!(written["00280010"], json!({ "vr": "UL", "InlineBinary": "AQI=" }));
        assert_eq!(written.as_object().map(Map::len), Some(2));
    }

    #[test]
    fn an_attribute_is_named_by_its_digits_or_its_keyword() {
        for (written, expected) in [
            ("0020000D", Some(Tag(0x0020, 0x000D))),
            ("0020000d", Some(Tag(0x0020, 0x000D))),
            ("PatientID", Some(Tag(0x0010, 0x0020))),
            ("patientid", None),
            ("limit", None),
            ("0020000X", None),
            ("ääää", None),
        ] {
            assert_eq!(tag(written), expected, "{written}");
        }
    }
}
