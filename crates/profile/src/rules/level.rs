//! Levels and their dated steps (profile 01 §1).

use crate::identifier::Environment;
use jiff::civil::Date;
use std::fmt;

/// What a finding of a rule does. Ordered: a later one is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Level {
    /// Not evaluated.
    #[serde(rename = "OFF")]
    Off,
    /// Journal and counter.
    #[serde(rename = "LOG")]
    Log,
    /// Also shown to the operator.
    #[serde(rename = "WARN")]
    Warn,
    /// Refused or quarantined.
    #[serde(rename = "REJECT")]
    Reject,
    /// As REJECT, and nothing may lower it.
    #[serde(rename = "REJECT*")]
    RejectLocked,
}

impl Level {
    /// Reads `REJECT*` and the others as rule sets write them.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "OFF" => Self::Off,
            "LOG" => Self::Log,
            "WARN" => Self::Warn,
            "REJECT" => Self::Reject,
            "REJECT*" => Self::RejectLocked,
            _ => return None,
        })
    }

    /// WARN and above.
    pub fn is_shown(self) -> bool {
        self >= Self::Warn
    }

    /// REJECT or REJECT*.
    pub fn rejects(self) -> bool {
        self >= Self::Reject
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "OFF",
            Self::Log => "LOG",
            Self::Warn => "WARN",
            Self::Reject => "REJECT",
            Self::RejectLocked => "REJECT*",
        })
    }
}

/// Levels of one rule over time, oldest step first. In TOML: `"WARN"`, `{ production = "REJECT", test = "OFF" }`, or an
/// array of `{ from = 2026-01-01, level = "LOG" }` (or with `production` and `test` instead of `level`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Levels(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// `None`: from the beginning.
    from: Option<Date>,
    production: Level,
    test: Level,
}

impl Step {
    fn level(self, environment: Environment) -> Level {
        match environment {
            Environment::Production => self.production,
            Environment::Test => self.test,
        }
    }
}

impl Levels {
    /// The level in force on `date` (UTC): the step with the latest `from` ≤ `date`; OFF before the first step.
    pub fn at(&self, date: Date, environment: Environment) -> Level {
        self.0.iter().rev().find(|step| step.from.is_none_or(|from| from <= date)).map_or(Level::Off, |step| step.level(environment))
    }

    /// The same level on every date.
    pub fn always(level: Level) -> Self {
        Self(vec![Step { from: None, production: level, test: level }])
    }

    /// Steps that are the same in both environments, in the order of their dates; without a step OFF.
    pub(super) fn stepped(steps: &[(Option<Date>, Level)]) -> Self {
        let first = steps.is_empty().then_some(Step { from: None, production: Level::Off, test: Level::Off });
        Self(first.into_iter().chain(steps.iter().map(|(from, level)| Step { from: *from, production: *level, test: *level })).collect())
    }

    /// The steps, oldest first; the first may have no date.
    pub fn steps(&self, environment: Environment) -> impl Iterator<Item = (Option<Date>, Level)> {
        self.0.iter().map(move |step| (step.from, step.level(environment)))
    }

    /// A step is REJECT*.
    pub fn is_locked(&self) -> bool {
        self.0.iter().any(|step| step.production == Level::RejectLocked || step.test == Level::RejectLocked)
    }

    /// Every step is REJECT*.
    pub fn is_all_locked(&self) -> bool {
        self.0.iter().all(|step| step.production == Level::RejectLocked && step.test == Level::RejectLocked)
    }

    /// These levels, and those of `base` before the first step of these.
    pub fn over(self, base: &Self) -> Self {
        let first = self.0.first().and_then(|step| step.from);
        let older = base.0.iter().filter(|step| first.is_some_and(|first| step.from.is_none_or(|from| from < first)));
        Self(older.copied().chain(self.0.iter().copied()).collect())
    }

    /// On some date, in some environment, this is above `base`.
    pub fn is_ever_above(&self, base: &Self) -> bool {
        let dates = self.0.iter().chain(&base.0).map(|step| step.from.unwrap_or(Date::MIN));
        dates.into_iter().any(|date| {
            [Environment::Production, Environment::Test]
                .into_iter()
                .any(|environment| self.at(date, environment) > base.at(date, environment))
        })
    }
}

impl fmt::Display for Levels {
    /// The notation of the profile's tables for day 0: `REJECT production, OFF test` where the environment decides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            None => Ok(()),
            Some(step) if step.production == step.test => step.production.fmt(f),
            Some(step) => write!(f, "{} production, {} test", step.production, step.test),
        }
    }
}

impl TryFrom<toml::Value> for Levels {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let mut steps = match value {
            toml::Value::Array(steps) => steps.into_iter().map(|step| read_step(step, true)).collect::<Result<Vec<_>, _>>()?,
            other => vec![read_step(other, false)?],
        };
        if steps.is_empty() {
            return Err("a level needs at least one step".to_owned());
        }
        steps.sort_by_key(|step| step.from);
        Ok(Self(steps))
    }
}

fn read_step(value: toml::Value, dated: bool) -> Result<Step, String> {
    let level = |value: &toml::Value| {
        let known = value.as_str().and_then(Level::parse);
        known.ok_or_else(|| format!("level {value} is none of OFF, LOG, WARN, REJECT, REJECT*"))
    };
    let table = match value {
        toml::Value::Table(table) => table,
        other if !dated => return level(&other).map(|level| Step { from: None, production: level, test: level }),
        other => return Err(format!("level step {other} is no table with from and level")),
    };
    let mut step = Step { from: None, production: Level::Off, test: Level::Off };
    let mut given = (false, false);
    for (key, value) in &table {
        match key.as_str() {
            "from" => step.from = Some(value.to_string().parse().map_err(|_| format!("from = {value} is no date like 2026-01-01"))?),
            "level" => (step.production, step.test, given) = (level(value)?, level(value)?, (true, true)),
            "production" => (step.production, given.0) = (level(value)?, true),
            "test" => (step.test, given.1) = (level(value)?, true),
            _ => return Err(format!("unknown key {key} in a level")),
        }
    }
    if given != (true, true) || dated != step.from.is_some() {
        return Err("a level step needs level, or production and test; in a list also from".to_owned());
    }
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[derive(serde::Deserialize)]
    struct Holder {
        level: Levels,
    }

    fn levels(text: &str) -> Levels {
        toml::from_str::<Holder>(&format!("level = {text}")).expect("valid").level
    }

    #[test]
    fn the_latest_step_that_has_begun_is_in_force() {
        let steps = levels(
            "[{ from = 2026-03-01, level = 'WARN' }, { from = 2026-01-01, level = 'LOG' }, { from = 2026-09-01, level = 'REJECT' }]",
        );
        let at = |date| steps.at(date, Environment::Production);
        assert_eq!(at(date(2025, 12, 31)), Level::Off);
        assert_eq!(at(date(2026, 1, 1)), Level::Log);
        assert_eq!(at(date(2026, 8, 31)), Level::Warn);
        assert_eq!(at(date(2027, 1, 1)), Level::Reject);
    }

    #[test]
    fn the_environment_can_decide() {
        let levels = levels("{ production = 'REJECT', test = 'OFF' }");
        assert_eq!(levels.at(date(2026, 1, 1), Environment::Production), Level::Reject);
        assert_eq!(levels.at(date(2026, 1, 1), Environment::Test), Level::Off);
        assert_eq!(levels.to_string(), "REJECT production, OFF test");
    }

    #[test]
    fn an_override_keeps_what_was_in_force_before_its_first_step() {
        let merged = levels("[{ from = 2026-01-01, level = 'WARN' }]").over(&levels("'LOG'"));
        assert_eq!(merged.at(date(2025, 1, 1), Environment::Test), Level::Log);
        assert_eq!(merged.at(date(2026, 1, 1), Environment::Test), Level::Warn);
        assert!(merged.is_ever_above(&levels("'LOG'")));
        assert!(!merged.is_ever_above(&levels("'WARN'")));
    }
}
