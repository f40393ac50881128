//! Which levels stand, and which of them an update of a rule set would raise to REJECT.
//!
//! A site keeps the levels that stand. Of a set that comes, a rule that rejects where it did not before keeps its former levels
//! until a preview of that edition of the set is on record. What the site says itself (`site-rules.toml`) is no update of a rule
//! set, and REJECT*, which nothing may lower, is not kept back.
//!
//! # Standard
//! Profile 01 §1.5.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Level, Levels, RuleSets};
use crate::identifier::Environment;

/// Steps of a rule's level in one environment, oldest first.
type Steps = Vec<(Option<Date>, Level)>;

/// Levels that stand, as the sets themselves give them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    environment: Environment,
    /// The set that was in force; a set that was not at hand then is held against it.
    in_force: Option<String>,
    sets: BTreeMap<String, BTreeMap<String, Steps>>,
}

/// Levels that a set keeps from before, by set and rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<String, BTreeMap<String, Levels>>);

impl Kept {
    /// Rules of a set with the levels that they keep.
    pub(super) fn of(&self, set: &str) -> impl Iterator<Item = (&String, &Levels)> {
        self.0.get(set).into_iter().flatten()
    }
}

/// A rule that an update would raise to REJECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Raised {
    /// Rule set: `fi-2.4.1`.
    pub set: String,
    /// What of it was judged: [`super::RuleSet::edition`] without the site's settings.
    pub edition: String,
    /// Rule id: `D403`.
    pub rule: String,
    /// First day of REJECT that was not before; today if it is in force.
    pub from: Date,
    /// Level of that day by what stands.
    pub stays: Level,
}

impl Standing {
    /// Of the sets `names`, which were loaded without the settings of a site.
    pub fn of(plain: &RuleSets, names: &[String], environment: Environment, now: Timestamp) -> Self {
        let levels = |set: &super::RuleSet| {
            set.rules_for(None).iter().map(|rule| (rule.id.clone(), rule.levels.steps(environment).collect())).collect()
        };
        Self {
            environment,
            in_force: plain.in_force(names, now).map(|set| set.id.clone()),
            sets: names.iter().filter_map(|name| Some((name.clone(), levels(plain.set(name)?)))).collect(),
        }
    }

    /// What `plain` (the sets `names` without the settings of a site) would raise from `today` on, but for the editions that were
    /// previewed; and the levels that stay for it. A rule that did not exist counts as OFF. Another environment compares with nothing.
    pub fn raised(
        &self,
        plain: &RuleSets,
        names: &[String],
        (environment, today): (Environment, Date),
        is_previewed: impl Fn(&str) -> bool,
    ) -> (Vec<Raised>, Kept) {
        let (mut raised, mut kept) = (Vec::new(), Kept::default());
        if environment != self.environment {
            return (raised, kept);
        }
        for set in names.iter().filter_map(|name| plain.set(name)).filter(|set| !is_previewed(&set.edition)) {
            let Some(former) = self.sets.get(&set.id).or_else(|| self.sets.get(self.in_force.as_ref()?)) else { continue };
            for rule in set.rules_for(None).iter().filter(|rule| !rule.levels.is_locked()) {
                let steps = former.get(&rule.id).map_or(&[][..], Vec::as_slice);
                let was = Levels::stepped(steps);
                let Some(from) = first_raise(&rule.levels, &was, environment, today) else { continue };
                let (set, edition, rule) = (set.id.clone(), set.edition.clone(), rule.id.clone());
                kept.0.entry(set.clone()).or_default().insert(rule.clone(), was.clone());
                raised.push(Raised { set, edition, rule, from, stays: was.at(from, environment) });
            }
        }
        (raised, kept)
    }
}

/// The first day from `today` on of which `next` rejects and `was` does not.
fn first_raise(next: &Levels, was: &Levels, environment: Environment, today: Date) -> Option<Date> {
    let steps = next.steps(environment).chain(was.steps(environment)).filter_map(|(from, _)| from);
    let days: BTreeSet<Date> = steps.filter(|from| *from > today).chain([today]).collect();
    days.into_iter().find(|day| next.at(*day, environment).rejects() && !was.at(*day, environment).rejects())
}

#[cfg(test)]
mod tests {
    use super::super::shipped_files;
    use super::*;
    use jiff::civil::date;

    const ENVIRONMENT: Environment = Environment::Production;
    const TODAY: Date = date(2026, 6, 1);
    const SET: &str = "fi-2.4.1";

    fn now() -> Timestamp {
        "2026-06-01T10:00:00Z".parse().expect("an instant")
    }

    /// The shipped sets, each with more levels.
    fn files(levels: &str) -> BTreeMap<String, String> {
        let more: toml::Table = levels.parse().expect("levels");
        let mut files = shipped_files();
        for text in files.iter_mut().filter(|(path, _)| path.ends_with("/dicom.toml")).map(|(_, text)| text) {
            let mut table: toml::Table = text.parse().expect("a table");
            let of_set = table.entry("levels").or_insert_with(|| toml::Table::new().into()).as_table_mut().expect("a table");
            of_set.extend(more.clone());
            *text = table.to_string();
        }
        files
    }

    fn plain(levels: &str) -> RuleSets {
        RuleSets::load(&files(levels), None, ENVIRONMENT).expect("valid")
    }

    fn names() -> Vec<String> {
        vec![SET.to_owned()]
    }

    fn level(sets: &RuleSets, rule: &str, day: Date) -> Level {
        sets.set(SET).and_then(|set| set.rules_for(None).rule(rule)).expect("a rule").levels.at(day, ENVIRONMENT)
    }

    #[test]
    fn an_update_raises_nothing_without_a_preview_and_everything_with_one() {
        let standing = Standing::of(&plain("D319 = 'WARN'"), &names(), ENVIRONMENT, now());
        let update = files("D319 = 'REJECT'");
        let updated = RuleSets::load(&update, None, ENVIRONMENT).expect("valid");
        let (raised, kept) = standing.raised(&updated, &names(), (ENVIRONMENT, TODAY), |_| false);
        let [one] = &raised[..] else { panic!("{raised:?}") };
        assert_eq!((one.rule.as_str(), one.from, one.stays), ("D319", TODAY, Level::Warn));
        let held = RuleSets::load_keeping(&update, None, ENVIRONMENT, &kept).expect("valid");
        assert_eq!(level(&held, "D319", TODAY), Level::Warn);
        let edition = &updated.set(SET).expect("there").edition;
        let (raised, kept) = standing.raised(&updated, &names(), (ENVIRONMENT, TODAY), |previewed| previewed == edition);
        assert_eq!((raised, kept), (Vec::new(), Kept::default()));
    }

    #[test]
    fn a_step_to_come_counts_and_one_that_stood_before_does_not() {
        let before = plain("D319 = [{from = 2026-01-01, level = 'WARN'}, {from = 2026-09-01, level = 'REJECT'}]");
        let standing = Standing::of(&before, &names(), ENVIRONMENT, now());
        let raises = |levels: &str, today: Date| {
            let (raised, _) = standing.raised(&plain(levels), &names(), (ENVIRONMENT, today), |_| false);
            raised.into_iter().map(|raised| (raised.rule, raised.from)).collect::<Vec<_>>()
        };
        assert_eq!(raises("D319 = [{from = 2026-01-01, level = 'LOG'}, {from = 2026-09-01, level = 'REJECT'}]", TODAY), []);
        let sooner = "D319 = [{from = 2026-01-01, level = 'WARN'}, {from = 2026-08-01, level = 'REJECT'}]";
        assert_eq!(raises(sooner, TODAY), [("D319".to_owned(), date(2026, 8, 1))]);
        assert_eq!(raises("D319 = 'REJECT'", date(2026, 9, 1)), [], "its day has come by what stood before");
    }

    #[test]
    fn what_the_site_says_itself_stays_over_what_is_kept() {
        let standing = Standing::of(&plain("D319 = 'WARN'"), &names(), ENVIRONMENT, now());
        let update = files("D319 = 'REJECT'");
        let (_, kept) =
            standing.raised(&RuleSets::load(&update, None, ENVIRONMENT).expect("valid"), &names(), (ENVIRONMENT, TODAY), |_| false);
        let sets = RuleSets::load_keeping(&update, Some("levels = { D319 = 'REJECT' }"), ENVIRONMENT, &kept).expect("valid");
        assert_eq!(level(&sets, "D319", TODAY), Level::Reject);
    }

    #[test]
    fn a_national_rule_that_the_set_raises_may_be_raised_by_the_site_too() {
        let standing = Standing::of(&plain("D403 = 'WARN'"), &names(), ENVIRONMENT, now());
        let update = files("D403 = 'REJECT'");
        let updated = RuleSets::load(&update, None, ENVIRONMENT).expect("valid");
        let national = updated.set(SET).and_then(|set| set.rules_for(None).rule("D403")).expect("a rule");
        assert!(national.source.starts_with("national"), "{}", national.source);
        let (_, kept) = standing.raised(&updated, &names(), (ENVIRONMENT, TODAY), |_| false);
        let site = "levels = { D403 = 'REJECT' }\n[[ae]]\ntitle = 'CT01'\nlevels = { D403 = 'REJECT' }";
        let sets = RuleSets::load_keeping(&update, Some(site), ENVIRONMENT, &kept).expect("as strict as the set");
        assert_eq!(level(&sets, "D403", TODAY), Level::Reject);
    }

    #[test]
    fn another_set_is_held_against_the_one_that_was_in_force() {
        let standing = Standing::of(&plain("D319 = 'WARN'"), &names(), ENVIRONMENT, now());
        let mut files = files("D319 = 'WARN'");
        let (own, other) = (format!("{SET}/dicom.toml"), "fi-9/dicom.toml".to_owned());
        let mut table: toml::Table = files[&own].parse().expect("a table");
        table["rule_set"]["id"] = "fi-9".into();
        table["levels"]["D319"] = "REJECT".into();
        files.insert(other, table.to_string());
        let sets = RuleSets::load(&files, None, ENVIRONMENT).expect("valid");
        let (raised, _) = standing.raised(&sets, &["fi-9".to_owned()], (ENVIRONMENT, TODAY), |_| false);
        assert_eq!(raised.iter().map(|one| (one.set.as_str(), one.rule.as_str())).collect::<Vec<_>>(), [("fi-9", "D319")]);
    }

    #[test]
    fn it_is_the_same_when_it_was_written_and_read() {
        let standing = Standing::of(&plain("D319 = 'WARN'"), &names(), ENVIRONMENT, now());
        let text = serde_json::to_string(&standing).expect("JSON");
        assert_eq!(serde_json::from_str::<Standing>(&text).expect("a standing"), standing);
        let other = standing.raised(&plain("D319 = 'REJECT'"), &names(), (Environment::Test, TODAY), |_| false);
        assert_eq!(other, (Vec::new(), Kept::default()), "an environment is compared with itself alone");
    }
}
