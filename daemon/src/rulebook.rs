//! `rules list`, `rules show` and `rules preview`: what the rules are, and what others would do to the objects held here.
//!
//! The commands read configuration, rule sets and object files, and write nothing: they work beside a running appliance and
//! without one. `--record` has the appliance note a preview ([`rule_updates`]).
//!
//! # Bounds
//! A preview holds one object's walk (profile 01 D821 to D825) and one count per inbound row and rule.
//!
//! # Standard
//! Profile 01 §1.4, §1.5, §5, §11. What was refused is not here any more, so that a preview counts what was accepted.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use idr_host::files;
use idr_profile::rules::{Disposition, Level, Row, Rule, RuleSet, RuleSets, Rules, Stage, Verdict, row, rows};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::config::Config;
use crate::control::{self, Request};
use crate::forward;
use crate::rejudge;
use crate::rule_updates;
use crate::spool::{SpoolId, object_file};

/// They hold their study until the controller map is completed (§6.4); the tables of §5 have no column that says so.
const HOLDING: [&str; 2] = ["D437", "D438"];
/// Objects between two lines of progress.
const OBJECTS_PER_LINE: u64 = 1000;

/// Commands about rules.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// All rules of the profile: level now and by date, stage, what a failure leads to, built or not.
    List {
        /// Rule set; else the one in force today.
        #[arg(long)]
        rule_set: Option<String>,
        /// With the settings of this calling AE title.
        #[arg(long)]
        ae: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// One rule in words.
    Show {
        /// Rule id: `D303`.
        rule: String,
        /// Rule set; else the one in force today.
        #[arg(long)]
        rule_set: Option<String>,
        /// With the settings of this calling AE title.
        #[arg(long)]
        ae: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// What other rules or levels would do to the objects held here; nothing is changed.
    Preview {
        /// Rule set by name, or a `dicom.toml` to come; else the one in force today.
        #[arg(long)]
        rule_set: Option<String>,
        /// Another level for one rule: `D403=REJECT`. May be repeated.
        #[arg(long)]
        level: Vec<LevelChange>,
        /// Levels of this day, `2026-09-01`; else today's.
        #[arg(long)]
        at: Option<Date>,
        /// Only objects received since: `30d`, `12h` or `2026-01-01`.
        #[arg(long)]
        since: Option<Since>,
        /// Put on record, with this reason, that what the rule set refuses has been seen: its rules are then raised to REJECT. One line
        /// without patient data; the appliance must run. Without `--at` the levels are those of the last day on which one is raised.
        #[arg(long, value_name = "REASON", requires = "rule_set", conflicts_with_all = ["level", "since"])]
        record: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// `D403=REJECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelChange(String, Level);

impl FromStr for LevelChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rule, level) = text.split_once('=').ok_or("write RULE=LEVEL, for example D403=REJECT")?;
        let level = Level::parse(level).ok_or_else(|| format!("level '{level}' is none of OFF, LOG, WARN, REJECT, REJECT*"))?;
        Ok(Self(rule.to_owned(), level))
    }
}

/// A duration before now, or the beginning of a day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(SignedDuration),
    /// From that day on.
    Day(Date),
}

impl Since {
    /// From then on.
    pub fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            Self::Day(day) => TimeZone::UTC.to_timestamp(day.to_datetime(jiff::civil::Time::midnight())).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hours = |number: &str, hours: i64| number.parse::<u32>().ok().map(|n| SignedDuration::from_hours(i64::from(n) * hours));
        let ago = match (text.strip_suffix('d'), text.strip_suffix('h')) {
            (Some(days), _) => hours(days, 24),
            (_, Some(number)) => hours(number, 1),
            _ => None,
        };
        let day = || text.parse().ok().map(Self::Day);
        ago.map(Self::Ago).or_else(day).ok_or_else(|| format!("'{text}' is none of 30d, 12h, 2026-01-01"))
    }
}

/// Does a command.
///
/// # Errors
/// File, key and rule of the first problem of the configuration; a rule or rule set that is not there.
pub fn execute(config: &Config, command: RulesCommand) -> anyhow::Result<ExitCode> {
    let now = idr_host::now();
    let today = TimeZone::UTC.to_datetime(now).date();
    match command {
        RulesCommand::List { rule_set, ae, json } => {
            let (set, raised) = standing(config, rule_set.as_deref(), now)?;
            let mut answer = list(&set, set.rules_for(ae.as_deref()), today);
            answer["raised"] = json!(raised);
            print(&answer, json, list_lines);
        }
        RulesCommand::Show { rule, rule_set, ae, json } => {
            let (set, _) = standing(config, rule_set.as_deref(), now)?;
            let answer = show(&rule, set.rules_for(ae.as_deref()), config, today)?;
            print(&answer, json, show_lines);
        }
        RulesCommand::Preview { rule_set, level, at, since, record, json } => {
            let is_file = rule_set.as_deref().is_some_and(is_file);
            anyhow::ensure!(record.is_none() || !is_file, "--record is about a rule set that is installed: give its name");
            // What is judged is what the record is about, so that its edition is read first: another one has another number.
            let edition = rule_set.as_deref().filter(|_| record.is_some()).map(|name| rule_updates::edition(config, name)).transpose()?;
            let set = chosen(config, rule_set.as_deref(), now)?;
            let changed = level.into_iter().map(|LevelChange(rule, level)| (rule, level)).collect();
            let raised = rule_updates::load(config, now)?.raised;
            let last = raised.iter().filter(|raised| record.is_some() && raised.set == set.id).map(|raised| raised.from).max();
            let day = at.or(last).unwrap_or(today);
            let preview = Preview { config, set, day, changed, since: since.map(|since| since.instant(now)) };
            let mut answer = preview.run()?;
            if let (Some(reason), Some(edition)) = (record, edition) {
                answer["reload"] = put_on_record(config, &preview, &answer, edition, reason)?;
            }
            print(&answer, json, preview_lines);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(answer: &Value, json: bool, lines: impl Fn(&Value) -> Vec<String>) {
    if json {
        println!("{answer}");
    } else {
        lines(answer).iter().for_each(|line| println!("{line}"));
    }
}

/// Has the appliance put a preview on record, and take the rules.
fn put_on_record(config: &Config, preview: &Preview<'_>, answer: &Value, edition: String, reason: String) -> anyhow::Result<Value> {
    let sum = |key: &str| answer["inbound"].as_array().into_iter().flatten().filter_map(|row| row[key].as_u64()).sum();
    let (rule_set, objects) = (preview.set.id.clone(), answer["objects"].as_u64().unwrap_or_default());
    let (refused, quarantined) = (sum("refused"), sum("quarantined"));
    control::ask(config, &Request::RulesPreviewed { rule_set, edition, reason, objects, refused, quarantined })
}

/// The rule set of a name as it stands here, without one the set in force; and what it would raise.
fn standing(config: &Config, name: Option<&str>, now: Timestamp) -> anyhow::Result<(Arc<RuleSet>, Vec<String>)> {
    let loaded = rule_updates::load(config, now)?;
    let set = match name {
        Some(name) => loaded.sets.set(name).cloned(),
        None => loaded.sets.in_force(&config.site.rule_sets, now).cloned(),
    };
    let Some(set) = set else { return Ok((chosen(config, name, now)?, Vec::new())) };
    let raised = loaded.raised.iter().filter(|raised| raised.set == set.id).map(rule_updates::line).collect();
    Ok((set, raised))
}

fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml")
}

/// The rule set of a name or file, with the site's settings; without one the set in force.
fn chosen(config: &Config, name: Option<&str>, now: Timestamp) -> anyhow::Result<Arc<RuleSet>> {
    let mut texts = files::rule_texts(&config.files.rules)?;
    let mut name = name.map(str::to_owned);
    if let Some(path) = name.as_deref().filter(|name| is_file(name)) {
        let text = files::read_text(Path::new(path))?;
        let table: toml::Table = text.parse().with_context(|| path.to_owned())?;
        let id = table.get("rule_set").and_then(|head| head.get("id")).and_then(toml::Value::as_str);
        let id = id.with_context(|| format!("{path}: rule_set.id is missing"))?.to_owned();
        texts.insert(format!("{id}/dicom.toml"), text);
        name = Some(id);
    }
    let sets = RuleSets::load(&texts, files::read_text_if_there(&config.files.site_rules)?.as_deref(), config.environment)?;
    let set = match &name {
        Some(name) => sets.set(name).with_context(|| format!("there is no rule set '{name}' in {}", config.files.rules.display()))?,
        None => {
            sets.in_force(&config.site.rule_sets, now).context("no set of site.rule_sets is in force today; name one with --rule-set")?
        }
    };
    Ok(set.clone())
}

/// What a REJECT finding leads to (profile 01 §1.2, §6.4).
fn disposition(row: &Row) -> &'static str {
    match row.stage {
        Stage::T if HOLDING.contains(&row.id) => "hold",
        Stage::A | Stage::S | Stage::I => "refuse",
        Stage::T => "quarantine",
        Stage::R => "hold",
    }
}

/// A row of the profile with what the rule set makes of it.
fn described(row: &Row, rule: Option<&Rule>, rules: &Rules, today: Date) -> Value {
    let level = rule.map_or_else(|| row.level.to_owned(), |rule| rule.levels.at(today, rules.environment).to_string());
    let steps: Vec<Value> = rule
        .into_iter()
        .flat_map(|rule| rule.levels.steps(rules.environment))
        .map(|(from, level)| json!({"from": from.map(|from| from.to_string()), "level": level}))
        .collect();
    json!({
        "id": row.id, "name": row.name, "scope": row.scope, "stage": row.stage, "level": level, "steps": steps,
        "disposition": disposition(row), "built": rule.is_some(),
    })
}

fn list(set: &RuleSet, rules: &Rules, today: Date) -> Value {
    let listed: Vec<Value> = rows().iter().map(|row| described(row, rules.rule(row.id), rules, today)).collect();
    json!({"rule_set": rules.rule_set, "date": today.to_string(), "problems": set.problems, "rules": listed})
}

fn show(id: &str, rules: &Rules, config: &Config, today: Date) -> anyhow::Result<Value> {
    let row = row(id).with_context(|| format!("'{id}' is no rule of the profile; `idr-site rules list` names them all"))?;
    let rule = rules.rule(id);
    let mut answer = described(row, rule, rules, today);
    let parameters: serde_json::Map<String, Value> =
        rules.parameters_named(row.fails_when).map(|(key, value)| (key.to_owned(), json!(value))).collect();
    // §1.3: for these devices what an unlocked rule of stage I refuses is held.
    let softened = row.stage == Stage::I && rule.is_none_or(|rule| !rule.levels.is_locked());
    let quarantines: Vec<&str> =
        config.inbound.iter().filter(|inbound| softened && inbound.refuse_to_quarantine).map(|inbound| inbound.name.as_str()).collect();
    let more = json!({
        "rule_set": rules.rule_set, "fails_when": row.fails_when, "parameters": parameters, "quarantined_for": quarantines,
        "status": row.status, "offending_element": row.tags, "error_comment": row.comment, "stow": rule.and_then(Rule::stow),
        "remedy": row.remedy, "source": row.source,
    });
    if let (Some(answer), Value::Object(more)) = (answer.as_object_mut(), more) {
        answer.extend(more);
    }
    Ok(answer)
}

fn list_lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![format!("rule set {}, levels of {}", text(&answer["rule_set"]), text(&answer["date"]))];
    lines.extend(answer["problems"].as_array().into_iter().flatten().map(|problem| text(problem).to_owned()));
    lines.push(format!("{:<5} {:<30} {:<11} {:<5} {:<8} {:<10} later", "rule", "name", "scope", "stage", "level", "if REJECT"));
    for rule in answer["rules"].as_array().into_iter().flatten() {
        let built = if rule["built"] == true { String::new() } else { " not built".to_owned() };
        let line = format!(
            "{:<5} {:<30} {:<11} {:<5} {:<8} {:<10}{}{built}",
            text(&rule["id"]),
            text(&rule["name"]),
            text(&rule["scope"]),
            text(&rule["stage"]),
            text(&rule["level"]),
            text(&rule["disposition"]),
            later(rule, text(&answer["date"]))
        );
        lines.push(line.trim_end().to_owned());
    }
    lines.extend(answer["raised"].as_array().into_iter().flatten().map(|raised| text(raised).to_owned()));
    lines
}

/// Steps that have not begun; dates compare as text.
fn later(rule: &Value, today: &str) -> String {
    let steps = rule["steps"].as_array().into_iter().flatten().filter(|step| text(&step["from"]) > today);
    steps.map(|step| format!(" {} from {}", text(&step["level"]), text(&step["from"]))).collect()
}

fn show_lines(rule: &Value) -> Vec<String> {
    let built = if rule["built"] == true { "" } else { "; not built: no rule set has a check for it" };
    let mut lines = vec![
        format!("{} {} ({}, stage {}{built})", text(&rule["id"]), text(&rule["name"]), text(&rule["scope"]), text(&rule["stage"])),
        format!("fails when    {}", text(&rule["fails_when"])),
    ];
    let parameters = rule["parameters"].as_object().into_iter().flatten();
    lines.extend(parameters.map(|(key, value)| format!("parameter     {key} = {value}")));
    lines.push(format!("level         {} in rule set {}", text(&rule["level"]), text(&rule["rule_set"])));
    let steps = rule["steps"].as_array().into_iter().flatten().filter(|step| step["from"].is_string());
    lines.extend(steps.map(|step| format!("              {} from {}", text(&step["level"]), text(&step["from"]))));
    lines.push(format!("if REJECT     {}", text(&rule["disposition"])));
    let quarantined = rule["quarantined_for"].as_array().into_iter().flatten();
    lines.extend(quarantined.map(|inbound| format!("              quarantine for inbound row {}", text(inbound))));
    lines.push(format!("answer        {}; (0000,0901) {}", text(&rule["status"]), text(&rule["offending_element"])));
    lines.extend(rule["stow"].as_u64().map(|stow| format!("              STOW-RS Failure Reason {stow}")));
    lines.push(format!("              \"{}\"", text(&rule["error_comment"])));
    lines.push(format!("what to do    {}", text(&rule["remedy"])));
    lines.push(format!("source        {}", text(&rule["source"])));
    lines
}

/// A look at everything that is held.
struct Preview<'a> {
    config: &'a Config,
    set: Arc<RuleSet>,
    day: Date,
    changed: BTreeMap<String, Level>,
    since: Option<Timestamp>,
}

/// What would become of objects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    refused: u64,
    quarantined: u64,
}

impl Counts {
    fn add(&mut self, disposition: &Disposition) {
        match disposition {
            Disposition::Accept => {}
            Disposition::Refuse(_) => self.refused += 1,
            Disposition::Quarantine => self.quarantined += 1,
        }
    }
}

/// Of one inbound row.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfInbound {
    objects: u64,
    all: Counts,
    by_rule: BTreeMap<String, Counts>,
}

impl OfInbound {
    fn add(&mut self, verdict: &Verdict) {
        self.objects += 1;
        self.all.add(&verdict.disposition);
        for finding in verdict.findings.iter().filter(|finding| finding.level.rejects()) {
            self.by_rule.entry(finding.rule.clone()).or_default().add(&verdict.disposition);
        }
    }
}

impl Preview<'_> {
    fn run(&self) -> anyhow::Result<Value> {
        let organisation_oids = forward::load_maps(self.config)?.organisation_oids();
        let mut by_ae: BTreeMap<String, Rules> = BTreeMap::new();
        let mut by_inbound: BTreeMap<String, OfInbound> = BTreeMap::new();
        let (mut objects, mut bytes, mut unreadable) = (0_u64, 0_u64, 0_u64);
        let objects_folder = self.config.storage.path.join("objects");
        // Also without an object to judge, what cannot be previewed is said.
        self.set.rules_for(None).on(self.day, &self.changed)?;
        walk(&objects_folder, &mut |path, id| {
            let object = match rejudge::open(path, id) {
                Ok(Some(object)) => object,
                Ok(None) => return Ok(()),
                Err(error) => {
                    unreadable += 1;
                    eprintln!("{}: {error:#}", path.display());
                    return Ok(());
                }
            };
            let (sealed, data) = object;
            let record = &sealed.record;
            if self.since.is_some_and(|since| record.facts.received < since) {
                return Ok(());
            }
            let calling_ae = &record.announced.calling_ae;
            if !by_ae.contains_key(calling_ae) {
                by_ae.insert(calling_ae.clone(), self.set.rules_for(Some(calling_ae)).on(self.day, &self.changed)?);
            }
            let rules = &by_ae[calling_ae];
            let mut scanner = rejudge::scanner(record, rules);
            if let Err(error) = rejudge::feed(data, record.size_bytes, &mut |part| scanner.feed(part)) {
                unreadable += 1;
                eprintln!("{}: {error}", path.display());
                return Ok(());
            }
            let verdict = rejudge::verdict(&scanner.finish(), record, rules, self.config, &organisation_oids);
            by_inbound.entry(record.announced.inbound.clone()).or_default().add(&verdict);
            (objects, bytes) = (objects + 1, bytes + record.size_bytes);
            if objects.is_multiple_of(OBJECTS_PER_LINE) {
                eprintln!("{objects} objects, {bytes} bytes judged");
            }
            Ok(())
        })
        .with_context(|| format!("{}: objects cannot be listed", objects_folder.display()))?;
        let rules = self.set.rules_for(None);
        Ok(json!({
            "rule_set": rules.rule_set, "date": self.day.to_string(), "since": self.since, "objects": objects, "bytes": bytes,
            "unreadable": unreadable, "levels": self.changed,
            "inbound": by_inbound.iter().map(|(name, of)| inbound_answer(name, of, rules)).collect::<Vec<Value>>(),
        }))
    }
}

fn inbound_answer(name: &str, of: &OfInbound, rules: &Rules) -> Value {
    let by_rule = of.by_rule.iter().map(|(id, counts)| {
        let rule = rules.rule(id);
        json!({
            "rule": id, "refused": counts.refused, "quarantined": counts.quarantined,
            "comment": rule.map(|rule| &rule.comment), "remedy": rule.map(|rule| &rule.remedy),
        })
    });
    json!({
        "name": name, "objects": of.objects, "refused": of.all.refused, "quarantined": of.all.quarantined,
        "rules": by_rule.collect::<Vec<Value>>(),
    })
}

fn preview_lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "rule set {}, levels of {}: {} objects judged, {} unreadable; nothing was changed",
        text(&answer["rule_set"]),
        text(&answer["date"]),
        answer["objects"],
        answer["unreadable"]
    )];
    if answer["reload"].is_object() {
        lines.push("this is on record, and the rules were read again".to_owned());
    }
    let line = |name: &str, rule: &str, counts: &Value, rest: &str| {
        let (refused, quarantined) = (counts["refused"].to_string(), counts["quarantined"].to_string());
        format!("{name:<20} {rule:<5} {refused:>10} {quarantined:>12}  {rest}")
    };
    lines.push(format!("{:<20} {:<5} {:>10} {:>12}", "inbound row", "rule", "refused", "quarantined"));
    for inbound in answer["inbound"].as_array().into_iter().flatten() {
        let name = text(&inbound["name"]);
        lines.push(line(name, "all", inbound, &format!("of {} objects", inbound["objects"])));
        let rules = inbound["rules"].as_array().into_iter().flatten();
        lines.extend(rules.map(|rule| line(name, text(&rule["rule"]), rule, text(&rule["comment"]))));
    }
    lines
}

/// Calls `each` for every object file: `<tenant>/<hh>/<id>.dcm`. Names that are not ours are passed over.
fn walk(objects: &Path, each: &mut dyn FnMut(&Path, SpoolId) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for tenant in folder(objects)? {
        for part in folder(&tenant?.path())? {
            for file in folder(&part?.path())? {
                let path = file?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                if let Some(id) = name.and_then(object_file::id_of) {
                    each(&path, id)?;
                }
            }
        }
    }
    Ok(())
}

/// Entries of a folder; none if there is no such folder, or it is a file.
fn folder(path: &Path) -> std::io::Result<Box<dyn Iterator<Item = std::io::Result<std::fs::DirEntry>>>> {
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(Box::new(entries)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Box::new(std::iter::empty())),
        Err(error) => Err(error),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use idr_profile::identifier::Environment;
    use jiff::civil::date;

    const TODAY: Date = date(2026, 1, 15);

    fn set() -> Arc<RuleSet> {
        RuleSets::shipped(Environment::Production).set("fi-2.4.1").expect("shipped").clone()
    }

    fn config(inbound: &str) -> Config {
        let text = format!(
            "environment = \"test\"\n[site]\nid = \"site-1\"\norganisation = \"1.2.246.10.12345671\"\norganisation_name = \"o\"\n\
             source_oid = \"1.2.246.10.12345671.1\"\nrule_sets = [\"fi-2.4.1\"]\n[dimse]\nlocal_ae_titles = [\"IDRSITE\"]\n[storage]\npath = \"state\"\n{inbound}"
        );
        Config::parse(&text, Path::new("idr-site.toml")).expect("a usual configuration")
    }

    #[test]
    fn all_rows_of_the_profile_are_listed_built_or_not() {
        let set = set();
        let answer = list(&set, set.rules_for(None), TODAY);
        let rules = answer["rules"].as_array().expect("a list");
        assert_eq!(rules.len(), 223);
        assert_eq!(rules.iter().filter(|rule| rule["built"] == false).count(), set.not_built.len());
        let find = |id: &str| rules.iter().find(|rule| rule["id"] == id).expect("listed");
        for (id, level, stage, disposition) in [
            ("D001", "REJECT*", "A", "refuse"),
            ("D301", "REJECT", "I", "refuse"),
            ("D714", "REJECT", "T", "quarantine"),
            ("D437", "REJECT", "T", "hold"),
        ] {
            let rule = find(id);
            assert_eq!((&rule["level"], &rule["stage"], &rule["disposition"]), (&json!(level), &json!(stage), &json!(disposition)), "{id}");
        }
        assert_eq!(list_lines(&answer).len(), 2 + 223);
    }

    #[test]
    fn dated_steps_are_shown_with_what_is_still_to_come() {
        let site = "[levels]\nD812 = [{ from = 2026-01-01, level = 'LOG' }, { from = 2026-09-01, level = 'REJECT' }]";
        let sets = RuleSets::load(&idr_profile::rules::shipped_files(), Some(site), Environment::Production).expect("loaded");
        let set = sets.set("fi-2.4.1").expect("shipped");
        let answer = list(set, set.rules_for(None), TODAY);
        let line = list_lines(&answer).into_iter().find(|line| line.starts_with("D812")).expect("listed");
        assert!(line.contains(" LOG ") && line.ends_with("REJECT from 2026-09-01"), "{line}");
    }

    #[test]
    fn a_rule_is_shown_in_words_with_its_answer_remedy_and_parameters() {
        let inbound = "[[inbound]]\nname = \"old\"\nae_title = \"OLD\"\naddresses = [\"127.0.0.1\"]\nrefuse_to_quarantine = true";
        let set = set();
        let lines = |id: &str| show(id, set.rules_for(None), &config(inbound), TODAY).map(|answer| show_lines(&answer).join("\n"));
        let shown = lines("D303").expect("a rule");
        let wanted =
            ["D303 issuer-not-accepted (instance, stage I)", "C303H", "49923", "Map the local issuer", "quarantine for inbound row old"];
        for part in wanted {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let shown = lines("D821").expect("a rule");
        assert!(shown.contains("parameter     instance_bytes_max = 17179869184"), "{shown}");
        assert!(!shown.contains("quarantine for"), "stage S refuses everybody: {shown}");
        let shown = lines("D737").expect("a row");
        assert!(shown.contains("not built: no rule set has a check for it"), "{shown}");
        assert!(lines("D999").expect_err("no row").to_string().contains("rules list"));
    }

    #[test]
    fn words_of_the_command_line_are_read_or_refused_with_an_example() {
        let now = "2026-01-31T12:00:00Z".parse::<Timestamp>().expect("an instant");
        for (text, instant) in [("30d", "2026-01-01T12:00:00Z"), ("12h", "2026-01-31T00:00:00Z"), ("2026-01-15", "2026-01-15T00:00:00Z")] {
            assert_eq!(text.parse::<Since>().map(|since| since.instant(now).to_string()), Ok(instant.to_owned()), "{text}");
        }
        for text in ["", "d", "-3d", "30", "yesterday", "99999999999d"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
        assert_eq!("D403=REJECT".parse(), Ok(LevelChange("D403".to_owned(), Level::Reject)));
        for text in ["D403", "D403=reject", "D403="] {
            assert!(text.parse::<LevelChange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_preview_cannot_lower_a_locked_rule_or_name_one_without_a_check() {
        let rules = set();
        for (rule, level, why) in
            [("D101", Level::Warn, "REJECT*"), ("D737", Level::Reject, "no such rule"), ("D999", Level::Off, "no such rule")]
        {
            let changed = BTreeMap::from([(rule.to_owned(), level)]);
            let error = rules.rules_for(None).on(TODAY, &changed).expect_err("refused").to_string();
            assert!(error.contains(rule) && error.contains(why), "{error}");
        }
        let changed = BTreeMap::from([("D315".to_owned(), Level::Reject)]);
        let previewed = rules.rules_for(None).on(TODAY, &changed).expect("allowed");
        let level = |rules: &Rules, id: &str| rules.rule(id).map(|rule| rule.levels.at(TODAY, Environment::Production));
        assert_eq!(level(&previewed, "D315"), Some(Level::Reject));
        assert_eq!(level(&previewed, "D301"), level(rules.rules_for(None), "D301"));
    }
}
