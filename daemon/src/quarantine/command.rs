//! `quarantine list|show|release|reject|correct`: what goes over the control socket, and what is shown on the operator's terminal.
//!
//! Where objects are and why is asked of the running appliance. Their elements are read from the object files here, in the
//! operator's own process: no value of a patient goes over the socket or into a log (profile 01 §7.3), but the new values of a correction.
//!
//! # Bounds
//! Elements and differences shown of one object: 5 000 each, a value with at most 120 characters.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use idr_profile::rules::{Finding, RuleSets};
use idr_profile::scan::{DataSet, Element, Scan};
use serde_json::{Value, json};

use super::Cursor;
use super::correction::Asked;
use crate::config::Config;
use crate::control::{Request, ask};
use crate::spool::{Record, SpoolId, Verb, object_file};
use crate::{forward, rejudge, site};

/// Elements that are shown.
const ELEMENTS_MAX: usize = 5000;
/// Characters of a value that are shown.
const VALUE_CHARACTERS_MAX: usize = 120;

/// Which of two copies with other bytes goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Keep {
    /// What came first.
    First,
    /// The object that is named.
    Second,
}

/// Objects of a study that are read to find one that differs.
const COMPARED_MAX: usize = 1000;
/// Elements that say whose an object is and where it belongs.
const PLACING: [&str; 9] =
    ["(0008,0050)", "(0008,0051)", "(0010,0010)", "(0010,0020)", "(0010,0021)", "(0010,0024)", "(0010,0030)", "(0020,000D)", "(0020,000E)"];

/// Commands about quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// What is quarantined, why, and what to do.
    List {
        /// Of this study only.
        #[arg(long)]
        study: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// One object: findings, elements outside bulk data, differences from other copies. Shows patient data.
    Show {
        /// Object, as `list` names it.
        object: SpoolId,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Let objects go on unchanged; R2 says which rules were overridden.
    Release {
        /// Object, or Study Instance UID for all of a study.
        target: String,
        /// Ask all rules in force again instead; what passes goes on, nothing is overridden.
        #[arg(long, conflicts_with = "keep")]
        re_evaluate: bool,
        /// Of two copies with other bytes, this object being the second: which goes on. The other is rejected.
        #[arg(long)]
        keep: Option<Keep>,
        /// Why: up to 200 bytes, no patient data. It stands in the journal with your user.
        #[arg(long)]
        reason: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Never forward objects; their bytes are kept.
    Reject {
        /// Object.
        object: SpoolId,
        /// Why: up to 200 bytes, no patient data. It stands in the journal with your user.
        #[arg(long)]
        reason: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Make new instances with other values, in place of wrong ones; the originals are kept, and those that the centre has are
    /// rejected there.
    Correct(Correct),
}

/// What `quarantine correct` is given.
#[derive(Debug, clap::Args)]
pub struct Correct {
    /// Object, or Study Instance UID. Patient and study attributes are corrected in the whole study.
    target: String,
    /// New value: "(0010,0020)=…", in the item of a sequence "(0010,0024)/(0040,0032)=…"; nothing after = empties it.
    #[arg(long = "set", value_name = "TAG=VALUE")]
    sets: Vec<String>,
    /// 113038 wrong worklist entry (patient or order), 113037 patient safety, 113001 quality.
    #[arg(long)]
    reason: String,
    /// Code of CID 7011, with reason 113001.
    #[arg(long)]
    modifier: Option<String>,
    /// Study Instance UID of the right order.
    #[arg(long)]
    study_uid: Option<String>,
    /// Why: up to 200 bytes, no patient data. It stands in the journal with your user.
    #[arg(long)]
    note: String,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Exit status 1 if a rule rejects a corrected object.
fn correct(config: &Config, given: Correct) -> anyhow::Result<ExitCode> {
    let Correct { target, sets, reason, modifier, study_uid, note, dry_run, json } = given;
    let asked = Asked { target, sets, reason, modifier, study_uid, note };
    let answer = ask(config, &Request::QuarantineCorrect { asked, dry_run })?;
    let refused = answer["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        println!("{answer}");
    } else {
        corrected_lines(&answer).iter().for_each(|line| println!("{line}"));
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn corrected_lines(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for one in answer["refused"].as_array().into_iter().flatten() {
        lines.push(format!("{}  not done: corrected, it would be rejected", text(&one["object"])));
        for rule in one["rules"].as_array().into_iter().flatten() {
            lines.push(format!("    {}\n        what to do: {}", text(&rule["words"]), text(&rule["remedy"])));
        }
    }
    if !lines.is_empty() {
        lines.push("nothing was changed".to_owned());
        return lines;
    }
    let instances = answer["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(instances.iter().map(|one| format!("{} → {}", text(&one["original"]), text(&one["corrected"]))));
    for note in answer["rejection_notes"].as_array().into_iter().flatten() {
        let rejects = note["rejects"].as_array().map_or(0, Vec::len);
        lines.push(format!("rejection note {} names {rejects} instances that the centre has", text(&note["note"])));
    }
    if let Some(waits_for) = answer["waits_for"].as_str() {
        lines.push(format!("goes on by itself; it waits for {waits_for}"));
    }
    let done = if answer["dry_run"] == true { "would be corrected; nothing was changed" } else { "corrected, the originals are kept" };
    lines.push(format!(
        "{} instances of study {} {done}; study {}",
        instances.len(),
        text(&answer["study_uid"]),
        text(&answer["corrected_study_uid"])
    ));
    lines
}

/// Does a command.
///
/// # Errors
/// The appliance does not answer or refuses; there is no such object.
pub fn execute(config: &Config, command: QuarantineCommand) -> anyhow::Result<ExitCode> {
    match command {
        QuarantineCommand::List { study, json } => {
            let objects = list(config, study.as_deref())?;
            if json {
                println!("{}", json!({"objects": objects}));
            } else {
                objects.iter().flat_map(list_lines).for_each(|line| println!("{line}"));
                println!("{} objects are quarantined", objects.len());
            }
        }
        QuarantineCommand::Show { object, json } => {
            let answer = show(config, object)?;
            if json {
                println!("{answer}");
            } else {
                show_lines(&answer).iter().for_each(|line| println!("{line}"));
            }
        }
        QuarantineCommand::Release { target, re_evaluate, keep, reason, json } => {
            let verb = match keep {
                Some(Keep::First) => Verb::KeepFirst,
                Some(Keep::Second) => Verb::KeepSecond,
                None if re_evaluate => Verb::ReEvaluate,
                None => Verb::Release,
            };
            return decide(config, target, verb, reason, json);
        }
        QuarantineCommand::Reject { object, reason, json } => return decide(config, object.to_string(), Verb::Reject, reason, json),
        QuarantineCommand::Correct(given) => return correct(config, given),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(config: &Config, study: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let (mut objects, mut cursor) = (Vec::new(), None);
    loop {
        let page = ask(config, &Request::QuarantineList { cursor })?;
        let found = page["objects"].as_array().into_iter().flatten();
        objects.extend(found.filter(|object| study.is_none_or(|study| object["study_uid"] == study)).cloned());
        cursor = serde_json::from_value::<Option<Cursor>>(page["next"].clone())
            .context("an answer of another version; restart the appliance")?;
        if cursor.is_none() {
            return Ok(objects);
        }
    }
}

/// Exit status 1 if the decision does not hold for an object.
fn decide(config: &Config, target: String, verb: Verb, reason: String, json: bool) -> anyhow::Result<ExitCode> {
    let answer = ask(config, &Request::QuarantineDecide { target, verb, reason })?;
    let decided = answer["decided"].as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        println!("{answer}");
    } else if decided.is_empty() {
        println!("nothing of it is quarantined");
    } else {
        decided.iter().for_each(|one| println!("{}", decided_line(one)));
    }
    Ok(if decided.iter().any(|one| one["refused"].is_string()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn decided_line(one: &Value) -> String {
    let object = text(&one["object"]);
    match one["refused"].as_str() {
        Some(why) => format!("{object}  not done: {why}"),
        None => format!("{object}  {}{}", text(&one["state"]), overridden(one)),
    }
}

fn overridden(object: &Value) -> String {
    let ids: Vec<&str> = object["overrides"].as_array().into_iter().flatten().map(text).collect();
    if ids.is_empty() { String::new() } else { format!(", overridden: {}", ids.join(" ")) }
}

fn list_lines(object: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "{}  {}  since {}  from {}\n    study {}\n    instance {}",
        text(&object["object"]),
        text(&object["state"]),
        text(&object["since"]),
        text(&object["calling_ae_title"]),
        text(&object["study_uid"]),
        text(&object["sop_instance_uid"])
    )];
    lines.extend(reason_lines(object));
    let copies = object["other_copies"].as_array().map_or(0, Vec::len);
    if copies > 0 {
        lines.push(format!(
            "    {copies} other copies with other bytes are here, all kept: `idr-site quarantine show {}`",
            text(&object["object"])
        ));
    }
    lines
}

fn reason_lines(object: &Value) -> Vec<String> {
    let line = |reason: &Value| {
        let locked = if reason["locked"] == true { " (REJECT*: cannot be released unchanged)" } else { "" };
        let (id, words) = (text(&reason["id"]), text(&reason["words"]));
        let id = if words.starts_with(id) { String::new() } else { format!("{id} ") };
        format!("    {id}{words}{locked}\n        what to do: {}", text(&reason["remedy"]))
    };
    object["reasons"].as_array().into_iter().flatten().map(line).collect()
}

/// What the appliance knows of an object, and what its bytes say.
fn show(config: &Config, object: SpoolId) -> anyhow::Result<Value> {
    let mut answer = ask(config, &Request::QuarantineShow { object })?;
    let sets = site::load_rules(config, idr_host::now())?.sets;
    let seen = Seen::of(config, &sets, &answer, object)?;
    let mut differences = Vec::new();
    for copy in answer["other_copies"].as_array().into_iter().flatten() {
        let id: SpoolId = serde_json::from_value(copy["object"].clone())?;
        let other = Seen::of(config, &sets, &answer, id)?;
        differences.push(json!({"object": id, "elements": differing(&seen.scan, &other.scan)}));
    }
    for conflict in answer["study_reasons"].as_array().into_iter().flatten() {
        differences.extend(of_study(config, &sets, &answer, &seen, conflict)?);
    }
    let findings: Vec<Value> = seen
        .findings
        .iter()
        .map(|found| json!({"rule": found.rule, "name": found.name, "level": found.level, "tags": tags(found), "words": found.comment, "remedy": found.remedy, "rule_set": found.rule_set}))
        .collect();
    let elements = flat(&seen.scan);
    let shown: Vec<Value> = elements
        .iter()
        .take(ELEMENTS_MAX)
        .map(|(path, line)| json!({"path": path, "name": line.name, "vr": line.vr, "value": line.value}))
        .collect();
    answer["findings"] = findings.into();
    answer["elements_left_out"] = (elements.len() - shown.len()).into();
    answer["elements"] = shown.into();
    answer["differences"] = differences.into();
    Ok(answer)
}

/// What the object and another of the study, or of the study that a rule names, say differently in the elements that place them
/// (profile 01 §7.3). The first object that differs is shown; at most [`COMPARED_MAX`] are read.
fn of_study(config: &Config, sets: &RuleSets, answer: &Value, seen: &Seen, conflict: &Value) -> anyhow::Result<Option<Value>> {
    let own: Vec<String> = conflict["tags"].as_array().into_iter().flatten().map(|tag| text(tag).to_owned()).collect();
    let named: Option<SpoolId> = serde_json::from_value(conflict["object"].clone()).ok();
    let candidates: Vec<SpoolId> = match named {
        Some(object) => vec![object],
        None => {
            let study = ask(config, &Request::StudyShow { uid: text(&answer["study_uid"]).to_owned() })?;
            let objects = study["instances"].as_array().into_iter().flatten();
            objects.filter_map(|one| serde_json::from_value(one["object"].clone()).ok()).collect()
        }
    };
    for id in candidates.into_iter().filter(|id| json!(id) != answer["object"]).take(COMPARED_MAX) {
        let Ok(other) = Seen::of(config, sets, answer, id) else { continue };
        let elements = differing(&seen.scan, &other.scan);
        let of = |row: &Value, tags: &[&str]| tags.iter().any(|tag| text(&row["path"]).starts_with(tag));
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        if named.is_none() && !elements.iter().any(|row| of(row, &own)) {
            continue;
        }
        let elements: Vec<Value> = elements.into_iter().filter(|row| of(row, &own) || of(row, &PLACING)).collect();
        return Ok(Some(json!({"rule": conflict["rule"], "object": id, "elements": elements})));
    }
    Ok(None)
}

fn tags(finding: &Finding) -> Vec<String> {
    finding.tags.iter().map(ToString::to_string).collect()
}

/// An object, read here.
struct Seen {
    scan: Scan,
    findings: Vec<Finding>,
}

impl Seen {
    /// Judged by the rule set that it was received under, or if that is not here by the one in force.
    fn of(config: &Config, sets: &RuleSets, answer: &Value, id: SpoolId) -> anyhow::Result<Self> {
        let tenant = text(&answer["tenant"]).parse()?;
        let path = config.storage.path.join(object_file::path_of(&tenant, id));
        let (sealed, data) = rejudge::open(&path, id)?.with_context(|| format!("{}: there is no such file", path.display()))?;
        let record: &Record = &sealed.record;
        let named = record.facts.rule_set.split('/').next().and_then(|id| sets.set(id));
        let set = named.or_else(|| sets.in_force(&config.site.rule_sets, idr_host::now()));
        let set = set.context("no set of site.rule_sets is in force today")?;
        let rules = set.rules_for(Some(&record.announced.calling_ae));
        let mut scanner = rejudge::scanner(record, rules);
        rejudge::feed(data, record.size_bytes, &mut |part| scanner.feed(part)).with_context(|| path.display().to_string())?;
        let scan = scanner.finish();
        let organisation_oids = forward::load_maps(config)?.organisation_oids();
        let findings = rejudge::verdict(&scan, record, rules, config, &organisation_oids).findings;
        Ok(Self { scan, findings })
    }
}

/// An element as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    name: &'static str,
    vr: String,
    value: String,
    /// To compare with: the bytes, which may say more than `value`.
    bytes: Vec<u8>,
}

/// All elements by their path: `(0008,1115)[1]/(0020,000E)`. A repeated tag has `#2`.
fn flat(scan: &Scan) -> BTreeMap<String, Line> {
    let mut lines = BTreeMap::new();
    flatten(scan.data_set(), "", &mut lines);
    // Of bulk data what can be said of it without decoding.
    for bulk in &scan.bulk {
        let length = bulk.length.map_or("of undefined length".to_owned(), |length| format!("of {length} bytes"));
        let bytes = [bulk.head.as_slice(), bulk.tail.as_slice(), length.as_bytes()].concat();
        let name = lines.get(&bulk.tag.to_string()).map_or("", |line: &Line| line.name);
        lines.insert(bulk.tag.to_string(), Line { name, vr: bulk.vr.to_string(), value: format!("<bulk data {length}>"), bytes });
    }
    lines
}

fn flatten(level: DataSet<'_>, inside: &str, lines: &mut BTreeMap<String, Line>) {
    for element in level.elements() {
        let mut path = format!("{inside}{}", element.tag());
        let mut again = 2;
        while lines.contains_key(&path) {
            path = format!("{inside}{}#{again}", element.tag());
            again += 1;
        }
        for (number, item) in element.items().enumerate() {
            flatten(item, &format!("{path}[{}]/", number + 1), lines);
        }
        lines.insert(path, line(element));
    }
}

fn line(element: Element<'_>) -> Line {
    let value = if element.is_sequence() {
        format!("<{} items>", element.items().count())
    } else if !element.is_whole() {
        element.length().map_or("<of undefined length>".to_owned(), |length| format!("<{length} bytes>"))
    } else if element.is_empty() {
        String::new()
    } else if let Some(text) = element.text() {
        shown(&text)
    } else if let Some(number) = element.decimal() {
        number.to_string()
    } else {
        format!("<{} bytes>", element.bytes().len())
    };
    Line { name: element.keyword().unwrap_or_default(), vr: element.vr().to_string(), value, bytes: element.bytes().to_vec() }
}

/// A value cannot move the cursor of a terminal or turn its direction.
fn shown(text: &str) -> String {
    let unsafe_here = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    let mut shown = String::new();
    for c in text.chars().take(VALUE_CHARACTERS_MAX) {
        if unsafe_here(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    if text.chars().nth(VALUE_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Elements that one has and the other has not, or that differ; at most [`ELEMENTS_MAX`].
fn differing(first: &Scan, second: &Scan) -> Vec<Value> {
    let (first, second) = (flat(first), flat(second));
    let mut paths: Vec<&String> = first.keys().chain(second.keys().filter(|path| !first.contains_key(*path))).collect();
    paths.sort_unstable();
    let differs = |path: &&String| match (first.get(*path), second.get(*path)) {
        (Some(a), Some(b)) => (&a.vr, &a.value, &a.bytes) != (&b.vr, &b.value, &b.bytes),
        _ => true,
    };
    let value = |line: Option<&Line>| line.map(|line| line.value.clone());
    let row = |path: &String| {
        let (a, b) = (first.get(path), second.get(path));
        json!({"path": path, "name": a.or(b).map(|line| line.name), "this": value(a), "other": value(b)})
    };
    paths.into_iter().filter(differs).take(ELEMENTS_MAX).map(row).collect()
}

fn show_lines(object: &Value) -> Vec<String> {
    let mut lines = list_lines(object);
    if object["decision"].is_object() {
        let decision = &object["decision"];
        lines.push(format!(
            "    {} by user {} at {}{}: {}",
            text(&decision["verb"]),
            decision["user"],
            text(&decision["at"]),
            overridden(object),
            text(&decision["reason"])
        ));
    }
    if object["successor"].is_object() {
        let by = &object["successor"];
        lines.push(format!(
            "    superseded by {} {} (correction {})",
            text(&by["object"]),
            text(&by["sop_instance_uid"]),
            text(&by["correction"])
        ));
    }
    lines.push(format!("findings of rule set {}", text(&object["rule_set"])));
    for finding in object["findings"].as_array().into_iter().flatten() {
        let tags: Vec<&str> = finding["tags"].as_array().into_iter().flatten().map(text).collect();
        lines.push(format!("    {:<8} {} {}", text(&finding["level"]), text(&finding["words"]), tags.join(" ")));
        lines.push(format!("             {}", text(&finding["remedy"])));
    }
    for copy in object["differences"].as_array().into_iter().flatten() {
        let elements = copy["elements"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rule = copy["rule"].as_str().map_or(String::new(), |rule| format!(" ({rule})"));
        lines.push(format!("differences from {}{rule}: this, other", text(&copy["object"])));
        if elements.is_empty() {
            lines.push("    none outside bulk data and transfer syntax: the digests differ".to_owned());
        }
        let value = |value: &Value| value.as_str().map_or("<absent>".to_owned(), str::to_owned);
        lines.extend(
            elements.iter().map(|row| {
                format!("    {} {}: {} | {}", text(&row["path"]), text(&row["name"]), value(&row["this"]), value(&row["other"]))
            }),
        );
    }
    lines.push("elements".to_owned());
    let elements = object["elements"].as_array().into_iter().flatten();
    lines.extend(elements.map(|row| {
        format!("    {} {} {} {}", text(&row["path"]), text(&row["vr"]), text(&row["name"]), text(&row["value"])).trim_end().to_owned()
    }));
    if object["elements_left_out"] != 0 {
        lines.push(format!("    and {} more", object["elements_left_out"]));
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use idr_profile::scan::{Limits, Scanner};

    fn scan(bytes: &[u8]) -> Scan {
        let mut scanner = Scanner::new("1.2.840.10008.1.2.1", Limits::default());
        scanner.feed(bytes);
        scanner.finish()
    }

    const CT: &[u8] = b"\x08\x00\x60\x00CS\x02\0CT\x10\0\x20\0LO\x04\0A-1 ";
    const MR: &[u8] = b"\x08\x00\x60\x00CS\x02\0MR\x10\0\x20\0LO\x04\0A-1 \x20\0\x13\0IS\x02\x001 ";

    #[test]
    fn differences_are_those_of_the_elements_and_nothing_else() {
        let found = differing(&scan(CT), &scan(MR));
        let wanted = json!([
            {"path": "(0008,0060)", "name": "Modality", "this": "CT", "other": "MR"},
            {"path": "(0020,0013)", "name": "InstanceNumber", "this": null, "other": "1"},
        ]);
        assert_eq!(json!(found), wanted);
        assert!(differing(&scan(CT), &scan(CT)).is_empty());
        // Padding is a difference of bytes: two copies are identical by their digests alone.
        let nul: Vec<u8> = CT[..CT.len() - 1].iter().copied().chain([0]).collect();
        assert_eq!(differing(&scan(CT), &scan(&nul)).len(), 1);
    }

    #[test]
    fn items_have_their_place_in_the_path_and_bulk_data_is_not_decoded() {
        let mut bytes = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff".to_vec();
        bytes.extend(b"\x20\0\x0e\0UI\x04\x001.2\0\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0");
        bytes.extend(b"\xe0\x7f\x10\0OB\0\0\x04\0\0\0\x01\x02\x03\x04");
        let lines = flat(&scan(&bytes));
        let told: Vec<_> = lines.iter().map(|(path, line)| (path.as_str(), line.value.as_str())).collect();
        assert_eq!(told, [("(0008,1115)", "<1 items>"), ("(0008,1115)[1]/(0020,000E)", "1.2"), ("(7FE0,0010)", "<bulk data of 4 bytes>")]);
    }

    #[test]
    fn a_value_cannot_write_on_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(shown(&"x".repeat(VALUE_CHARACTERS_MAX + 1)).chars().count(), VALUE_CHARACTERS_MAX + 1);
        assert_eq!(shown("Öhman^Sanni"), "Öhman^Sanni");
    }

    #[test]
    fn an_operator_reads_why_and_what_to_do() {
        let object = json!({
            "object": "000000000000000a", "state": "quarantined(D301)", "since": "2026-01-15T06:00:00Z", "calling_ae_title": "CT1",
            "study_uid": "1.2.3", "sop_instance_uid": "1.2.3.4", "overrides": [], "decision": null, "other_copies": [{"object": "b"}],
            "reasons": [
                {"id": "D301", "words": "D301 Patient ID missing", "remedy": "Complete the identity.", "locked": false},
                {"id": "CS-C000", "words": "cannot understand", "remedy": "Ask the centre.", "locked": true},
            ],
        });
        let lines = list_lines(&object).join("\n");
        for part in [
            "study 1.2.3\n",
            "    D301 Patient ID missing\n        what to do: Complete the identity.",
            "CS-C000 cannot understand (REJECT*",
            "1 other copies",
        ] {
            assert!(lines.contains(part), "{part:?} in {lines}");
        }
        let done = json!({"object": "a", "state": "held(incomplete)", "overrides": ["D301", "D315"], "refused": null});
        assert_eq!(decided_line(&done), "a  held(incomplete), overridden: D301 D315");
        assert_eq!(
            decided_line(&json!({"object": "a", "state": "sent", "overrides": [], "refused": "it is sent"})),
            "a  not done: it is sent"
        );
    }
}
