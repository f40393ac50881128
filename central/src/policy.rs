//! The files that decide about access, as the configuration names them: read alike by the centre and by `consent decide`.

use anyhow::Context as _;
use idr_profile::access::{Policy, PolicyFiles};
use idr_profile::identifier::IdentityRules;
use idr_profile::xua::XuaRules;

use crate::config::Config;
use idr_host::files;

/// Access policy, assertion rules and identity rules of one reading.
pub struct Reading {
    /// Texts of `access.toml`, the base set first.
    pub access: Vec<String>,
    /// What they say.
    pub policy: Policy,
    /// Assertion rules.
    pub xua: XuaRules,
    /// Identity rules.
    pub identity: IdentityRules,
    /// All of them under their hash.
    pub files: PolicyFiles,
}

impl Reading {
    /// Reads all of them.
    ///
    /// # Errors
    /// File and key of the first problem.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let (access, xua) = (set_files(config, "access.toml")?, set_files(config, "xua.toml")?);
        let identity = base_file(config, "identity.toml")?;
        Ok(Self {
            policy: Policy::layered(&texts(&access))?,
            xua: XuaRules::layered(&texts(&xua))?,
            files: PolicyFiles::of(&texts(&access), &texts(&xua), &[&identity])?,
            identity: IdentityRules::parse(&identity)?,
            access,
        })
    }
}

/// A file of the base set.
pub fn base_file(config: &Config, name: &str) -> anyhow::Result<String> {
    files::read_text(&config.files.rules.join("base").join(name)).with_context(|| format!("{name} of the base set"))
}

/// The file of the base set, then that of the first set in use if it has one of its own.
pub fn set_files(config: &Config, name: &str) -> anyhow::Result<Vec<String>> {
    let mut texts = vec![base_file(config, name)?];
    let own = config.central.rule_sets.first().filter(|set| *set != "base").map(|set| config.files.rules.join(set).join(name));
    if let Some(path) = own.filter(|path| path.is_file()) {
        texts.push(files::read_text(&path)?);
    }
    Ok(texts)
}

/// As the readers take them.
pub fn texts(files: &[String]) -> Vec<&str> {
    files.iter().map(String::as_str).collect()
}
