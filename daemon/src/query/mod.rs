//! Query and retrieve: what the site still holds, for devices of its own (PS3.4 Annex C as SCP).
//!
//! [`Query::begin_find`] gives a [`Finding`], [`Query::begin_retrieve`] a [`Retrieval`]; the listener asks each for the next step, so that a
//! cancel is seen between two. [`Mover`] sends to a destination. [`look_up`] goes from an identifier to what is here, [`attributes`] says which keys there are.
//!
//! # Who may ask
//! Devices whose inbound row has `query = true`, for what stands in the register in which their own objects would stand by the
//! controller map. Every access unit (a study, by the AE title that sent it) is decided by [`idr_profile::access::gate_own`] before anything of
//! it is matched, counted or sent, and again before each instance: by the policy at that instant, for unit and device as row,
//! controller map and headers had them when the query began. A reload of them counts from the next query on. What is omitted is in no answer and in no count
//! (profile 05 §8, §9). What is quarantined, rejected or superseded is not here for a query.
//!
//! # Failure
//! The start of a retrieval is noted in the spool's journal, durably, before the first instance leaves; if that fails nothing
//! leaves. A query leaves a line in the log.
//!
//! # Bounds
//! `[query]` of the configuration: objects looked at, answers, queries at once, bytes of an identifier (BD-08). Headers are read one
//! by one, each to its bulk data.

pub mod attributes;
pub mod finding;
pub mod look_up;
pub mod mover;
pub mod retrieval;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use idr_dimse::limits::Limits;
use idr_dimse::service::query_retrieve::{Identifier, Model};
use idr_dimse::status::Status;
use idr_profile::access::{OwnDevice, Policy};
use idr_profile::identifier::Specifier;
use idr_profile::mapping::Origin;
use idr_profile::outcome::Outcomes;
use idr_profile::rules::RuleSets;
use idr_profile::xua::Trust;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::Admitted;
use crate::config::Config;
use crate::forward::Maps;
use crate::outbound::{self, Target, Waits};
use crate::spool::{Spool, Tenant};

pub use finding::{Finding, Found};
pub use mover::Mover;
pub use retrieval::Retrieval;

/// What answers queries.
pub struct Query {
    config: Arc<Config>,
    spool: Arc<dyn Spool>,
    rules: Arc<ArcSwap<RuleSets>>,
    maps: ArcSwap<Maps>,
    policy: Policy,
    clock: fn() -> Timestamp,
    places: Arc<Semaphore>,
    /// By organisation and AE title.
    destinations: HashMap<(Tenant, String), Target>,
    waits: Waits,
}

/// A device that may ask.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Organisation of its row.
    pub tenant: Tenant,
    /// The AE title that it called: Retrieve AE Title of the answers.
    pub called_ae: String,
    /// Its AE title: Move Originator.
    pub calling_ae: String,
    /// Whose register it may see.
    pub device: OwnDevice,
}

/// An operation that is under way, with its place among [`crate::config::Query::at_once`].
pub type Place = OwnedSemaphorePermit;

impl Query {
    /// What `check-config` checks: that every destination over TLS has what it needs.
    ///
    /// # Errors
    /// The first problem, by key.
    pub fn check(config: &Config, trust: &Trust) -> anyhow::Result<()> {
        destinations(config, trust).map(drop)
    }

    /// Over this spool.
    ///
    /// # Errors
    /// As [`Query::check`].
    pub fn new(
        config: Arc<Config>,
        trust: &Trust,
        rules: Arc<ArcSwap<RuleSets>>,
        spool: Arc<dyn Spool>,
        maps: Arc<Maps>,
        clock: fn() -> Timestamp,
    ) -> anyhow::Result<Arc<Self>> {
        let destinations = destinations(&config, trust)?;
        let waits = Waits::from(&Outcomes::base().limits);
        let places = Arc::new(Semaphore::new(config.query.at_once));
        let maps = ArcSwap::new(maps);
        Ok(Arc::new(Self { config, spool, rules, maps, policy: Policy::shipped(), clock, places, destinations, waits }))
    }

    /// What begins from now on is decided by these.
    pub fn reload(&self, maps: Arc<Maps>) {
        self.maps.store(maps);
    }

    /// Most bytes of an identifier (BD-08).
    pub fn identifier_bytes_max(&self) -> usize {
        self.config.query.identifier_bytes_max
    }

    /// Who asks: its own register is the one in which its objects would stand. `None` if the row in force may not ask, or the map
    /// does not say.
    pub fn asker(&self, admitted: &Admitted, may_query: bool) -> Option<Asker> {
        if !may_query {
            tracing::warn!(inbound = admitted.row.name, "a query is answered as if nothing were here: the row has no query = true");
            return None;
        }
        let maps = self.maps.load();
        let row = maps.controllers.find(Origin { ae_title: &admitted.calling_ae, institution: None, service_event: None });
        let Some(register) = row else {
            tracing::warn!(
                inbound = admitted.row.name,
                "a query is answered as if nothing were here: no row of controller-map.toml fits the AE title alone"
            );
            return None;
        };
        let today = maps.zone.to_datetime((self.clock)()).date();
        let specifier = match register.specifier.as_deref().map(|text| Specifier::from_slot(text, today)) {
            None => None,
            Some(Ok(specifier)) => Some(specifier),
            Some(Err(_)) => return None,
        };
        let device = OwnDevice {
            row: admitted.row.name.clone(),
            controller: register.controller.clone(),
            register: register.register.clone(),
            specifier,
        };
        Some(Asker {
            tenant: admitted.tenant.clone(),
            called_ae: admitted.called_ae.clone(),
            calling_ae: admitted.calling_ae.clone(),
            device,
        })
    }

    /// Begins a C-FIND. Without an asker nothing is found.
    ///
    /// # Errors
    /// A700H: too many queries at once, or too much to look at; C000H: the spool cannot be asked.
    pub async fn begin_find(self: &Arc<Self>, asker: Option<Asker>, identifier: Identifier) -> Result<Finding, Status> {
        let place = self.place()?;
        let parts = match &asker {
            Some(asker) => self.look_up(&asker.tenant, &identifier).await?,
            None => Vec::new(),
        };
        Ok(Finding::new(self.clone(), place, asker, identifier, parts))
    }

    /// Begins a C-MOVE or C-GET: decides, and notes it. Without an asker there is nothing to retrieve.
    ///
    /// # Errors
    /// A700H: too many at once, or too much; A701H: the spool cannot be asked; A702H: it cannot be noted.
    pub async fn begin_retrieve(
        self: &Arc<Self>,
        asker: Option<Asker>,
        (model, identifier): (Model, &Identifier),
        to: &str,
    ) -> Result<Retrieval, Status> {
        let place = self.place()?;
        let unable = |status: Status| if status == Status::OUT_OF_RESOURCES { status } else { Status::UNABLE_TO_CALCULATE_MATCHES };
        let parts = match &asker {
            Some(asker) => self.look_up(&asker.tenant, identifier).await.map_err(unable)?,
            None => Vec::new(),
        };
        Retrieval::begin(self.clone(), place, asker, (model, identifier), parts, to).await
    }

    /// Who sends what is retrieved to a destination, for the message of this id. `None`: it is not configured for the organisation of
    /// who asks.
    pub fn mover(&self, asker: &Asker, destination: &str, message_id: u16, retrieval: &Retrieval) -> Option<Mover> {
        let target = self.destinations.get(&(asker.tenant.clone(), destination.to_owned()))?;
        let limits = Limits { pdu_length_max: self.config.dimse.pdu_length_max, ..Limits::default() };
        Some(Mover::new(target.clone(), asker, message_id, retrieval.kinds(), limits, self.waits))
    }

    /// Whether a destination is configured for an organisation.
    pub fn has_destination(&self, tenant: &Tenant, destination: &str) -> bool {
        self.destinations.contains_key(&(tenant.clone(), destination.to_owned()))
    }

    fn place(&self) -> Result<Place, Status> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            tracing::warn!("a query is refused: there are query.at_once already");
            Status::OUT_OF_RESOURCES
        })
    }
}

fn destinations(config: &Config, trust: &Trust) -> anyhow::Result<HashMap<(Tenant, String), Target>> {
    let mut client: Option<Arc<rustls::ClientConfig>> = None;
    let mut destinations = HashMap::new();
    for (at, row) in config.destination.iter().enumerate() {
        let key = || format!("destination[{at}]");
        let tls = if row.tls {
            let config = match &client {
                Some(config) => config.clone(),
                None => client.insert(Arc::new(outbound::client_tls(config, trust).with_context(key)?)).clone(),
            };
            Some((config, outbound::server_name(row.server_name.as_deref(), row.address).with_context(key)?))
        } else {
            None
        };
        let target = Target { address: row.address, ae_title: row.ae_title.clone(), tls, certificates: row.certificates.clone() };
        destinations.insert((row.tenant.parse().with_context(key)?, row.ae_title.clone()), target);
    }
    Ok(destinations)
}

#[cfg(test)]
mod tests;
