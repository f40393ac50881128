//! Judging, levels, site settings. The rules one by one: [`examples`]; the tables of the profile: [`tables`].

use super::*;
use crate::identifier::Environment;
use crate::scan::testing::{CT_IMAGE, EXPLICIT, IMPLICIT, Set, ct, file_meta, part10};
use crate::scan::{Limits, Part10Reader, Scan, Scanner, tags};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

mod examples;
mod tables;

const RECEIVED: &str = "2026-01-15T12:00:00Z";
const MR_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.4";
const JPEG: &str = "1.2.840.10008.1.2.4.70";
/// Code, names, interval, modalities.
const CODE_LIST: &str = "code\tname_fi\tname_sv\tvalid_from\tvalid_until\tmodalities
AA1AD\tPään TT\tDT av huvudet\t2019-01-01\t\tCT
BB1BB\tVanha\t\t2010-01-01\t2018-12-31\t
";
const H264: &str = "1.2.840.10008.1.2.4.102";

#[derive(Clone, Copy, PartialEq)]
enum How {
    Dimse,
    Stow,
    DropFolder,
}

/// One object and how it comes.
#[derive(Clone)]
struct Case {
    set: Set,
    syntax: &'static str,
    how: How,
    /// In place of the encoded data set.
    data: Option<Vec<u8>>,
    /// In place of the whole file.
    file: Option<Vec<u8>>,
    meta: Set,
    affected_class: String,
    affected_instance: String,
    abstract_syntax: String,
    url_study: Option<&'static str>,
    part_syntax: Option<&'static str>,
    environment: Environment,
    received: &'static str,
    patient_id_issuer: Option<&'static str>,
    accession_issuer: Option<&'static str>,
    refuse_to_quarantine: bool,
    site: String,
    /// The set in force has [`CODE_LIST`].
    code_list: bool,
}

impl Case {
    fn new() -> Self {
        Self {
            set: ct(),
            syntax: EXPLICIT,
            how: How::Dimse,
            data: None,
            file: None,
            meta: Set::default(),
            affected_class: CT_IMAGE.to_owned(),
            affected_instance: "1.2.246.10.90000011.77.1.1.1".to_owned(),
            abstract_syntax: CT_IMAGE.to_owned(),
            url_study: None,
            part_syntax: None,
            environment: Environment::Test,
            received: RECEIVED,
            patient_id_issuer: None,
            accession_issuer: None,
            refuse_to_quarantine: false,
            site: String::new(),
            code_list: false,
        }
    }

    /// `edit` changes the CT image.
    fn ct(edit: impl FnOnce(&mut Set)) -> Self {
        let mut case = Self::new();
        edit(&mut case.set);
        case
    }

    /// An object of another class, `P` notation, with only what names it and its patient, and `edit`.
    fn of(class: &str, modality: &str, edit: impl FnOnce(&mut Set)) -> Self {
        let mut case = Self::new();
        let uid = format!("1.2.840.10008.5.1.4.1.1.{class}");
        (case.affected_class, case.abstract_syntax) = (uid.clone(), uid.clone());
        case.set.set(tags::SOP_CLASS_UID, &uid).set(tags::MODALITY, modality);
        edit(&mut case.set);
        case
    }

    fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    fn by(self, how: How) -> Self {
        self.with(|case| case.how = how)
    }

    fn syntax(self, syntax: &'static str) -> Self {
        self.with(|case| case.syntax = syntax)
    }

    fn site(self, site: &str) -> Self {
        self.with(|case| case.site = site.to_owned())
    }

    fn rules(&self) -> Arc<Rules> {
        static LOADED: Mutex<BTreeMap<String, RuleSets>> = Mutex::new(BTreeMap::new());
        let key = format!("{} {:?} {}", self.site, self.environment, self.code_list);
        let mut loaded = LOADED.lock().expect("no test panics while it loads");
        let sets = loaded.entry(key).or_insert_with(|| {
            let mut files = shipped_files();
            if self.code_list {
                let set = files.get_mut("fi-2.4.1/dicom.toml").expect("shipped");
                let sha256 = hex::encode(sha2::Sha256::digest(CODE_LIST));
                set.push_str(&format!("[[study_code_lists]]\noid = '1.2.246.537.6.2'\nfile = 'codes.tsv'\nsha256 = '{sha256}'\n"));
                files.insert("fi-2.4.1/codes.tsv".to_owned(), CODE_LIST.to_owned());
            }
            RuleSets::load(&files, Some(&self.site), self.environment).expect("valid")
        });
        let set = sets.in_force(&["fi-2.4.1".to_owned()], self.received.parse().expect("instant")).expect("in force");
        set.rules_for(Some("CT01")).clone()
    }

    fn scan(&self, limits: Limits) -> Scan {
        let data = self.data.clone().unwrap_or_else(|| self.set.encoded(self.syntax));
        if self.how == How::Dimse {
            let mut scanner = Scanner::new(self.syntax, limits);
            scanner.feed(&data);
            return scanner.finish();
        }
        let mut meta = file_meta(&self.affected_class, &self.affected_instance, self.syntax);
        meta.merge(&self.meta);
        let mut reader = Part10Reader::new(limits);
        reader.feed(&self.file.clone().unwrap_or_else(|| part10(&meta, &data)));
        reader.finish()
    }

    fn judge(&self) -> Verdict {
        let rules = self.rules();
        let scan = self.scan(rules.parameters().limits());
        let source = match self.how {
            How::Dimse => Source::Dimse {
                affected_class: &self.affected_class,
                affected_instance: &self.affected_instance,
                abstract_syntax: &self.abstract_syntax,
            },
            How::Stow => Source::Stow { url_study: self.url_study, part_transfer_syntax: self.part_syntax },
            How::DropFolder => Source::DropFolder,
        };
        let organisation_oids = ["1.2.246.10.90000011".to_owned()];
        let context = Context {
            received: self.received.parse().expect("instant"),
            source,
            patient_id_issuer: self.patient_id_issuer,
            accession_issuer: self.accession_issuer,
            refuse_to_quarantine: self.refuse_to_quarantine,
            organisation_oids: &organisation_oids,
        };
        rules.judge_instance(&scan, &context)
    }
}

fn found(verdict: &Verdict) -> Vec<&str> {
    verdict.findings.iter().map(|finding| finding.rule.as_str()).collect()
}

/// A hetu made at run time, so that no number of a person stands here.
fn hetu(date: &str, separator: char, number: u16) -> String {
    let digits: usize = format!("{date}{number:03}").parse().expect("digits");
    format!("{date}{separator}{number:03}{}", char::from(b"0123456789ABCDEFHJKLMNPRSTUVWXY"[digits % 31]))
}

const SERIES: dicom_core::Tag = tags::SERIES_INSTANCE_UID;

#[test]
fn a_complete_image_gives_no_finding_whatever_its_encoding_and_way() {
    for syntax in [EXPLICIT, IMPLICIT] {
        for how in [How::Dimse, How::Stow, How::DropFolder] {
            let verdict = Case::new().by(how).syntax(syntax).judge();
            assert_eq!(found(&verdict), [""; 0], "{syntax}");
            assert_eq!(verdict.disposition, Disposition::Accept);
            let identity = verdict.identity.expect("checked UIDs");
            assert_eq!(identity.study_uid, "1.2.246.10.90000011.77.1");
            assert_eq!(identity.patient_id.map(|id| id.to_cx()).as_deref(), Some("010190-900P^^^&1.2.246.21&ISO"));
        }
    }
}

#[test]
fn each_occurrence_has_its_answer() {
    use Occurrence::*;
    let rules = Case::new().rules();
    let reject = |result, source, reason| Reply::Reject { result, source, reason };
    for (occurrence, rule, reply) in [
        (CallingAeNotAllowed, "D001", reject(1, 1, 3)),
        (CalledAeUnknown, "D002", reject(1, 1, 7)),
        (ApplicationContext, "D003", reject(1, 1, 2)),
        (ProtocolVersion, "D004", reject(1, 2, 2)),
        (AssociationLimit, "D005", reject(2, 3, 2)),
        (SpoolRefusing, "D006", reject(2, 3, 1)),
        (TlsRequired, "D007", reject(1, 1, 1)),
        (AbstractSyntax, "D008", Reply::Context(3)),
        (TransferSyntaxes, "D009", Reply::Context(4)),
        (CommandSet, "D012", Reply::Abort(vec![(0, 0)])),
        (Pdu, "D013", Reply::Abort(vec![(2, 1), (2, 2), (2, 6)])),
        (TransferAborted, "D014", Reply::Nothing),
        (PatientIdConflict, "D701", Reply::Status(0xC701)),
        (IssuerConflict, "D702", Reply::Status(0xC702)),
        (SeriesInTwoStudies, "D711", Reply::Status(0xC711)),
        (StudyOfAnotherPatient, "D713", Reply::Status(0xC713)),
        (DuplicateIdentical, "D731", Reply::Status(0xC731)),
        (DuplicateOtherContent, "D732", Reply::Status(0xC732)),
        (RejectedReturns, "D734", Reply::Status(0xC734)),
    ] {
        let finding = rules.occurrence(occurrence, RECEIVED.parse().expect("instant")).expect("not OFF on day 0");
        assert_eq!((finding.rule.as_str(), finding.reply), (rule, reply));
    }
}

#[test]
fn the_lowest_stage_and_then_the_lowest_rule_is_the_answer_and_all_findings_are_kept() {
    let verdict = Case::ct(|set| {
        set.set(tags::ACCESSION_NUMBER, "").set(tags::PATIENT_ID, "").remove(tags::MODALITY);
    })
    .judge();
    assert_eq!(verdict.refused().map(|answer| answer.comment.as_str()), Some("D301 Patient ID missing"));
    let rejecting: Vec<_> =
        verdict.findings.iter().filter(|finding| finding.level.rejects()).map(|finding| finding.rule.as_str()).collect();
    assert_eq!(rejecting, ["D301", "D411", "D903"]);
    // A rejection of stage S leaves stage I unevaluated.
    let stream = Case::ct(|set| {
        set.set(tags::ACCESSION_NUMBER, "");
    })
    .with(|case| case.affected_instance = "1.2.3".to_owned())
    .judge();
    assert_eq!(found(&stream), ["D106"]);
}

#[test]
fn what_builds_on_a_failed_rule_is_not_evaluated() {
    let verdict = Case::ct(|set| {
        set.set(SERIES, "1.x.05");
    })
    .judge();
    assert!(found(&verdict).contains(&"D205") && !found(&verdict).contains(&"D207"));
    // On another element it is.
    let verdict = Case::ct(|set| {
        set.set(SERIES, "1.x.05").set(tags::STUDY_INSTANCE_UID, "1.2.05");
    })
    .judge();
    let leading = verdict.findings.iter().find(|finding| finding.rule == "D207").map(|finding| finding.tags.clone());
    assert_eq!(leading, Some(vec![tags::STUDY_INSTANCE_UID]));
    let verdict = Case::ct(|set| {
        set.set(tags::PATIENT_ID, "31129-X");
    })
    .judge();
    assert_eq!(found(&verdict), ["D305"]);
}

#[test]
fn the_issuer_is_the_first_hit_of_its_five_steps() {
    let step = |case: Case| case.judge().identity.and_then(|identity| identity.issuer_step.zip(identity.patient_id.map(|id| id.authority)));
    let bare = |edit: &dyn Fn(&mut Set)| Case::ct(|set| edit(set.remove(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE)));
    let hetu_oid = |step| Some((step, "1.2.246.21".to_owned()));
    assert_eq!(step(Case::new()), hetu_oid(1));
    assert_eq!(
        step(bare(&|set| {
            set.set(tags::ISSUER_OF_PATIENT_ID, "1.2.246.21");
        })),
        hetu_oid(2)
    );
    assert_eq!(
        step(bare(&|set| {
            set.set(tags::ISSUER_OF_PATIENT_ID, "HETU");
        })),
        hetu_oid(3)
    );
    let default = |case: Case| case.with(|case| case.patient_id_issuer = Some("1.2.246.10.90000011.22.2026"));
    assert_eq!(step(default(bare(&|_| {}))), Some((4, "1.2.246.10.90000011.22.2026".to_owned())));
    assert_eq!(step(bare(&|_| {})), hetu_oid(5));
    assert_eq!(
        step(bare(&|set| {
            set.set(tags::PATIENT_ID, "LOCAL1");
        })),
        None
    );
    assert_eq!(step(bare(&|_| {}).site("parameters = { assume_hetu_without_issuer = false }")), None);
}

#[test]
fn refusal_becomes_quarantine_where_the_source_cannot_be_told() {
    let no_id = || {
        Case::ct(|set| {
            set.set(tags::PATIENT_ID, "");
        })
    };
    assert_eq!(no_id().by(How::DropFolder).judge().disposition, Disposition::Quarantine);
    let quarantining = |case: Case| case.with(|case| case.refuse_to_quarantine = true);
    assert_eq!(quarantining(no_id()).judge().disposition, Disposition::Quarantine);
    // Not for a locked rule, and the answer is that of the rule that refuses.
    let locked = quarantining(Case::ct(|set| {
        set.set(tags::PATIENT_ID, "").set(SERIES, "");
    }))
    .judge();
    assert_eq!(locked.refused().map(|answer| answer.status), Some(0xC203));
}

#[test]
fn warnings_are_told_only_where_the_rule_set_says_so() {
    let warned = || {
        Case::ct(|set| {
            set.set(tags::STUDY_DESCRIPTION, "");
        })
    };
    assert_eq!(warned().judge().success_status, 0x0000);
    assert_eq!(warned().site("parameters = { warn_status = 'B007' }").judge().success_status, 0xB007);
}

#[test]
fn off_gives_no_record() {
    let verdict = Case::ct(|set| {
        set.set(tags::ACCESSION_NUMBER, "");
    })
    .site("levels = { D411 = 'OFF' }")
    .judge();
    assert_eq!(found(&verdict), [""; 0]);
}

#[test]
fn an_ae_title_can_have_its_own_levels() {
    let site = "[[ae]]\ntitle = 'CT01'\nlevels = { D411 = 'WARN' }\n[[ae]]\ntitle = 'CT02'\nlevels = { D411 = 'LOG' }";
    let sets = RuleSets::load(&shipped_files(), Some(site), Environment::Test).expect("valid");
    let set = sets.set("fi-2.4.1").expect("shipped");
    let level = |title| set.rules_for(title).rule("D411").map(|rule| rule.levels.to_string());
    assert_eq!(level(Some("CT01")).as_deref(), Some("WARN"));
    assert_eq!(level(Some("CT02")).as_deref(), Some("LOG"));
    assert_eq!(level(Some("MR01")).as_deref(), Some("REJECT"));
    assert_eq!(level(None).as_deref(), Some("REJECT"));
}

#[test]
fn a_locked_rule_cannot_be_lowered_anywhere() {
    let load = |site: &str| RuleSets::load(&shipped_files(), Some(site), Environment::Test).expect_err("locked").to_string();
    let error = load("levels = { D201 = 'WARN' }");
    assert!(error.contains("site-rules.toml") && error.contains("levels.D201") && error.contains("rule D201"), "{error}");
    let error = load("[[ae]]\ntitle = 'CT01'\nlevels = { D201 = [{ from = 2030-01-01, level = 'OFF' }] }");
    assert!(error.contains("ae.CT01.levels.D201"), "{error}");
    let mut files = shipped_files();
    files.insert("own/dicom.toml".to_owned(), "[rule_set]\nid = 'own'\nrevision = 1\nextends = 'base'\n[levels]\nD107 = 'LOG'".to_owned());
    let error = RuleSets::load(&files, None, Environment::Test).expect_err("locked").to_string();
    assert!(error.contains("rules/own/dicom.toml") && error.contains("levels.D107"), "{error}");
}

#[test]
fn a_national_rule_is_raised_only_with_leave() {
    let site = "levels = { D401 = 'REJECT' }";
    let error = RuleSets::load(&shipped_files(), Some(site), Environment::Test).expect_err("national").to_string();
    assert!(error.contains("D401") && error.contains("allow_stricter"), "{error}");
    assert!(RuleSets::load(&shipped_files(), Some(&format!("allow_stricter = true\n{site}")), Environment::Test).is_ok());
    assert!(RuleSets::load(&shipped_files(), Some("levels = { D401 = 'LOG' }"), Environment::Test).is_ok());
    assert!(RuleSets::load(&shipped_files(), Some("levels = { D319 = 'REJECT' }"), Environment::Test).is_ok());
}

#[test]
fn what_a_file_gets_wrong_is_named() {
    let with = |site: &str| RuleSets::load(&shipped_files(), Some(site), Environment::Test).expect_err("wrong").to_string();
    for (site, named) in [
        ("levles = {}", "levles"),
        ("levels = { D999 = 'LOG' }", "D999"),
        ("levels = { D401 = 'HIGH' }", "HIGH"),
        ("parameters = { late_dayz = 3 }", "late_dayz"),
        ("parameters = { late_days = 'three' }", "late_days"),
        ("parameters = { nesting_depth_max = 9000 }", "nesting_depth_max"),
        ("parameters = { timezone = 'Mars/Olympus' }", "Mars/Olympus"),
        ("[[extra_classes]]\nuid = '1.2.3'\nfamily = 'XYZ'", "XYZ"),
    ] {
        let error = with(site);
        assert!(error.contains(named) && error.contains("site-rules.toml"), "{site}: {error}");
    }
}

#[test]
fn a_code_list_that_cannot_be_read_is_a_problem_and_blocks_nothing() {
    let load = |text: Option<&str>, sha256: String| {
        let mut files = shipped_files();
        let list = format!("[[study_code_lists]]\noid = '1.2.3'\nfile = 'codes.tsv'\nsha256 = '{sha256}'\n");
        files.get_mut("fi-2.4.1/dicom.toml").expect("shipped").push_str(&list);
        files.extend(text.map(|text| ("fi-2.4.1/codes.tsv".to_owned(), text.to_owned())));
        let sets = RuleSets::load(&files, None, Environment::Test).expect("valid");
        let set = sets.set("fi-2.4.1").expect("shipped");
        (set.problems.clone(), set.rules_for(None).study_codes().rows("AA1AD").len())
    };
    let digest = |text: &str| hex::encode(sha2::Sha256::digest(text));
    assert_eq!(load(Some(CODE_LIST), digest(CODE_LIST)), (vec![], 1));
    let (problems, rows) = load(None, digest(CODE_LIST));
    assert!(problems[0].contains("rules/fi-2.4.1/codes.tsv") && rows == 0, "{problems:?}");
    assert!(load(Some(CODE_LIST), digest("")).0[0].contains("sha256"));
    let broken = CODE_LIST.replace("2019-01-01", "1.1.2019");
    let (problems, rows) = load(Some(&broken), digest(&broken));
    assert!(problems[0].contains("line 2") && problems[0].contains("valid_from") && rows == 0, "{problems:?}");
}

#[test]
fn a_chain_of_sets_ends() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (name, extends) in [("a", "b"), ("b", "a")] {
        files.insert(format!("{name}/dicom.toml"), format!("[rule_set]\nid = '{name}'\nrevision = 1\nextends = '{extends}'"));
    }
    assert!(RuleSets::load(&files, None, Environment::Test).expect_err("circle").to_string().contains("extends"));
}

#[test]
fn the_set_in_force_is_the_first_named_whose_interval_holds_the_day() {
    let sets = RuleSets::shipped(Environment::Test);
    let names: Vec<String> = ["fi-3.0-rc1", "fi-2.4", "fi-2.4.1"].map(str::to_owned).to_vec();
    let in_force = |at: &str| sets.in_force(&names, at.parse().expect("instant")).map(|set| set.id.clone());
    assert_eq!(in_force("2026-01-15T12:00:00Z").as_deref(), Some("fi-2.4.1"));
    // 2024-01-30 begins in Helsinki two hours before it does in UTC.
    assert_eq!(in_force("2024-01-29T22:00:00Z").as_deref(), Some("fi-2.4.1"));
    assert_eq!(in_force("2024-01-29T21:59:59Z"), None);
    assert!(sets.set("fi-2.3.4").is_some(), "kept for re-evaluation");
}

#[test]
fn classes_are_accepted_by_family_and_extended_by_the_site() {
    let rules = Case::new().rules();
    let classes = rules.sop_classes();
    let syntaxes = |class: &str| classes.accepted(&format!("1.2.840.10008.5.1.4.1.1.{class}")).map(<[String]>::len);
    assert_eq!((syntaxes("2"), syntaxes("104.1"), syntaxes("88.33"), syntaxes("3.1")), (Some(14), Some(2), Some(3), Some(30)));
    assert_eq!((syntaxes("481.5"), syntaxes("6"), syntaxes("104.2")), (None, None, None));
    let extended = Case::new().site(
        "parameters = { accept_retired = true }\n[[extra_classes]]\nuid = '1.2.840.113619.4.26'\nfamily = 'IMG'\nregistrable = false",
    );
    let rules = extended.rules();
    assert!(rules.sop_classes().accepted("1.2.840.10008.5.1.4.1.1.6").is_some());
    assert!(rules.sop_classes().class("1.2.840.113619.4.26").is_some_and(|class| !class.registrable && class.family == "IMG"));
}
