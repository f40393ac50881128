//! Attributes of the mandatory modules of each SOP class (PS3.3 Annexes A and C; D904–D906).
//!
//! `iods.tsv` of a rule set: one line per IOD with its SOP classes and mandatory modules (usage M). `modules.tsv`: one line per
//! attribute of Type 1 or 2, of those with Enumerated Values, and of sequences whose items have such; tables `item:…` are those of
//! items. Conditional attributes and modules, functional groups and content items depend on more than a table says and stand in
//! neither.

use super::classes::class_uid;
use super::tag_text;
use crate::scan::{DataSet, Element};
use dicom_core::Tag;
use std::collections::{BTreeMap, BTreeSet};

/// File of the attributes, in the folder of a rule set.
pub(super) const MODULES_FILE: &str = "modules.tsv";
/// File of the IODs.
pub(super) const IODS_FILE: &str = "iods.tsv";

/// What can be wrong with an attribute of a mandatory module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModuleFault {
    /// Type 1, and absent or empty (PS3.5 §7.4.1).
    Type1,
    /// Type 2, and absent (PS3.5 §7.4.3).
    Type2,
    /// A value is none of the Enumerated Values.
    Enumerated,
}

/// Mandatory modules by SOP class.
#[derive(Debug, Clone, Default)]
pub struct Iods {
    tables: Vec<Table>,
    modules: BTreeMap<String, Vec<usize>>,
}

type Table = Vec<Attribute>;

#[derive(Debug, Clone)]
struct Attribute {
    tag: Tag,
    presence: Presence,
    /// One list per value; the last is also that of the values after it. An empty list allows anything.
    enumerated: Vec<Vec<String>>,
    /// Table of its items.
    items: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Type1,
    Type2,
    Other,
}

impl Iods {
    /// Reads both files. The error names file, line and column.
    pub(super) fn read(modules: &str, iods: &str) -> Result<Self, String> {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let lines = || rows::<5>(MODULES_FILE, modules);
        for row in lines() {
            let (_, [table, ..]) = row?;
            let next = names.len();
            names.entry(table).or_insert(next);
        }
        let mut tables: Vec<Table> = vec![Table::new(); names.len()];
        for row in lines() {
            let (number, [table, tag, presence, enumerated, items]) = row?;
            let problem = |what: &str| format!("{MODULES_FILE}: line {number}: {what}");
            let presence = match presence {
                "1" => Presence::Type1,
                "2" => Presence::Type2,
                "-" => Presence::Other,
                _ => return Err(problem("type is none of 1, 2, -")),
            };
            let items = match items {
                "" => None,
                name => Some(*names.get(name).ok_or_else(|| problem("items names no table"))?),
            };
            let tag = tag_text::parse(tag).ok_or_else(|| problem("attribute is no tag like (0010,0020)"))?;
            let table = &mut tables[names[table]];
            if table.iter().any(|other| other.tag == tag) {
                return Err(problem("attribute occurs twice in its table"));
            }
            table.push(Attribute { tag, presence, enumerated: alternatives(enumerated), items });
        }
        let mut by_class = BTreeMap::new();
        for row in rows::<3>(IODS_FILE, iods) {
            let (number, [_, classes, mandatory]) = row?;
            let found = mandatory.split(' ').map(|name| names.get(name).copied().ok_or(name)).collect::<Result<Vec<usize>, _>>();
            let found = found.map_err(|name| format!("{IODS_FILE}: line {number}: there is no module {name}"))?;
            by_class.extend(classes.split(' ').map(|class| (class_uid(class), found.clone())));
        }
        Ok(Self { tables, modules: by_class })
    }

    /// Attributes with the fault, of all modules that are mandatory for the class; none if the class is not known.
    pub(super) fn faults(&self, class: &str, data_set: DataSet<'_>, fault: ModuleFault) -> BTreeSet<Tag> {
        let mut found = BTreeSet::new();
        let modules = self.modules.get(class).map_or(&[][..], Vec::as_slice);
        let level = Level::of(data_set);
        for module in modules {
            self.walk(*module, &level, fault, &mut found);
        }
        found
    }

    /// As deep as the data set is; its walk bounds that.
    fn walk(&self, table: usize, level: &Level<'_>, fault: ModuleFault, found: &mut BTreeSet<Tag>) {
        for attribute in &self.tables[table] {
            let element = level.element(attribute.tag);
            let fails = match fault {
                ModuleFault::Type1 => attribute.presence == Presence::Type1 && element.is_none_or(Element::is_empty),
                ModuleFault::Type2 => attribute.presence == Presence::Type2 && element.is_none(),
                ModuleFault::Enumerated => element.is_some_and(|element| !allows(&attribute.enumerated, element)),
            };
            if fails {
                found.insert(attribute.tag);
            }
            if let (Some(items), Some(element)) = (attribute.items, element) {
                element.items().for_each(|item| self.walk(items, &Level::of(item), fault, found));
            }
        }
    }
}

/// Elements of one level, found by tag without looking at all of them.
struct Level<'a>(Vec<Element<'a>>);

impl<'a> Level<'a> {
    fn of(data_set: DataSet<'a>) -> Self {
        let mut elements: Vec<_> = data_set.elements().collect();
        elements.sort_by_key(|element| element.tag());
        Self(elements)
    }

    fn element(&self, tag: Tag) -> Option<Element<'a>> {
        let at = self.0.partition_point(|element| element.tag() < tag);
        self.0.get(at).copied().filter(|element| element.tag() == tag)
    }
}

fn alternatives(text: &str) -> Vec<Vec<String>> {
    let position = |text: &str| if text == "*" { Vec::new() } else { text.split('|').map(str::to_owned).collect() };
    if text.is_empty() { Vec::new() } else { text.split('\\').map(position).collect() }
}

fn allows(enumerated: &[Vec<String>], element: Element<'_>) -> bool {
    let Some(last) = enumerated.last() else { return true };
    // Of whole numbers the first value; no attribute with Enumerated Values has more.
    let text = element.text().or_else(|| element.integer().map(|number| number.to_string()));
    let Some(text) = text else { return true };
    text.split('\\').enumerate().all(|(at, value)| {
        let (allowed, value) = (enumerated.get(at).unwrap_or(last), value.trim_matches(' '));
        allowed.is_empty() || value.is_empty() || allowed.iter().any(|known| known == value)
    })
}

/// Lines after the heading, with their numbers.
fn rows<'a, const N: usize>(file: &'static str, text: &'a str) -> impl Iterator<Item = Result<(usize, [&'a str; N]), String>> {
    text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()).map(move |(number, line)| {
        let columns: Vec<&str> = line.split('\t').collect();
        let columns = columns.try_into().map_err(|_| format!("{file}: line {}: has other than {N} columns", number + 1))?;
        Ok((number + 1, columns))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::Environment;
    use crate::rules::RuleSets;
    use crate::rules::set::shipped_files;

    #[test]
    fn every_accepted_class_has_its_modules_except_the_retired_ones() {
        let sets = RuleSets::shipped(Environment::Test);
        let rules = sets.set("base").expect("shipped").rules_for(None);
        assert_eq!(sets.set("base").expect("shipped").problems, Vec::<String>::new());
        for (uid, _) in rules.sop_classes().iter() {
            let modules = rules.iods().modules.get(uid).map_or(0, Vec::len);
            assert!(modules >= 4, "{uid} has {modules} mandatory modules: at least patient, study, series and SOP common belong to it");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_turns_its_rules_off_and_is_a_problem_that_names_the_line() {
        let mut files = shipped_files();
        files.insert("base/modules.tsv".to_owned(), "table\tattribute\ttype\tenumerated\titems\nct-image\t(0008,0008)\t7\t\t\n".to_owned());
        let sets = RuleSets::load(&files, None, Environment::Test).expect("the sets stay in force");
        let set = sets.set("fi-2.4.1").expect("there");
        assert_eq!(set.problems, ["rules/base/modules.tsv: line 2: type is none of 1, 2, -"]);
        assert!(set.rules_for(None).iods().modules.is_empty());
    }

    #[test]
    fn alternatives_stand_for_each_value_and_the_last_for_the_rest() {
        let lists = alternatives("A|B\\*");
        assert_eq!(lists, [vec!["A".to_owned(), "B".to_owned()], vec![]]);
        assert_eq!(alternatives(""), Vec::<Vec<String>>::new());
    }
}
