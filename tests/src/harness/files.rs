//! Configuration folders, from the shipped files.

use std::path::Path;

use anyhow::Context as _;
use toml::{Table, Value};

use crate::fixtures::pki::{Identity, Pki, Usage};
use crate::fixtures::study::ORGANISATION;
use crate::shared::workspace;

/// An organisation with its keys, as `trust.toml` knows it.
#[derive(Debug, Clone)]
pub struct Party {
    /// OID.
    pub organisation: &'static str,
    /// Its register's controller.
    pub controller: &'static str,
    /// Register code.
    pub register: &'static str,
    /// TLS client certificate of its viewer.
    pub viewer: Identity,
    /// System signature certificate.
    pub signature: Identity,
}

/// Name of the key files, organisation, controller and register of the organisation of the sites.
const HOSPITAL: (&str, &str, &str, &str) = ("hospital", ORGANISATION, "1.2.246.10.90000011.19.0", "2");
/// A private organisation with a register of its own.
const OTHER: (&str, &str, &str, &str) = ("other", "1.2.246.10.90000038", "1.2.246.10.90000038.19.0", "3");

impl Party {
    /// Issues the keys of the hospital.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn issue_hospital(pki: &Pki) -> anyhow::Result<Self> {
        Self::of(HOSPITAL, |name, usage| pki.issue(name, HOSPITAL.1, usage))
    }

    /// Issues the keys of the other organisation.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn issue_other(pki: &Pki) -> anyhow::Result<Self> {
        Self::of(OTHER, |name, usage| pki.issue(name, OTHER.1, usage))
    }

    /// The hospital of a world that is there, from its folder.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub fn hospital(world: &Path) -> anyhow::Result<Self> {
        Self::of(HOSPITAL, |name, _| Identity::read(&world.join("keys"), name))
    }

    /// The other organisation of a world that is there.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub fn other(world: &Path) -> anyhow::Result<Self> {
        Self::of(OTHER, |name, _| Identity::read(&world.join("keys"), name))
    }

    fn of(
        (name, organisation, controller, register): (&str, &'static str, &'static str, &'static str),
        identity: impl Fn(&str, Usage) -> anyhow::Result<Identity>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            organisation,
            controller,
            register,
            viewer: identity(&format!("{name}-viewer"), Usage::Client)?,
            signature: identity(&format!("{name}-signature"), Usage::Signature)?,
        })
    }

    /// `Issuer` of its assertions.
    pub fn entity_id(&self) -> String {
        format!("urn:oid:{}", self.organisation)
    }

    /// OID of its software.
    pub fn software(&self) -> String {
        format!("{}.12.9", self.organisation)
    }

    /// OID of one of its units.
    pub fn unit(&self) -> String {
        format!("{}.10.1", self.organisation)
    }
}

/// A file of `configs/` as a table.
pub fn shipped(name: &str) -> anyhow::Result<Table> {
    let path = workspace().join("configs").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// Sets keys by their dotted names; tables on the way are made.
///
/// ```
/// let mut table = toml::toml! { [storage]
/// path = "a" };
/// idr_tests::harness::edit(&mut table, [("storage.path", "b".into()), ("health.listen", "127.0.0.1:0".into())]);
/// assert_eq!(table["storage"]["path"].as_str(), Some("b"));
/// assert_eq!(table["health"]["listen"].as_str(), Some("127.0.0.1:0"));
/// ```
///
/// # Panics
/// A name on the way is no table.
pub fn edit<'a>(table: &mut Table, keys: impl IntoIterator<Item = (&'a str, Value)>) {
    for (dotted, value) in keys {
        let (mut place, mut rest) = (&mut *table, dotted);
        while let Some((head, tail)) = rest.split_once('.') {
            let inner = place.entry(head).or_insert_with(|| Value::Table(Table::new()));
            place = inner.as_table_mut().unwrap_or_else(|| panic!("{head} of {dotted} is no table"));
            rest = tail;
        }
        place.insert(rest.to_owned(), value);
    }
}

/// Writes a table as a file.
pub fn write(path: &Path, table: &Table) -> anyhow::Result<()> {
    Ok(std::fs::write(path, toml::to_string_pretty(table)?)?)
}

/// A path as a value.
pub fn path(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

/// A list of texts as a value.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(|item| Value::String(item.to_string())).collect())
}

/// Copies the rule sets.
pub fn copy_rules(to: &Path) -> std::io::Result<()> {
    copy_folder(&workspace().join("configs/rules"), to)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// `trust.toml`: both authorities; `parties` may sign and be professionals and technical users.
pub fn trust(pki: &Pki, parties: &[&Party], centre: &str, receipt_keys: &[Table]) -> anyhow::Result<Table> {
    let mut table = shipped("trust.toml")?;
    let organisations = parties.iter().map(|party| party.organisation).chain([centre]);
    let organisation = |oid: &str| {
        let mut row = Table::new();
        edit(&mut row, [("oid", oid.into())]);
        Value::Table(row)
    };
    let issuer = |party: &&Party| {
        let mut row = Table::new();
        edit(
            &mut row,
            [
                ("entity_id", party.entity_id().into()),
                ("organisation", party.organisation.into()),
                ("controllers", list([party.controller])),
                ("kinds", list(["professional", "technical"])),
                ("signing_certificates", Value::Array(vec![path(&party.signature.certificate)])),
            ],
        );
        Value::Table(row)
    };
    edit(
        &mut table,
        [
            ("signing_anchors", Value::Array(vec![path(&pki.signing_anchor())])),
            ("tls_anchors", Value::Array(vec![path(&pki.tls_anchor())])),
            ("modality_anchors", Value::Array(vec![path(&pki.tls_anchor())])),
            ("organisation", Value::Array(organisations.map(organisation).collect())),
            ("issuer", Value::Array(parties.iter().map(issuer).collect())),
        ],
    );
    if !receipt_keys.is_empty() {
        edit(&mut table, [("receipt_keys", Value::Array(receipt_keys.iter().cloned().map(Value::Table).collect()))]);
    }
    Ok(table)
}
