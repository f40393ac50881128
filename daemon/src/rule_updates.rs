//! No rule is raised to REJECT by an update of a rule set before somebody has seen what that would refuse (profile 01 §1.5).
//!
//! `rules.json` in the state folder holds the levels that stand and the previews that are on record. At a start and a reload a
//! rule that the sets at hand would raise keeps its former levels, which the log and `doctor` say, until
//! `idr-site rules preview --rule-set … --record` has been given for that edition of the set; a site that starts for the first time
//! takes the sets as they are. What the site says in `site-rules.toml` is its own decision.
//!
//! # Failure
//! A file that cannot be read keeps the site from nothing: the sets are taken as they are, with an alarm. Written whole, synced,
//! renamed.
//!
//! # Bounds
//! [`PREVIEWS_MAX`] previews, the newest; an edition that has left the list is previewed again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use idr_host::files;
use idr_profile::rules::{Kept, Raised, RuleSets, Standing};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// In the state folder.
const FILE: &str = "rules.json";
/// Form of the file; another number is not read.
const FORMAT: u32 = 1;
/// Previews on record.
pub const PREVIEWS_MAX: usize = 1_000;

/// What is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OnRecord {
    format: u32,
    /// Levels that stand; `None` before the first start.
    standing: Option<Standing>,
    previews: Vec<Preview>,
}

impl Default for OnRecord {
    fn default() -> Self {
        Self { format: FORMAT, standing: None, previews: Vec::new() }
    }
}

/// That somebody has seen what a rule set would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Rule set.
    pub rule_set: String,
    /// Its edition, without the site's settings ([`edition`]).
    pub edition: String,
    /// When.
    pub at: Timestamp,
    /// User id of who recorded it.
    pub user: u32,
    /// Why, in one line and without patient data.
    pub reason: String,
    /// Objects that were judged.
    pub objects: u64,
    /// Of them, those that would have been refused.
    pub refused: u64,
    /// Of them, those that would have been quarantined.
    pub quarantined: u64,
}

/// Rule sets as they come into force.
pub struct Loaded {
    /// The sets, with the site's settings.
    pub sets: RuleSets,
    /// Rules that keep their former levels.
    pub raised: Vec<Raised>,
    standing: Standing,
}

impl Loaded {
    /// A line for each rule that keeps its former level.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.raised.iter().map(line)
    }
}

/// What is told of a rule that keeps its former level.
pub fn line(raised: &Raised) -> String {
    let Raised { set, rule, from, stays, .. } = raised;
    format!(
        "{rule} would be REJECT from {from} by rule set {set} and stays {stays}: see what it would refuse by \
         `idr-site rules preview --rule-set {set} --record REASON`"
    )
}

/// Reads the rule sets, and keeps back what nobody has previewed. Writes nothing.
///
/// # Errors
/// File, key and rule of the first problem of the sets.
pub fn load(config: &Config, now: Timestamp) -> anyhow::Result<Loaded> {
    let (names, environment) = (&config.site.rule_sets, config.environment);
    let texts = files::rule_texts(&config.files.rules)?;
    let site = files::read_text_if_there(&config.files.site_rules)?;
    let plain = RuleSets::load(&texts, None, environment)?;
    for name in names {
        anyhow::ensure!(plain.set(name).is_some(), "site.rule_sets: there is no rule set '{name}' in {}", config.files.rules.display());
    }
    let record = read(config).unwrap_or_else(|error| {
        tracing::error!(cause = format!("{error:#}"), "what is on record about rule sets cannot be read; they are taken as they are");
        OnRecord::default()
    });
    let today = TimeZone::UTC.to_datetime(now).date();
    let is_previewed = |edition: &str| record.previews.iter().any(|preview| preview.edition == edition);
    let (raised, kept) = match &record.standing {
        Some(standing) => standing.raised(&plain, names, (environment, today), is_previewed),
        None => (Vec::new(), Kept::default()),
    };
    let standing = match raised.is_empty() {
        true => Standing::of(&plain, names, environment, now),
        false => Standing::of(&RuleSets::load_keeping(&texts, None, environment, &kept)?, names, environment, now),
    };
    Ok(Loaded { sets: RuleSets::load_keeping(&texts, site.as_deref(), environment, &kept)?, raised, standing })
}

/// Puts on record that these sets are in force from now on; returns when it is durable.
///
/// # Errors
/// The file cannot be written.
pub fn adopt(config: &Config, loaded: &Loaded) -> anyhow::Result<()> {
    // One that cannot be read was told of when the sets were loaded, and is left for whoever looks into it.
    let Ok(mut record) = read(config) else { return Ok(()) };
    if record.standing.as_ref() == Some(&loaded.standing) {
        return Ok(());
    }
    record.standing = Some(loaded.standing.clone());
    write(config, &record)
}

/// Puts a preview on record; returns when it is durable.
///
/// # Errors
/// The file cannot be read or written.
pub fn record(config: &Config, preview: Preview) -> anyhow::Result<()> {
    let mut record = read(config)?;
    record.previews.push(preview);
    let too_many = record.previews.len().saturating_sub(PREVIEWS_MAX);
    record.previews.drain(..too_many);
    write(config, &record)
}

/// The edition of a set without the site's settings: what a preview is about.
///
/// # Errors
/// File, key and rule of the first problem; there is no such set.
pub fn edition(config: &Config, name: &str) -> anyhow::Result<String> {
    let plain = RuleSets::load(&files::rule_texts(&config.files.rules)?, None, config.environment)?;
    let set = plain.set(name).with_context(|| format!("there is no rule set '{name}' in {}", config.files.rules.display()))?;
    Ok(set.edition.clone())
}

fn path(config: &Config) -> PathBuf {
    config.storage.path.join(FILE)
}

fn read(config: &Config) -> anyhow::Result<OnRecord> {
    let path = path(config);
    let Some(text) = files::read_text_if_there(&path)? else { return Ok(OnRecord::default()) };
    parse(&text, &path)
}

fn parse(text: &str, path: &Path) -> anyhow::Result<OnRecord> {
    let record: OnRecord = serde_json::from_str(text).with_context(|| path.display().to_string())?;
    anyhow::ensure!(record.format == FORMAT, "{}: format {}, this program knows {FORMAT}", path.display(), record.format);
    Ok(record)
}

fn write(config: &Config, record: &OnRecord) -> anyhow::Result<()> {
    let path = path(config);
    files::keep_json(&path, record).with_context(|| format!("{}: cannot be written", path.display()))
}
