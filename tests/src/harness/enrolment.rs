//! A centre that sites join, and a site that has not joined yet.

use anyhow::Context as _;
use toml::Value;

use super::files::{edit, list, write};
use super::{World, free_port};
use crate::fixtures::pki::write_private;

impl World {
    /// Of a world that is prepared: the centre issues certificates, one operator is enough for an invite, and it knows nothing of the
    /// first site; of its receipts, and of those of the centre at the site, neither side knows the key.
    ///
    /// # Errors
    /// A file cannot be read or written; the authority cannot be made.
    pub fn open_enrolment(&self) -> anyhow::Result<()> {
        let door = free_port()?;
        let id = self.site().id.clone();
        self.central.program.configure(|table| {
            edit(
                table,
                [
                    ("https.public_url", format!("https://localhost:{}", self.central.address.port()).into()),
                    ("enrol.listen", list([door])),
                    ("enrol.public_url", format!("https://localhost:{}", door.port()).into()),
                    ("enrol.two_person", false.into()),
                    ("enrol.authority_certificate", "enrolment.pem".into()),
                    ("enrol.authority_key", "enrolment.key".into()),
                ],
            );
            if let Some(Value::Array(rows)) = table.get_mut("peer") {
                rows.retain(|row| row["name"].as_str() != Some(&id));
            }
        })?;
        self.central.program.command(&["token", "authority"])?;
        let without_keys = |program: &super::Program, change: &dyn Fn(&mut toml::Table)| -> anyhow::Result<()> {
            let path = program.config().parent().context("a folder")?.join("trust.toml");
            let mut table: toml::Table = toml::from_str(&std::fs::read_to_string(&path)?)?;
            table.remove("receipt_keys");
            change(&mut table);
            write(&path, &table)
        };
        without_keys(&self.central.program, &|table| edit(table, [("enrolment_authorities", list(["enrolment.pem"]))]))?;
        without_keys(&self.site().program, &|table| edit(table, [("tls_anchors", list::<&str>([]))]))?;
        self.site().program.configure(|table| {
            table.remove("centre");
            table.remove("assertion");
        })
    }

    /// A join string for the first site, as a private file; the centre may run or not.
    ///
    /// # Errors
    /// The command refuses.
    pub fn invite(&self, mode: &str) -> anyhow::Result<std::path::PathBuf> {
        let (site, organisation) = (&self.site().id, self.hospital.organisation);
        let words = ["token", "create", "--site", site, "--organisation", organisation, "--mode", mode, "--json"];
        let made: serde_json::Value = serde_json::from_str(&self.central.program.command(&words)?)?;
        let path = self.folder().join("join-string");
        write_private(&path, made["join_string"].as_str().context("a join string")?.as_bytes())?;
        Ok(path)
    }
}
