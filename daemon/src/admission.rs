//! Is this association wanted here, and if not, which answer (stage A of profile 01).
//!
//! [`Ingress`] is what every way in shares: configuration, rule sets, spool, the count of open associations. The
//! inbound table decides who may send: a row matches by calling AE title, address, and what the row demands of TLS; an
//! empty table matches nobody. The first row that matches is taken. Of several reasons to refuse the lowest rule is told.
//!
//! # Failure
//! A refusal is one line in the journal with the rule and its remedy; the peer gets the reject of the rule's row. A rule
//! set that is not in force today refuses everybody: nothing could be judged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_dimse::association::Context as PresentationContext;
use idr_dimse::association::negotiation::{Acceptance, ContextResult, Policy, Request, Roles, STORAGE_EXTENDED_NEGOTIATION, Support};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::pdu::Rejection;
use idr_dimse::service::storage::StoreRequest;
use idr_host::places::{Place, Places};
use idr_profile::rules::{Occurrence, Reply, RuleSet, RuleSets, Rules};
use jiff::Timestamp;

use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::config::{Config, Inbound, TlsDemand};
use crate::forward::Forward;
use crate::header_memory::HeaderMemory;
use crate::health::Counters;
use crate::query::Query;
use crate::reception::{Origin, Reception};
use crate::spool::{Refusal, Spool, Tenant};
use idr_host::inbound::Least;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// SHA-256 of its verified certificate, 64 hex digits.
    pub certificate_sha256: Option<String>,
}

/// What a reload exchanges, all of it at once; an association keeps what it began with.
pub struct InForce {
    /// Main configuration.
    pub config: Arc<Config>,
    /// Rule sets.
    pub rules: Arc<RuleSets>,
    /// `organisation_oids` of the controller map.
    pub organisation_oids: Vec<String>,
}

impl InForce {
    /// The rule set of an instant.
    fn set(&self, now: Timestamp) -> Option<Arc<RuleSet>> {
        self.rules.in_force(&self.config.site.rule_sets, now).cloned()
    }
}

/// What every way in shares.
pub struct Ingress {
    in_force: ArcSwap<InForce>,
    /// Where instances go.
    pub spool: Arc<dyn Spool>,
    /// Who is told that they are safe.
    pub commitments: Arc<Commitments>,
    /// What devices say of their studies.
    pub completeness: Arc<Completeness>,
    /// What devices of the site's own may see.
    pub query: Arc<Query>,
    /// What the headers of all instances on their way take.
    pub header_memory: HeaderMemory,
    /// Counters of the health port.
    pub counters: Arc<Counters>,
    /// The clock of this program.
    pub clock: fn() -> Timestamp,
    /// Who takes the reports of storage commitment of what was forwarded; none before it is there, or without a centre.
    pub reports: OnceLock<Arc<Forward>>,
    associations: Places,
}

/// An association that is wanted.
pub struct Admitted {
    /// Its row.
    pub row: Arc<Inbound>,
    /// Its organisation.
    pub tenant: Tenant,
    /// What was in force when it began.
    pub in_force: Arc<InForce>,
    /// Rules that apply to it.
    pub rules: Arc<Rules>,
    /// What it may propose.
    pub policy: Policy,
    /// As announced, padding removed.
    pub calling_ae: String,
    /// As announced, padding removed.
    pub called_ae: String,
    _place: Place,
}

impl Ingress {
    /// Ways in over this spool.
    pub fn new(
        in_force: InForce,
        spool: Arc<dyn Spool>,
        (commitments, completeness, query): (Arc<Commitments>, Arc<Completeness>, Arc<Query>),
        counters: Arc<Counters>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let header_memory = HeaderMemory::new(in_force.config.reception.header_memory_bytes);
        let in_force = ArcSwap::from_pointee(in_force);
        Self {
            in_force,
            spool,
            commitments,
            completeness,
            query,
            header_memory,
            counters,
            clock,
            reports: OnceLock::new(),
            associations: Places::default(),
        }
    }

    /// What is in force now.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// What begins from now on goes by these.
    pub fn reload(&self, in_force: InForce) {
        self.in_force.store(Arc::new(in_force));
    }

    /// Main configuration in force now.
    pub fn config(&self) -> Arc<Config> {
        self.in_force.load().config.clone()
    }

    /// Bounds of PDUs and messages.
    pub fn limits(&self) -> Limits {
        Limits { pdu_length_max: self.config().dimse.pdu_length_max, ..Limits::default() }
    }

    /// Least pace of a message.
    pub fn least_pace(&self) -> Least {
        let in_force = self.in_force.load();
        let dimse = &in_force.config.dimse;
        Least { bytes_per_second: dimse.pace_bytes_per_second, window: Duration::from_secs(dimse.pace_seconds) }
    }

    /// Waits for a peer.
    pub fn timeouts(&self) -> Timeouts {
        let in_force = self.in_force();
        let receive = in_force.set((self.clock)()).map_or(60, |set| set.rules_for(None).parameters().receive_idle_s);
        Timeouts {
            artim: Duration::from_secs(in_force.config.dimse.artim_seconds),
            between_messages: Duration::from_secs(in_force.config.dimse.idle_seconds),
            receive: Duration::from_secs(u64::from(receive)),
            ..Timeouts::default()
        }
    }

    /// Rules D001, D002 and D005–D007; D003 and D004 are found by the negotiation and the machine.
    ///
    /// # Errors
    /// The reject that the rule's row names.
    pub fn associate(&self, request: &Request, peer: &Peer) -> Result<Admitted, Rejection> {
        let calling_ae = request.calling_ae_title.trim_matches(' ').to_owned();
        let called_ae = request.called_ae_title.trim_matches(' ').to_owned();
        let in_force = self.in_force();
        let Some(set) = in_force.set((self.clock)()) else {
            tracing::error!(sets = ?in_force.config.site.rule_sets, "no rule set is in force today: every association is refused; install a current rule set");
            self.counters.rejected("no rule set in force");
            return Err(Rejection::CONGESTION);
        };
        let site_rules = set.rules_for(None);
        let refuse = |occurrence| self.refuse(site_rules, occurrence, &calling_ae, peer);
        let row = match row(&in_force.config.inbound, &calling_ae, peer) {
            Err(Occurrence::CallingAeNotAllowed) => return Err(refuse(Occurrence::CallingAeNotAllowed)),
            _ if !in_force.config.dimse.local_ae_titles.contains(&called_ae) => return Err(refuse(Occurrence::CalledAeUnknown)),
            Err(occurrence) => return Err(refuse(occurrence)),
            Ok(row) => row,
        };
        let Ok(tenant) = row.tenant.parse::<Tenant>() else {
            // Not reached: the configuration was checked.
            return Err(refuse(Occurrence::CallingAeNotAllowed));
        };
        let rules = set.rules_for(Some(&calling_ae)).clone();
        let Some(place) = self.place(peer.address, &rules) else {
            return Err(refuse(Occurrence::AssociationLimit));
        };
        if let Some(refusal) = self.spool.refusing(&tenant) {
            tracing::warn!(cause = %refusal, "the spool refuses new objects");
            return Err(refuse(Occurrence::SpoolRefusing));
        }
        let policy = Policy {
            abstract_syntaxes: Arc::new(supported(&rules, row.query, may_report(&in_force.config, &row))),
            only: None,
            identity_verified: false,
        };
        Ok(Admitted { row, tenant, in_force, rules, policy, calling_ae, called_ae, _place: place })
    }

    /// Whether the row that admitted this peer still stands in the table and still fits it; if not, the rest of what it sends is
    /// refused (0124H, profile 01 §2).
    pub fn still_admits(&self, admitted_by: &Inbound, then: &Arc<InForce>, peer: &Peer) -> bool {
        let in_force = self.in_force.load();
        let of_name = in_force.config.inbound.iter().find(|row| row.name == admitted_by.name);
        let stands = Arc::ptr_eq(&in_force, then)
            || of_name.is_some_and(|row| row.ae_title == admitted_by.ae_title && fit(row, peer) == Fit::Proven);
        if !stands {
            tracing::warn!(
                inbound = admitted_by.name, calling_ae_title = admitted_by.ae_title, peer = %peer.address,
                "its row was removed from the inbound table: what it sends is refused (0124H)"
            );
        }
        stands
    }

    /// Whether the row of this name may ask as the table stands now.
    pub fn may_query(&self, admitted_by: &Inbound) -> bool {
        self.in_force.load().config.inbound.iter().any(|row| row.name == admitted_by.name && row.query)
    }

    /// Associations that are open.
    pub fn associations_open(&self) -> usize {
        self.associations.open()
    }

    /// The forwarder, for a row by which the destination reports what it has committed (profile 10 F07).
    pub fn report_taker(&self, admitted_by: &Inbound) -> Option<&Arc<Forward>> {
        self.reports.get().filter(|_| may_report(&self.in_force.load().config, admitted_by))
    }

    fn place(&self, peer: IpAddr, rules: &Rules) -> Option<Place> {
        let parameters = rules.parameters();
        self.associations.take(peer, parameters.associations_max as usize, parameters.associations_per_peer_max as usize).ok()
    }

    fn refuse(&self, rules: &Rules, occurrence: Occurrence, calling_ae: &str, peer: &Peer) -> Rejection {
        match rules.occurrence(occurrence, (self.clock)()) {
            Some(finding) => {
                self.counters.rejected(&finding.rule);
                tracing::warn!(
                    rule = finding.rule, calling_ae_title = calling_ae, peer = %peer.address, tls = peer.tls, remedy = finding.remedy,
                    "association refused: {}", finding.comment
                );
                match finding.reply {
                    Reply::Reject { result, source, reason } => Rejection::new(result, source, reason),
                    _ => Rejection::NO_REASON,
                }
            }
            // The rows of this stage are locked, so this is a rule set without the row: refuse without a reason.
            None => {
                self.counters.rejected("no rule");
                Rejection::NO_REASON
            }
        }
    }

    /// The negotiation refused the application context (D003).
    pub fn refused_context(&self, request: &Request, peer: &Peer, rejection: Rejection) -> Rejection {
        match self.in_force().set((self.clock)()) {
            Some(set) => self.refuse(set.rules_for(None), Occurrence::ApplicationContext, &request.calling_ae_title, peer),
            None => rejection,
        }
    }

    /// Journal of D008 and D009: one line for the presentation contexts that were not accepted, by rule.
    pub fn note_contexts(&self, admitted: &Admitted, acceptance: &Acceptance) {
        for (result, occurrence) in [
            (ContextResult::AbstractSyntaxNotSupported, Occurrence::AbstractSyntax),
            (ContextResult::TransferSyntaxesNotSupported, Occurrence::TransferSyntaxes),
        ] {
            let refused: Vec<&str> = acceptance
                .contexts
                .iter()
                .filter(|context| context.result == result)
                .map(|context| context.abstract_syntax.as_str())
                .collect();
            if refused.is_empty() {
                continue;
            }
            if let Some(finding) = admitted.rules.occurrence(occurrence, (self.clock)()) {
                tracing::info!(
                    rule = finding.rule,
                    calling_ae_title = admitted.calling_ae,
                    contexts = refused.len(),
                    first = refused[0],
                    "presentation contexts not accepted: {}",
                    finding.comment
                );
            }
        }
    }

    /// The row of a STOW-RS request: of this tenant's rows with `stow` the one that fits. The configuration has seen to it that
    /// there is no other.
    pub fn stow_row(&self, tenant: &str, peer: &Peer) -> Option<Arc<Inbound>> {
        let in_force = self.in_force.load();
        let mut rows = in_force.config.inbound.iter().filter(|row| row.stow && row.tenant == tenant);
        rows.find(|row| fit(row, peer) == Fit::Proven).cloned().map(Arc::new)
    }

    /// Whether an instance of a row that comes as a Part 10 stream is wanted now.
    ///
    /// # Errors
    /// [`NotNow`]; the file can wait.
    pub fn origin(&self, row: &Arc<Inbound>) -> Result<Origin, NotNow> {
        let in_force = self.in_force();
        let set = in_force.set((self.clock)()).ok_or(NotNow::NoRules)?;
        let tenant = row.tenant.parse::<Tenant>().map_err(|_| NotNow::NoRules)?;
        if let Some(refusal) = self.spool.refusing(&tenant) {
            return Err(NotNow::Spool(refusal));
        }
        let rules = set.rules_for(Some(&row.ae_title)).clone();
        let called_ae = in_force.config.dimse.local_ae_titles.first().map_or(NO_CALLED_AE, String::as_str).to_owned();
        Ok(Origin { row: row.clone(), tenant, in_force, rules, called_ae })
    }

    /// Begins to receive one instance.
    pub async fn receive(
        self: &Arc<Self>,
        admitted: &Admitted,
        peer: &Peer,
        context: &PresentationContext,
        request: &StoreRequest,
    ) -> Reception {
        Reception::begin(self.clone(), admitted, peer, context, request).await
    }
}

/// Whether the destination calls by this row to report.
fn may_report(config: &Config, row: &Inbound) -> bool {
    let archive = config.centre.as_ref().and_then(|centre| centre.dimse.as_ref());
    archive.and_then(|archive| archive.report_row.as_ref()).is_some_and(|name| *name == row.name)
}

/// How a row fits a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// In all it asks for.
    Proven,
    /// But for TLS, which it asks for.
    WithoutTls,
    Not,
}

fn fit(row: &Inbound, peer: &Peer) -> Fit {
    if !row.receives() || !row.addresses.is_empty() && !row.addresses.iter().any(|network| network.contains(peer.address)) {
        return Fit::Not;
    }
    if row.tls != TlsDemand::Optional && !peer.tls {
        return Fit::WithoutTls;
    }
    let known = |sha256: &String| row.certificates.is_empty() || row.certificates.iter().any(|pin| pin.eq_ignore_ascii_case(sha256));
    let proven = match row.tls {
        TlsDemand::Mutual => peer.certificate_sha256.as_ref().is_some_and(known),
        TlsDemand::Optional | TlsDemand::Required => row.certificates.is_empty() || peer.certificate_sha256.as_ref().is_some_and(known),
    };
    if proven { Fit::Proven } else { Fit::Not }
}

/// The first row for this caller; else why there is none.
fn row(inbound: &[Inbound], calling_ae: &str, peer: &Peer) -> Result<Arc<Inbound>, Occurrence> {
    let mut without_tls = false;
    for row in inbound.iter().filter(|row| row.ae_title == calling_ae) {
        match fit(row, peer) {
            Fit::Proven => return Ok(Arc::new(row.clone())),
            Fit::WithoutTls => without_tls = true,
            Fit::Not => {}
        }
    }
    Err(if without_tls { Occurrence::TlsRequired } else { Occurrence::CallingAeNotAllowed })
}

/// Why no file is taken now. `Display` is the sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Nothing could be judged.
    #[error("no rule set is in force today: install a current rule set")]
    NoRules,
    /// The spool refuses.
    #[error(transparent)]
    Spool(Refusal),
}

/// Stands for this site in the record of a file, where no AE title is configured: nobody was called.
const NO_CALLED_AE: &str = "DROP_FOLDER";

/// SOP classes of the rule set with their transfer syntaxes, Verification, Storage Commitment, procedure steps and notices;
/// for who may ask also query and retrieve. Who may report is SCP of storage commitment (PS3.4 §J.3.3).
fn supported(rules: &Rules, query: bool, reports: bool) -> BTreeMap<String, Support> {
    // Who retrieves by C-GET is SCP of what it gets.
    let roles = Roles { scu: true, scp: query };
    let mut supported: BTreeMap<String, Support> = rules
        .sop_classes()
        .iter()
        .map(|(uid, class)| {
            let support = Support {
                transfer_syntaxes: class.transfer_syntaxes.to_vec(),
                roles,
                extended_negotiation: Some(STORAGE_EXTENDED_NEGOTIATION.to_vec()),
            };
            (uid.to_owned(), support)
        })
        .collect();
    let roles = Roles { scu: true, scp: false };
    let data = idr_dimse::service::data_set::TRANSFER_SYNTAXES.map(str::to_owned).to_vec();
    use idr_dimse::service::{instance_availability, mpps, query_retrieve, storage_commitment, verification};
    let always =
        [verification::SOP_CLASS_UID, storage_commitment::SOP_CLASS_UID, mpps::SOP_CLASS_UID, instance_availability::SOP_CLASS_UID];
    let asked = query_retrieve::SOP_CLASSES.iter().filter(|_| query);
    for service in always.into_iter().chain(asked.map(|(uid, ..)| *uid)) {
        supported.insert(service.to_owned(), Support { transfer_syntaxes: data.clone(), roles, extended_negotiation: None });
    }
    if let Some(support) = supported.get_mut(storage_commitment::SOP_CLASS_UID) {
        support.roles.scp = reports;
    }
    supported
}
