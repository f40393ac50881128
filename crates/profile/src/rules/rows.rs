//! The rows of the profile as it states them (profile 01 §5): also those that have no check yet.
//!
//! A rule set holds what is evaluated; this holds the sentence "fails when" and what a row without a check would do.

use super::reply::{Scope, Stage};
use std::sync::LazyLock;

/// One row of §5, in the columns of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the profile's tables")]
pub struct Row {
    pub id: &'static str,
    pub name: &'static str,
    pub scope: Scope,
    pub stage: Stage,
    /// On day 0, as [`super::Levels`] writes it.
    pub level: &'static str,
    pub fails_when: &'static str,
    pub status: &'static str,
    pub tags: &'static str,
    pub comment: &'static str,
    pub remedy: &'static str,
    pub source: &'static str,
}

/// All rows, by id.
pub fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
        let table = include_str!("../../../../configs/rules/base/dicom-rows.tsv");
        table.lines().skip(1).map(|line| read(line).expect("every row is read by a test")).collect()
    });
    &ROWS
}

/// One row.
pub fn row(id: &str) -> Option<&'static Row> {
    rows().iter().find(|row| row.id == id)
}

fn read(line: &'static str) -> Option<Row> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [id, name, place, level, fails_when, status, tags, comment, remedy, source] = columns.try_into().ok()?;
    let (scope, stage) = place.split_once('·')?;
    Some(Row {
        id,
        name,
        scope: serde_json::from_value(scope.into()).ok()?,
        stage: serde_json::from_value(stage.into()).ok()?,
        level,
        fails_when,
        status,
        tags,
        comment,
        remedy,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::Environment;
    use crate::rules::RuleSets;

    #[test]
    fn the_rows_are_those_of_the_profiles_tables() {
        let mut theirs = Vec::new();
        for group in 0..10 {
            let Some(table) = crate::testing::profile_table(&format!("01_D{group}_1.tsv")) else { return };
            theirs.extend(table.lines().skip(1).map(|line| {
                let columns: Vec<&str> = line.split('\t').collect();
                [&columns[..8], &columns[11..]].concat().join("\t")
            }));
        }
        let ours: Vec<&str> = include_str!("../../../../configs/rules/base/dicom-rows.tsv").lines().skip(1).collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn every_rule_built_or_not_has_its_row() {
        let sets = RuleSets::shipped(Environment::Test);
        for set in sets.iter() {
            let ids = set.rules_for(None).iter().map(|rule| rule.id.as_str()).chain(set.not_built.iter().map(String::as_str));
            let mut ids: Vec<&str> = ids.collect();
            ids.sort_unstable();
            assert_eq!(ids, rows().iter().map(|row| row.id).collect::<Vec<_>>(), "{}", set.id);
        }
        assert_eq!(row("D437").map(|row| (row.stage, row.level)), Some((Stage::T, "REJECT")));
    }
}
