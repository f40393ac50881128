//! Loading of rule sets: files → layers → rules in the order of evaluation.

use super::check::{Check, Occurrence, SourceKind};
use super::classes::SopClasses;
use super::code_list::StudyCodes;
use super::file::{AeFile, RuleFile, SetFile, SiteFile};
use super::iod::{IODS_FILE, Iods, MODULES_FILE};
use super::level::{Level, Levels};
use super::parameters::Parameters;
use super::reply::{Offending, Reply, Scope, Stage};
use super::standing::Kept;
use crate::identifier::Environment;
use jiff::Timestamp;
use jiff::civil::Date;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sets that `extends` may pass through.
const CHAIN_MAX: usize = 4;

/// Why rule sets cannot be used. The running sets stay in force.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// No TOML, an unknown key, or a value of the wrong kind.
    #[error("{file}: {source}")]
    Parse {
        /// File.
        file: String,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A setting that cannot hold.
    #[error("{file}: {key}: {problem}")]
    Invalid {
        /// File.
        file: String,
        /// Key or rule.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A locked rule would be lowered.
    #[error("{file}: {key}: rule {rule} is REJECT* and cannot be lowered; remove the key")]
    Locked {
        /// File.
        file: String,
        /// Key.
        key: String,
        /// Rule.
        rule: String,
    },
    /// A national rule would be raised above its rule set.
    #[error("{file}: {key}: rule {rule} is national; set allow_stricter = true to raise it above the rule set")]
    Stricter {
        /// File.
        file: String,
        /// Key.
        key: String,
        /// Rule.
        rule: String,
    },
}

/// One rule, ready for evaluation.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `D303`.
    pub id: String,
    /// `issuer-not-accepted`.
    pub name: String,
    /// What it is about.
    pub scope: Scope,
    /// When it runs.
    pub stage: Stage,
    /// Levels over time, site settings applied.
    pub levels: Levels,
    /// What the sender gets.
    pub reply: Reply,
    /// Error Comment.
    pub comment: String,
    /// What an operator can do.
    pub remedy: String,
    /// Where it comes from.
    pub source: String,
    pub(super) file: RuleFile,
    pub(super) offending: Offending,
    /// Indexes of the rules that it is not evaluated after.
    pub(super) after: Vec<usize>,
}

impl Rule {
    pub(super) fn check(&self) -> &Check {
        &self.file.check
    }

    pub(super) fn sources(&self) -> &[SourceKind] {
        &self.file.sources
    }

    pub(super) fn after_same_tag(&self) -> bool {
        self.file.after_same_tag
    }

    /// Column (0000,0901) as the rule set writes it.
    pub fn tags_text(&self) -> &str {
        &self.file.tags
    }

    /// Status column as the rule set writes it.
    pub fn status_text(&self) -> &str {
        &self.file.status
    }

    /// STOW-RS Failure Reason.
    pub fn stow(&self) -> Option<u16> {
        self.file.stow
    }
}

/// Rules, parameters and SOP classes that apply to one peer under one rule set.
#[derive(Debug, Clone)]
pub struct Rules {
    /// `fi-2.4.1/1`.
    pub rule_set: String,
    /// Production or test.
    pub environment: Environment,
    pub(super) rules: Vec<Rule>,
    /// Indexes in an order in which every rule comes after those that it waits for.
    pub(super) order: Vec<usize>,
    parameters: Parameters,
    /// The same as they stand in the files.
    written: toml::Table,
    classes: SopClasses,
    codes: Arc<StudyCodes>,
    iods: Arc<Iods>,
}

impl Rules {
    /// The parameters that the words of a row name, with their values, in the order of their names.
    pub fn parameters_named<'a>(&'a self, words: &'a str) -> impl Iterator<Item = (&'a str, &'a toml::Value)> {
        let named = |key: &str| words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == key);
        self.written.iter().filter(move |(key, _)| named(key)).map(|(key, value)| (key.as_str(), value))
    }

    /// These rules with the levels of one day on every day, some of them changed: what a preview judges with (profile 01
    /// §1.5). Instances keep their own receive time for rules about time.
    ///
    /// # Errors
    /// [`RuleError::Invalid`] for a rule that has no check, [`RuleError::Locked`] for one at REJECT* that would be lowered.
    pub fn on(&self, day: Date, changed: &BTreeMap<String, Level>) -> Result<Self, RuleError> {
        let mut rules = self.clone();
        if let Some(unknown) = changed.keys().find(|id| self.rule(id).is_none()) {
            return Err(invalid("preview", unknown, "there is no such rule with a check"));
        }
        for rule in &mut rules.rules {
            let level = changed.get(&rule.id).copied().unwrap_or_else(|| rule.levels.at(day, self.environment));
            if rule.levels.is_locked() && level != Level::RejectLocked {
                return Err(RuleError::Locked { file: "preview".to_owned(), key: rule.id.clone(), rule: rule.id.clone() });
            }
            rule.levels = Levels::always(level);
        }
        Ok(rules)
    }

    /// All parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// SOP classes and their transfer syntaxes.
    pub fn sop_classes(&self) -> &SopClasses {
        &self.classes
    }

    /// Study codes of the set's lists; empty if none is loaded.
    pub fn study_codes(&self) -> &StudyCodes {
        &self.codes
    }

    pub(super) fn iods(&self) -> &Iods {
        &self.iods
    }

    /// All rules by id.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// One rule.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    pub(super) fn of_occurrence(&self, occurrence: Occurrence) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.file.met.or_else(|| rule.check().occurrence()) == Some(occurrence))
    }
}

/// A rule set with the settings of the site.
#[derive(Debug, Clone)]
pub struct RuleSet {
    /// `fi-2.4.1`.
    pub id: String,
    /// Rises with every change.
    pub revision: u32,
    /// First day of production; `None`: never in force by date.
    pub production_from: Option<Date>,
    /// Last day of production.
    pub production_until: Option<Date>,
    /// First day of certification.
    pub certification_from: Option<Date>,
    /// Last day of certification.
    pub certification_until: Option<Date>,
    /// Rows of the profile that have no check yet.
    pub not_built: BTreeSet<String>,
    /// 16 hex digits that change with every byte of the set, of those it extends, of its code lists and of the site's settings.
    pub edition: String,
    /// Code lists that could not be read: the rules that need them do not fail. A matter for `doctor`.
    pub problems: Vec<String>,
    rules: Arc<Rules>,
    by_ae: BTreeMap<String, Arc<Rules>>,
}

impl RuleSet {
    /// The rules for a calling AE title; for a title without own settings, and for `None`, those of the site.
    pub fn rules_for(&self, ae_title: Option<&str>) -> &Arc<Rules> {
        ae_title.and_then(|title| self.by_ae.get(title)).unwrap_or(&self.rules)
    }

    /// `date` lies in the production interval.
    pub fn is_in_production(&self, date: Date) -> bool {
        self.production_from.is_some_and(|from| from <= date) && self.production_until.is_none_or(|until| date <= until)
    }
}

/// All rule sets at hand.
#[derive(Debug, Clone)]
pub struct RuleSets(BTreeMap<String, Arc<RuleSet>>);

impl RuleSets {
    /// Reads rule sets.
    ///
    /// `files`: the files of the rules folder by their path in it (`base/dicom.toml`, `fi-2.4.1/codes/procedures.tsv`); each
    /// `dicom.toml` is a set, files of other owners are passed over. `site`: text of `site-rules.toml`.
    ///
    /// # Errors
    /// [`RuleError`] names file, key and rule; nothing is taken over in part.
    pub fn load(files: &BTreeMap<String, String>, site: Option<&str>, environment: Environment) -> Result<Self, RuleError> {
        Self::load_keeping(files, site, environment, &Kept::default())
    }

    /// The same, with levels that some rules of the sets keep from before; the site's settings stand over them.
    ///
    /// # Errors
    /// As [`RuleSets::load`].
    pub fn load_keeping(
        files: &BTreeMap<String, String>,
        site: Option<&str>,
        environment: Environment,
        kept: &Kept,
    ) -> Result<Self, RuleError> {
        let mut parsed = BTreeMap::new();
        for (path, text) in files {
            let Some(name) = path.strip_suffix("/dicom.toml") else { continue };
            let file = file_name(name);
            let set: SetFile = toml::from_str(text).map_err(|source| RuleError::Parse { file: file.clone(), source: source.into() })?;
            if set.rule_set.id != name {
                return Err(invalid(&file, "rule_set.id", format!("is {}, but the folder is {name}", set.rule_set.id)));
            }
            parsed.insert(name.to_owned(), set);
        }
        let settings: SiteFile = match site {
            Some(text) => toml::from_str(text).map_err(|source| RuleError::Parse { file: SITE_FILE.to_owned(), source: source.into() })?,
            None => SiteFile::default(),
        };
        let iods = iods(&parsed, files);
        let sets = parsed
            .keys()
            .map(|name| Ok((name.clone(), Arc::new(build(name, &parsed, files, &iods, (site, &settings), (environment, kept))?))));
        sets.collect::<Result<_, _>>().map(Self)
    }

    /// The shipped sets, without site settings.
    pub fn shipped(environment: Environment) -> Self {
        Self::load(&shipped_files(), None, environment).expect("the shipped rule sets are loaded by a test")
    }

    /// A set by its id, in force or not.
    pub fn set(&self, id: &str) -> Option<&Arc<RuleSet>> {
        self.0.get(id)
    }

    /// The first of `names` (`site.rule_sets`) whose production interval holds the receive date (Europe/Helsinki).
    pub fn in_force(&self, names: &[String], received: Timestamp) -> Option<&Arc<RuleSet>> {
        names.iter().filter_map(|name| self.0.get(name)).find(|set| {
            let date = set.rules.parameters.timezone.to_datetime(received).date();
            set.is_in_production(date)
        })
    }

    /// All sets by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RuleSet>> {
        self.0.values()
    }
}

const SITE_FILE: &str = "site-rules.toml";

fn file_name(set: &str) -> String {
    format!("rules/{set}/dicom.toml")
}

/// The shipped files of this owner by their path in the rules folder.
pub fn shipped_files() -> BTreeMap<String, String> {
    [
        ("base/dicom.toml", include_str!("../../../../configs/rules/base/dicom.toml")),
        ("base/modules.tsv", include_str!("../../../../configs/rules/base/modules.tsv")),
        ("base/iods.tsv", include_str!("../../../../configs/rules/base/iods.tsv")),
        ("fi-2.3.4/dicom.toml", include_str!("../../../../configs/rules/fi-2.3.4/dicom.toml")),
        ("fi-2.4/dicom.toml", include_str!("../../../../configs/rules/fi-2.4/dicom.toml")),
        ("fi-2.4.1/dicom.toml", include_str!("../../../../configs/rules/fi-2.4.1/dicom.toml")),
        ("fi-3.0-rc1/dicom.toml", include_str!("../../../../configs/rules/fi-3.0-rc1/dicom.toml")),
    ]
    .into_iter()
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .collect()
}

fn invalid(file: &str, key: &str, problem: impl Into<String>) -> RuleError {
    RuleError::Invalid { file: file.to_owned(), key: key.to_owned(), problem: problem.into() }
}

/// From the root of `extends` to the set itself.
fn chain<'a>(name: &str, parsed: &'a BTreeMap<String, SetFile>) -> Result<Vec<&'a SetFile>, RuleError> {
    let mut chain = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        let file = file_name(chain.last().map_or(name, |set: &&SetFile| set.rule_set.id.as_str()));
        if chain.len() > CHAIN_MAX {
            return Err(invalid(&file, "extends", format!("passes through more than {CHAIN_MAX} sets")));
        }
        let set = parsed.get(name).ok_or_else(|| invalid(&file, "extends", format!("there is no rule set {name}")))?;
        chain.push(set);
        next = set.rule_set.extends.as_deref();
    }
    chain.reverse();
    Ok(chain)
}

/// What the layers add up to.
#[derive(Clone)]
struct Layers {
    rules: BTreeMap<String, (RuleFile, String)>,
    parameters: toml::Table,
    /// Levels of the set in the place of which former ones are kept: the site may be as strict.
    raised: BTreeMap<String, Levels>,
}

impl Layers {
    fn set_levels(&mut self, levels: &BTreeMap<String, Levels>, file: &str, key: &str, not_stricter: bool) -> Result<(), RuleError> {
        for (rule, levels) in levels {
            let key = format!("{key}.{rule}");
            let (entry, _) = self.rules.get_mut(rule).ok_or_else(|| invalid(file, &key, "there is no such rule with a check"))?;
            if entry.level.is_locked() && !levels.is_all_locked() {
                return Err(RuleError::Locked { file: file.to_owned(), key, rule: rule.clone() });
            }
            let bound = self.raised.get(rule).unwrap_or(&entry.level);
            if not_stricter && entry.source.starts_with("national") && levels.clone().over(bound).is_ever_above(bound) {
                return Err(RuleError::Stricter { file: file.to_owned(), key, rule: rule.clone() });
            }
            entry.level = levels.clone().over(&entry.level);
        }
        Ok(())
    }

    fn set_parameters(&mut self, parameters: &toml::Table, file: &str, is_root: bool) -> Result<Parameters, RuleError> {
        for (key, value) in parameters {
            if !is_root && !self.parameters.contains_key(key) {
                return Err(invalid(file, key, "there is no such parameter"));
            }
            self.parameters.insert(key.clone(), value.clone());
        }
        let read: Parameters = self
            .parameters
            .clone()
            .try_into()
            .map_err(|source: toml::de::Error| RuleError::Parse { file: file.to_owned(), source: source.into() })?;
        read.check().map_err(|problem| invalid(file, "parameters", problem))?;
        Ok(read)
    }
}

/// Modules of the sets that have the files of their own.
fn iods<'a>(parsed: &'a BTreeMap<String, SetFile>, files: &BTreeMap<String, String>) -> BTreeMap<&'a str, Result<Arc<Iods>, String>> {
    let read = |name: &'a String| {
        let (modules, iods) = (files.get(&format!("{name}/{MODULES_FILE}"))?, files.get(&format!("{name}/{IODS_FILE}"))?);
        Some((name.as_str(), Iods::read(modules, iods).map(Arc::new).map_err(|problem| format!("rules/{name}/{problem}"))))
    };
    parsed.keys().filter_map(read).collect()
}

fn build(
    name: &str,
    parsed: &BTreeMap<String, SetFile>,
    files: &BTreeMap<String, String>,
    iods: &BTreeMap<&str, Result<Arc<Iods>, String>>,
    (settings, site): (Option<&str>, &SiteFile),
    (environment, kept): (Environment, &Kept),
) -> Result<RuleSet, RuleError> {
    let chain = chain(name, parsed)?;
    let edition = edition(&chain, files, settings);
    let mut layers = Layers { rules: BTreeMap::new(), parameters: toml::Table::new(), raised: BTreeMap::new() };
    let (mut lists, mut families, mut extra, mut not_built) = (BTreeMap::new(), Vec::new(), Vec::new(), BTreeSet::new());
    let (mut codes, mut problems) = (StudyCodes::default(), Vec::new());
    for (depth, set) in chain.iter().enumerate() {
        let file = file_name(&set.rule_set.id);
        for rule in &set.rules {
            if let Some((older, _)) = layers.rules.get(&rule.id)
                && older.level.is_locked()
                && !rule.level.is_all_locked()
            {
                return Err(RuleError::Locked { file, key: format!("rules.{}", rule.id), rule: rule.id.clone() });
            }
            layers.rules.insert(rule.id.clone(), (rule.clone(), file.clone()));
            not_built.remove(&rule.id);
        }
        layers.set_levels(&set.levels, &file, "levels", false)?;
        layers.set_parameters(&set.parameters, &file, depth == 0)?;
        lists.extend(set.transfer_syntaxes.clone());
        families.extend(set.families.iter().cloned());
        extra.extend(set.extra_classes.iter().cloned());
        not_built.extend(set.not_built.iter().cloned());
        for list in &set.study_code_lists {
            let path = format!("{}/{}", set.rule_set.id, list.file);
            let added = files.get(&path).ok_or_else(|| "there is no such file".to_owned()).and_then(|text| codes.add(list, text));
            problems.extend(added.err().map(|problem| format!("rules/{path}: {problem}")));
        }
    }
    let codes = Arc::new(codes);
    // The nearest set that has the files; without them the rules that need them do not fail (profile 01 §2).
    let iods = match chain.iter().rev().find_map(|set| iods.get(set.rule_set.id.as_str())) {
        Some(Ok(iods)) => iods.clone(),
        Some(Err(problem)) => {
            problems.push(problem.clone());
            Arc::default()
        }
        None => {
            problems.push(format!("rules/{name}: neither this set nor one that it extends has {MODULES_FILE} and {IODS_FILE}"));
            Arc::default()
        }
    };
    let head = &chain.last().expect("a chain begins with the set itself").rule_set;
    let rule_set = format!("{}/{}", head.id, head.revision);
    for (rule, levels) in kept.of(name) {
        if let Some((entry, _)) = layers.rules.get_mut(rule) {
            layers.raised.insert(rule.clone(), std::mem::replace(&mut entry.level, levels.clone()));
        }
    }
    layers.set_levels(&site.levels, SITE_FILE, "levels", !site.allow_stricter)?;
    extra.extend(site.extra_classes.iter().cloned());
    let finish = |mut layers: Layers, parameters: &toml::Table, file: &str| -> Result<Arc<Rules>, RuleError> {
        let parameters = layers.set_parameters(parameters, file, false)?;
        let written = std::mem::take(&mut layers.parameters);
        let classes = SopClasses::resolve(&lists, &families, &extra, parameters.accept_retired)
            .map_err(|problem| invalid(file, "sop_classes", problem))?;
        let rules = layers.rules.into_values().map(|(rule, file)| read_rule(rule, &file)).collect::<Result<Vec<_>, _>>()?;
        let (rules, order) = arrange(rules, file)?;
        Ok(Arc::new(Rules {
            rule_set: rule_set.clone(),
            environment,
            rules,
            order,
            parameters,
            written,
            classes,
            codes: codes.clone(),
            iods: iods.clone(),
        }))
    };
    let mut by_ae = BTreeMap::new();
    let mut site_layers = layers.clone();
    site_layers.set_parameters(&site.parameters, SITE_FILE, false)?;
    for AeFile { title, levels, parameters } in &site.ae {
        let mut layers = site_layers.clone();
        layers.set_levels(levels, SITE_FILE, &format!("ae.{title}.levels"), !site.allow_stricter)?;
        if by_ae.insert(title.clone(), finish(layers, parameters, SITE_FILE)?).is_some() {
            return Err(invalid(SITE_FILE, "ae.title", format!("{title} occurs twice")));
        }
    }
    Ok(RuleSet {
        id: head.id.clone(),
        revision: head.revision,
        production_from: head.production_from,
        production_until: head.production_until,
        certification_from: head.certification_from,
        certification_until: head.certification_until,
        not_built,
        edition,
        problems,
        rules: finish(layers, &site.parameters, SITE_FILE)?,
        by_ae,
    })
}

fn edition(chain: &[&SetFile], files: &BTreeMap<String, String>, settings: Option<&str>) -> String {
    let folders: Vec<String> = chain.iter().map(|set| format!("{}/", set.rule_set.id)).collect();
    let mut hasher = Sha256::new();
    let own = files.iter().filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)));
    for text in own.flat_map(|(path, text)| [path, text]).map(String::as_str).chain(settings) {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hex::encode(&hasher.finalize()[..8])
}

/// Checks what every row must hold (profile 01 §4, §12.2).
fn read_rule(file: RuleFile, name: &str) -> Result<Rule, RuleError> {
    let problem = |problem: String| invalid(name, &file.id, problem);
    let reply = Reply::parse(&file.status).ok_or_else(|| problem(format!("status {} cannot be read", file.status)))?;
    let comment = &file.comment;
    if comment.len() > 64 || !comment.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || comment.split(' ').next() != Some(&file.id) {
        return Err(problem("comment must begin with the rule id and have at most 64 characters of 20H-7EH".to_owned()));
    }
    match reply {
        Reply::Status(status) if file.stow != Some(status) => return Err(problem(format!("stow must be {status}, the status in decimal"))),
        Reply::Status(_) => {}
        _ if file.stow.is_some() => return Err(problem("only a rule with a status has a stow number".to_owned())),
        _ => {}
    }
    Ok(Rule {
        id: file.id.clone(),
        name: file.name.clone(),
        scope: file.scope,
        stage: file.stage,
        levels: file.level.clone(),
        reply,
        comment: file.comment.clone(),
        remedy: file.remedy.clone(),
        source: file.source.clone(),
        offending: Offending::parse(&file.tags),
        after: Vec::new(),
        file,
    })
}

/// Resolves `after`, refuses equal statuses and comments, and finds the order of evaluation.
fn arrange(mut rules: Vec<Rule>, file: &str) -> Result<(Vec<Rule>, Vec<usize>), RuleError> {
    let index: BTreeMap<String, usize> = rules.iter().enumerate().map(|(index, rule)| (rule.id.clone(), index)).collect();
    let mut statuses = BTreeMap::new();
    for rule in &mut rules {
        if let Reply::Status(status) = rule.reply
            && let Some(other) = statuses.insert(status, rule.id.clone())
        {
            return Err(invalid(file, &rule.id, format!("has the status of {other}")));
        }
        // A rule that is not built cannot have failed.
        rule.after = rule.file.after.iter().filter_map(|id| index.get(id).copied()).collect();
    }
    let (mut order, mut placed) = (Vec::with_capacity(rules.len()), vec![false; rules.len()]);
    while order.len() < rules.len() {
        let before = order.len();
        for (index, rule) in rules.iter().enumerate() {
            if !placed[index] && rule.after.iter().all(|other| placed[*other]) {
                placed[index] = true;
                order.push(index);
            }
        }
        if order.len() == before {
            let stuck = placed.iter().position(|placed| !placed).and_then(|index| rules.get(index)).map_or("", |rule| rule.id.as_str());
            return Err(invalid(file, stuck, "waits for itself through after"));
        }
    }
    Ok((rules, order))
}
