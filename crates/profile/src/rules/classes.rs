//! SOP classes and their transfer syntaxes (profile 01 §9).

use std::collections::BTreeMap;

/// `P` of the profile: root of the storage SOP classes.
pub const P: &str = "1.2.840.10008.5.1.4.1.1.";
/// `X` of the profile: root of the transfer syntaxes.
const X: &str = "1.2.840.10008.1.2.";

/// One `[[families]]` entry of a rule set.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FamilyFile {
    name: String,
    /// D601 demands pixel data.
    #[serde(default)]
    pixels: bool,
    registrable: bool,
    /// Names of lists.
    transfer_syntaxes: Vec<String>,
    classes: Vec<String>,
    /// Taken with `accept_retired`.
    #[serde(default)]
    retired: Vec<String>,
    /// Classes that differ from the family.
    #[serde(default)]
    exceptions: Vec<ExceptionFile>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionFile {
    classes: Vec<String>,
    transfer_syntaxes: Option<Vec<String>>,
    registrable: Option<bool>,
    pixels: Option<bool>,
}

/// One `[[extra_classes]]` entry: a class that a rule set or site adds, private classes one by one.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtraClassFile {
    uid: String,
    family: String,
    transfer_syntaxes: Option<Vec<String>>,
    registrable: Option<bool>,
}

/// What the profile says of one accepted SOP class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SopClass {
    /// Family (`IMG`, `MF`, …).
    pub family: String,
    /// Accepted transfer syntaxes.
    pub transfer_syntaxes: Vec<String>,
    /// A study that has an instance of this class can be registered.
    pub registrable: bool,
    /// Pixel data must be there.
    pub pixels: bool,
}

/// All accepted SOP classes by UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SopClasses(BTreeMap<String, SopClass>);

impl SopClasses {
    /// Resolves the `P`, `X` and `T-` notations. The error names the entry.
    pub(super) fn resolve(
        lists: &BTreeMap<String, Vec<String>>,
        families: &[FamilyFile],
        extra: &[ExtraClassFile],
        accept_retired: bool,
    ) -> Result<Self, String> {
        let mut classes = BTreeMap::new();
        for family in families {
            let base = SopClass {
                family: family.name.clone(),
                transfer_syntaxes: expand(&family.transfer_syntaxes, lists, 0)?,
                registrable: family.registrable,
                pixels: family.pixels,
            };
            let retired = if accept_retired { family.retired.as_slice() } else { &[] };
            for class in family.classes.iter().chain(retired) {
                classes.insert(class_uid(class), base.clone());
            }
            for exception in &family.exceptions {
                for class in &exception.classes {
                    let uid = class_uid(class);
                    let entry =
                        classes.get_mut(&uid).ok_or_else(|| format!("{class} is an exception, but not a class, of {}", family.name))?;
                    if let Some(syntaxes) = &exception.transfer_syntaxes {
                        entry.transfer_syntaxes = expand(syntaxes, lists, 0)?;
                    }
                    entry.registrable = exception.registrable.unwrap_or(entry.registrable);
                    entry.pixels = exception.pixels.unwrap_or(entry.pixels);
                }
            }
        }
        for class in extra {
            let family = families.iter().find(|family| family.name == class.family);
            let family = family.ok_or_else(|| format!("extra class {}: there is no family {}", class.uid, class.family))?;
            let entry = SopClass {
                family: family.name.clone(),
                transfer_syntaxes: expand(class.transfer_syntaxes.as_ref().unwrap_or(&family.transfer_syntaxes), lists, 0)?,
                registrable: class.registrable.unwrap_or(family.registrable),
                pixels: family.pixels,
            };
            classes.insert(class_uid(&class.uid), entry);
        }
        Ok(Self(classes))
    }

    /// Transfer syntaxes accepted for an abstract syntax; `None`: the class is not accepted (D008, D833).
    pub fn accepted(&self, abstract_syntax: &str) -> Option<&[String]> {
        self.0.get(abstract_syntax).map(|class| class.transfer_syntaxes.as_slice())
    }

    /// An accepted class.
    pub fn class(&self, uid: &str) -> Option<&SopClass> {
        self.0.get(uid)
    }

    /// A transfer syntax is on some list.
    pub fn lists_transfer_syntax(&self, uid: &str) -> bool {
        self.0.values().any(|class| class.transfer_syntaxes.iter().any(|syntax| syntax == uid))
    }

    /// All accepted classes, by UID.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SopClass)> {
        self.0.iter().map(|(uid, class)| (uid.as_str(), class))
    }
}

/// `P1.2` or a full UID.
pub(super) fn class_uid(notation: &str) -> String {
    notation.strip_prefix('P').map_or_else(|| notation.to_owned(), |rest| format!("{P}{rest}"))
}

/// `notation` (`P1.2` or a full UID) is `uid`.
pub(super) fn is_class(notation: &str, uid: &str) -> bool {
    match notation.strip_prefix('P') {
        Some(rest) => uid.strip_prefix(P) == Some(rest),
        None => notation == uid,
    }
}

/// Names of lists, `X4.50`, and full UIDs. A list may name lists, to a depth of 4.
fn expand(entries: &[String], lists: &BTreeMap<String, Vec<String>>, depth: usize) -> Result<Vec<String>, String> {
    let mut out: Vec<String> = Vec::new();
    for entry in entries {
        let found = match (lists.get(entry), entry.strip_prefix('X')) {
            (Some(_), _) if depth >= 4 => return Err(format!("transfer syntax list {entry} is nested deeper than 4")),
            (Some(list), _) => expand(list, lists, depth + 1)?,
            (None, Some(rest)) => vec![format!("{X}{rest}")],
            (None, None) if entry.starts_with(|c: char| c.is_ascii_digit()) => vec![entry.clone()],
            (None, None) => return Err(format!("there is no transfer syntax list {entry}")),
        };
        out.extend(found);
    }
    let mut seen = std::collections::BTreeSet::new();
    out.retain(|uid| seen.insert(uid.clone()));
    Ok(out)
}
