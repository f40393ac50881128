//! `setup`: a valid configuration from a few answers (OPERATIONS, first run). Nothing is asked: what is not given keeps its default.
//!
//! The shipped main file, which does nothing because it has no `environment`, gets the answers in its own lines, with every comment
//! and default beside them; where there is no file it is made from the shipped one. A file that is set up is never changed, and neither is a
//! controller map with rows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use idr_host::files;
use serde::Deserialize;
use serde_json::json;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

use crate::config::Config;
use crate::enrol::edit;

/// The main file as shipped.
const SHIPPED: &str = include_str!("../../configs/idr-site.toml");

/// Answers, as flags or as a file of the same names with `_` for `-`; a flag stands over the file.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// File of answers, TOML.
    #[arg(long)]
    #[serde(skip)]
    from: Option<PathBuf>,
    /// Nothing is ever asked; the flag is taken for scripts that give it.
    #[arg(long)]
    #[serde(skip)]
    non_interactive: bool,
    /// `test` or `production`.
    #[arg(long)]
    environment: Option<String>,
    /// Name of this gateway: 2–32 of a–z, 0–9, '-'.
    #[arg(long)]
    site: Option<String>,
    /// OID of the organisation.
    #[arg(long)]
    organisation: Option<String>,
    /// Name of the organisation.
    #[arg(long)]
    organisation_name: Option<String>,
    /// OID of this software instance; none: `<organisation>.12.9`.
    #[arg(long)]
    source_oid: Option<String>,
    /// AE title that devices call.
    #[arg(long)]
    ae_title: Option<String>,
    /// Address of the plain DICOM listener.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address of health and metrics, on loopback.
    #[arg(long)]
    health_listen: Option<SocketAddr>,
    /// State folder.
    #[arg(long)]
    storage: Option<String>,
    /// Bytes that stay free.
    #[arg(long)]
    reserve_bytes: Option<u64>,
    /// Controller of every study that comes in, OID below node 19.
    #[arg(long)]
    controller: Option<String>,
    /// Its register: 2 public, 3 private, 4 occupational.
    #[arg(long)]
    register: Option<String>,
    /// OID of the service unit of every study.
    #[arg(long)]
    service_unit: Option<String>,
    /// Machine-readable.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

impl Answers {
    /// What the flags say, and below them the file.
    fn over(self, file: Self) -> Self {
        Self {
            from: self.from,
            non_interactive: self.non_interactive,
            environment: self.environment.or(file.environment),
            site: self.site.or(file.site),
            organisation: self.organisation.or(file.organisation),
            organisation_name: self.organisation_name.or(file.organisation_name),
            source_oid: self.source_oid.or(file.source_oid),
            ae_title: self.ae_title.or(file.ae_title),
            listen: self.listen.or(file.listen),
            health_listen: self.health_listen.or(file.health_listen),
            storage: self.storage.or(file.storage),
            reserve_bytes: self.reserve_bytes.or(file.reserve_bytes),
            controller: self.controller.or(file.controller),
            register: self.register.or(file.register),
            service_unit: self.service_unit.or(file.service_unit),
            json: self.json,
        }
    }
}

/// Does the command for the main file `path`.
///
/// # Errors
/// The site is set up already; an answer is missing or not allowed; a file. Nothing is written then.
pub fn execute(path: &Path, flags: Answers) -> anyhow::Result<ExitCode> {
    let file = match &flags.from {
        Some(from) => toml::from_str(&files::read_text(from)?).with_context(|| from.display().to_string())?,
        None => Answers::default(),
    };
    let answers = flags.over(file);
    let written = set_up(path, &answers)?;
    let next = "`idr-site cert join` with the join string of the centre, `idr-site check-config`, then `systemctl enable --now idr-site`";
    if answers.json {
        println!("{}", json!({"written": written, "next": next}));
    } else {
        written.iter().for_each(|path| println!("{}: written", path.display()));
        println!("next: an [[inbound]] row for each device, {next}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes main file and controller map; both are checked before either is written.
fn set_up(path: &Path, answers: &Answers) -> anyhow::Result<Vec<PathBuf>> {
    let text = files::read_text_if_there(path)?;
    let main = main_file(text.as_deref().unwrap_or(SHIPPED), answers).with_context(|| path.display().to_string())?;
    let config = Config::parse(&main, path)?;
    let beside = &config.files;
    for (what, there) in
        [("files.rules", &beside.rules), ("files.trust", &beside.trust), ("files.affinity_domain", &beside.affinity_domain)]
    {
        anyhow::ensure!(there.exists(), "{what}: {} is not there; copy it from /etc/idr-site of the package", there.display());
    }
    let mut written = Vec::new();
    if let Some(controller) = &answers.controller {
        let map_path = &beside.controller_map;
        let map =
            controller_map(&files::read_text(map_path)?, controller, answers, &config).with_context(|| map_path.display().to_string())?;
        let today = jiff::tz::TimeZone::UTC.to_datetime(idr_host::now()).date();
        idr_profile::mapping::ControllerMap::load(&map, today).with_context(|| map_path.display().to_string())?;
        edit::replace(map_path, &map)?;
        written.push(map_path.clone());
    }
    edit::replace(path, &main)?;
    written.push(path.to_owned());
    Ok(written)
}

fn main_file(text: &str, answers: &Answers) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    anyhow::ensure!(
        document.get("environment").is_none(),
        "this site is set up already (environment is set); nothing is changed: edit the file, then `idr-site check-config`"
    );
    let needed = BTreeMap::from([
        ("--environment", &answers.environment),
        ("--site", &answers.site),
        ("--organisation", &answers.organisation),
        ("--organisation-name", &answers.organisation_name),
    ]);
    let missing: Vec<&str> = needed.iter().filter(|(_, answer)| answer.is_none()).map(|(flag, _)| *flag).collect();
    anyhow::ensure!(missing.is_empty(), "these answers are needed: {}", missing.join(", "));
    let organisation = answers.organisation.clone().unwrap_or_default();
    let source = answers.source_oid.clone().unwrap_or_else(|| format!("{organisation}.12.9"));
    let text = |text: &Option<String>| text.as_ref().map(|text| Value::from(text.as_str()));
    let list = |text: Option<String>| text.map(|text| Value::from(std::iter::once(text).collect::<Array>()));
    for (table, key, answer) in [
        ("site", "id", text(&answers.site)),
        ("site", "organisation", text(&answers.organisation)),
        ("site", "organisation_name", text(&answers.organisation_name)),
        ("site", "source_oid", text(&Some(source))),
        ("storage", "path", text(&answers.storage)),
        ("storage", "reserve_bytes", answers.reserve_bytes.map(|bytes| Value::from(i64::try_from(bytes).unwrap_or(i64::MAX)))),
        ("dimse", "local_ae_titles", list(answers.ae_title.clone())),
        ("dimse", "listen", list(answers.listen.map(|address| address.to_string()))),
        ("health", "listen", text(&answers.health_listen.map(|address| address.to_string()))),
    ] {
        let Some(answer) = answer else { continue };
        let of =
            document.entry(table).or_insert(Item::Table(Table::new())).as_table_mut().with_context(|| format!("{table} is no table"))?;
        set(of, key, answer);
    }
    document["environment"] = value(answers.environment.clone().unwrap_or_default());
    Ok(document.to_string())
}

/// Sets a value; the comment that stands behind the earlier one stays.
fn set(table: &mut Table, key: &str, mut answer: Value) {
    if let Some(earlier) = table.get(key).and_then(Item::as_value) {
        *answer.decor_mut() = earlier.decor().clone();
    }
    table[key] = Item::Value(answer);
}

fn controller_map(text: &str, controller: &str, answers: &Answers, config: &Config) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    anyhow::ensure!(document.get("row").is_none(), "has rows already; it is not changed, leave --controller out");
    let register = answers.register.as_deref().context("--register is needed with --controller")?;
    document["organisation_oids"] = value(std::iter::once(config.site.organisation.as_str()).collect::<Array>());
    document["controllers_own"] = value(std::iter::once(controller).collect::<Array>());
    let mut row = Table::new();
    row["controller"] = value(controller);
    row["controller_type"] = value("1");
    row["register"] = value(register);
    if let Some(unit) = &answers.service_unit {
        row["service_unit"] = value(unit);
        row["service_unit_name"] = value(&config.site.organisation_name);
    }
    let mut rows = ArrayOfTables::new();
    rows.push(row);
    document["row"] = Item::ArrayOfTables(rows);
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let text = |text: &str| Some(text.to_owned());
        Answers {
            environment: text("test"),
            site: text("site-7"),
            organisation: text("1.2.246.10.90000011"),
            organisation_name: text("Testisairaala"),
            ae_title: text("GATEWAY"),
            controller: text("1.2.246.10.90000011.19.0"),
            register: text("2"),
            ..Answers::default()
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        for name in ["idr-site.toml", "trust.toml", "affinity-domain.toml", "controller-map.toml"] {
            std::fs::copy(shipped.join(name), folder.path().join(name)).expect("copied");
        }
        std::fs::create_dir(folder.path().join("rules")).expect("made");
        folder
    }

    #[test]
    fn the_shipped_file_gets_the_answers_and_keeps_its_comments() {
        let folder = folder();
        let path = folder.path().join("idr-site.toml");
        set_up(&path, &answers()).expect("set up");
        let config = Config::load(&path).expect("valid");
        assert_eq!((config.site.id.as_str(), config.site.source_oid.as_str()), ("site-7", "1.2.246.10.90000011.12.9"));
        assert_eq!(config.dimse.local_ae_titles, ["GATEWAY"]);
        let text = std::fs::read_to_string(&path).expect("there");
        let behind = SHIPPED.lines().filter(|line| line.contains('#')).map(|line| line.split_once('#').expect("a comment").1);
        assert!(behind.filter(|comment| !text.contains(comment)).count() == 0, "every comment stays");
        let map = std::fs::read_to_string(folder.path().join("controller-map.toml")).expect("there");
        assert!(
            idr_profile::mapping::ControllerMap::load(&map, jiff::civil::date(2026, 1, 20)).is_ok()
                && map.contains("1.2.246.10.90000011.19.0")
        );
    }

    #[test]
    fn what_is_set_up_is_never_written_over_and_a_missing_answer_writes_nothing() {
        let folder = folder();
        let path = folder.path().join("idr-site.toml");
        let before = std::fs::read_to_string(&path).expect("there");
        let error = set_up(&path, &Answers { site: None, environment: None, ..answers() }).expect_err("refused");
        assert!(format!("{error:#}").contains("--environment, --site"), "{error:#}");
        let error = set_up(&path, &Answers { environment: Some("prod".to_owned()), ..answers() }).expect_err("refused");
        assert!(format!("{error:#}").contains("environment"), "{error:#}");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), before);
        set_up(&path, &answers()).expect("set up");
        let done = std::fs::read_to_string(&path).expect("there");
        assert!(format!("{:#}", set_up(&path, &answers()).expect_err("refused")).contains("set up already"));
        assert_eq!(std::fs::read_to_string(&path).expect("there"), done);
    }

    #[test]
    fn a_folder_without_a_main_file_gets_the_shipped_one() {
        let folder = folder();
        let path = folder.path().join("idr-site.toml");
        std::fs::remove_file(&path).expect("ours");
        let given = toml::from_str::<Answers>("organisation_name = \"Toinen\"\nreserve_bytes = 1\n").expect("answers");
        set_up(&path, &Answers { organisation_name: None, ..answers() }.over(given)).expect("set up");
        assert_eq!(Config::load(&path).expect("valid").site.organisation_name, "Toinen");
        assert!(toml::from_str::<Answers>("stie = \"a\"").is_err(), "an unknown answer is refused");
    }
}
