//! The two deployment files that say how a study is described and whose it is.

use std::sync::Arc;

use anyhow::Context as _;
use idr_host::files::read_text;
use idr_profile::mapping::{AffinityDomain, Attributes, ConfigError, ControllerMap, ControllerRow, Origin};
use idr_profile::rules::{Carrier, RuleSets};
use idr_profile::scan::{Limits, Scan, Scanner};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::spool::{Cause, Entry, Spool, SpoolError, State};

/// The form of a kept header ([`Spool::keep_header`]).
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// `affinity-domain.toml`, `controller-map.toml` and the site's zone.
pub struct Maps {
    /// Codes, slot names, identifiers.
    pub domain: AffinityDomain,
    /// Who is controller of what.
    pub controllers: ControllerMap,
    /// `site.timezone`.
    pub zone: TimeZone,
    /// Of `controller-map.toml`.
    edition: [u8; 32],
}

/// Reads both files.
///
/// # Errors
/// The first problem, with file and key.
pub fn load_maps(config: &Config) -> anyhow::Result<Arc<Maps>> {
    let zone = TimeZone::get(&config.site.timezone)?;
    let (domain, map) = (&config.files.affinity_domain, &config.files.controller_map);
    let today = zone.to_datetime(idr_host::now()).date();
    let domain = AffinityDomain::load(&read_text(domain)?).with_context(|| domain.display().to_string())?;
    let maps = Maps::new(domain, &read_text(map)?, zone, today).with_context(|| map.display().to_string())?;
    Ok(Arc::new(maps))
}

/// What of one instance decides about its study: its attributes, and the service event if it carries one.
pub struct Described {
    /// For manifest and metadata.
    pub attributes: Attributes,
    /// Service event id of the carriers, when it passes D422.
    pub service_event: Option<String>,
}

/// Describes a stored instance by its header.
///
/// # Errors
/// The spool's.
pub async fn describe(spool: &dyn Spool, entry: &Entry, rules: &RuleSets) -> Result<Described, SpoolError> {
    Ok(Described::of(&read_header(spool, entry).await?, entry, rules))
}

/// Reads the header of a stored instance: from the start of its file to its bulk data; of a released one what was kept of it.
///
/// # Errors
/// The spool's.
pub async fn read_header(spool: &dyn Spool, entry: &Entry) -> Result<Scan, SpoolError> {
    if entry.progress.state == State::Released {
        let header = spool.kept_header(entry.id()).await?.ok_or(SpoolError::Unknown(entry.id()))?;
        let mut scanner = Scanner::new(EXPLICIT_VR_LITTLE_ENDIAN, Limits::default());
        scanner.feed(&header);
        return Ok(scanner.finish());
    }
    let mut scanner = Scanner::new(&entry.record.announced.transfer_syntax_uid, Limits::default());
    let mut stored = spool.read(entry.id()).await?;
    while let Some(bytes) = stored.next().await? {
        scanner.feed(&bytes);
        if scanner.has_bulk() || scanner.failed() {
            break;
        }
    }
    Ok(scanner.finish())
}

impl Described {
    /// By a header that was read.
    pub fn of(scan: &Scan, entry: &Entry, rules: &RuleSets) -> Self {
        let set = entry.record.facts.rule_set.split('/').next().unwrap_or_default();
        let service_event = rules.set(set).and_then(|set| {
            let parameters = set.rules_for(Some(&entry.record.announced.calling_ae)).parameters();
            let value =
                |carrier: &Carrier| scan.data_set().text(carrier.value).filter(|text| parameters.service_event_pattern.is_match(text));
            parameters.service_event_carriers.iter().find_map(value)
        });
        Self { attributes: Attributes::of(scan.data_set()), service_event }
    }
}

impl Maps {
    /// `controllers`: text of `controller-map.toml`.
    ///
    /// # Errors
    /// [`ControllerMap::load`].
    pub fn new(domain: AffinityDomain, controllers: &str, zone: TimeZone, today: Date) -> Result<Self, ConfigError> {
        let edition = Sha256::digest(controllers).into();
        Ok(Self { domain, controllers: ControllerMap::load(controllers, today)?, zone, edition })
    }

    /// Changes with every byte of the controller map.
    pub fn edition(&self) -> &[u8; 32] {
        &self.edition
    }

    /// `organisation_oids` of the controller map.
    pub fn organisation_oids(&self) -> Vec<String> {
        self.controllers.organisation_oids.clone()
    }

    /// The row for a study, asked of one of its instances.
    pub fn controlled(&self, entry: &Entry, described: &Described) -> Option<&ControllerRow> {
        self.controllers.find(Origin {
            ae_title: &entry.record.announced.calling_ae,
            institution: described.attributes.institution_oid(),
            service_event: described.service_event.as_deref(),
        })
    }

    /// The cause of a hold for want of a row (D437). A row of register 4 without specifier (D438) does not load.
    pub fn undetermined() -> Cause {
        "D437".parse().expect("a rule id is a cause")
    }
}
