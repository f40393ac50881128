//! Is this association wanted here, and as whom (stage A of profile 01; 04 §10.4; 10 §2, §8).
//!
//! Three facts: the row of the TLS certificate, the calling AE title, which the row lists, and the user identity. Of several
//! reasons to refuse the lowest rule is told. Without an identity only Verification is accepted.
//!
//! # Failure
//! A refusal has its journal line and, where it is of the peer or its identity, its record; the peer gets the reject alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use idr_dimse::association::negotiation::{Policy, Request, Roles, STORAGE_EXTENDED_NEGOTIATION, Support};
use idr_dimse::pdu::Rejection;
use idr_dimse::service::{data_set, storage_commitment, verification};
use idr_host::places::Place;
use idr_profile::access::Gate;
use idr_profile::rules::{Occurrence, Reply, Rules};
use idr_profile::xua::{Code, Refusal, RequestFacts, Transaction, dimse};

use super::Dimse;
use crate::assertion::{self, Asked, Authenticated};
use crate::central::Central;
use crate::https::server::Client;
use crate::peer;

/// An association that is wanted.
pub struct Admitted {
    /// Whose certificate it is.
    pub peer: peer::Admitted,
    /// Its AE title, padding removed.
    pub calling_ae: String,
    /// The AE title that it calls, padding removed.
    pub called_ae: String,
    /// What it may propose.
    pub policy: Policy,
    /// Whose identity it carries; `None`: it may do nothing but C-ECHO.
    pub who: Option<Authenticated>,
    _place: Place,
}

impl Dimse {
    /// Rules D001, D002, D005, D006, then the user identity.
    ///
    /// # Errors
    /// The reject that the rule's row, or 04 §10.4, names.
    pub(super) async fn associate(&self, request: &Request, client: &Client) -> Result<Admitted, Rejection> {
        let central = &*self.central;
        let calling_ae = request.calling_ae_title.trim_matches(' ').to_owned();
        let called_ae = request.called_ae_title.trim_matches(' ').to_owned();
        let request_id = format!("urn:uuid:{}", central.random_id());
        let asked = Asked { transaction: Some(Transaction::CStore), request_id, client: client.clone() };
        let Some(rules) = central.rules_in_force() else {
            tracing::error!("no rule set of central.rule_sets is in force: every association is refused");
            return Err(Rejection::CONGESTION);
        };
        let refuse = |occurrence| refuse(central, &rules, occurrence, &calling_ae, client);
        let row = peer::admitted(central, &asked)
            .await
            .map_err(|refusal| unavailable(&refusal).unwrap_or_else(|| refuse(Occurrence::CallingAeNotAllowed)))?;
        if !row.row.ae_titles.contains(&calling_ae) {
            let cause = format!("the row {} does not list the calling AE title", row.row.name);
            let refusal = peer::turn_away(central, &asked, "D001", &cause).await;
            return Err(unavailable(&refusal).unwrap_or_else(|| refuse(Occurrence::CallingAeNotAllowed)));
        }
        if !central.config.dimse.local_ae_titles.contains(&called_ae) {
            return Err(refuse(Occurrence::CalledAeUnknown));
        }
        let (all, of_peer) = (rules.parameters().associations_max, rules.parameters().associations_per_peer_max);
        let Ok(place) = self.associations.take(client.address.ip(), all as usize, of_peer as usize) else {
            return Err(refuse(Occurrence::AssociationLimit));
        };
        if central.space.is_short() {
            return Err(refuse(Occurrence::SpoolRefusing));
        }
        let who = match &request.user_identity {
            Some(identity) => {
                let facts = RequestFacts::of(Transaction::CStore);
                let verified = assertion::authenticate_dimse(central, asked, identity, facts).await;
                Some(verified.map_err(|refusal| rejected(&refusal))?)
            }
            None if request.contexts.iter().all(|context| context.abstract_syntax != verification::SOP_CLASS_UID) => {
                return Err(rejected(&assertion::refused(central, &asked, None, dimse::missing()).await));
            }
            None => None,
        };
        let mut only = BTreeSet::from([verification::SOP_CLASS_UID.to_owned()]);
        if who.is_some() && row.lists(Transaction::CStore) {
            only.extend(rules.sop_classes().iter().map(|(uid, _)| uid.to_owned()));
        }
        if who.is_some() && row.lists(Transaction::StorageCommitment) {
            only.insert(storage_commitment::SOP_CLASS_UID.to_owned());
        }
        let policy = Policy { abstract_syntaxes: Arc::new(supported(&rules)), only: Some(only), identity_verified: who.is_some() };
        Ok(Admitted { peer: row, calling_ae, called_ae, policy, who, _place: place })
    }

    /// The identity of an association, if it still holds: its row is in force, and it has not expired (04 §10.4). If not, what is
    /// asked for is refused (0124H).
    ///
    /// # Errors
    /// The refusal that the peer is told of; none where its row is gone, or there never was an identity.
    pub(super) fn still_good<'a>(&self, admitted: &'a Admitted, client: &Client) -> Result<&'a Authenticated, Option<Refusal>> {
        let central = &self.central;
        let now = peer::admit(central, client);
        if !now.is_ok_and(|now| now.row.name == admitted.peer.row.name) {
            tracing::warn!(peer = %client.address.ip(), row = admitted.peer.row.name, "its row is not in force any more: what it asks for is refused (0124H)");
            return Err(None);
        }
        match &admitted.who {
            Some(who) if who.subject.usable_until() <= central.now() => Err(Some(Gate::G1.into())),
            Some(who) => Ok(who),
            None => Err(None),
        }
    }
}

/// The reject while the audit store takes no records.
fn unavailable(refusal: &Refusal) -> Option<Rejection> {
    (refusal.code == Code::Unavailable).then(|| rejected(refusal))
}

fn rejected(refusal: &Refusal) -> Rejection {
    let (result, source, reason) = dimse::rejection(refusal);
    Rejection::new(result, source, reason)
}

fn refuse(central: &Central, rules: &Rules, occurrence: Occurrence, calling_ae: &str, client: &Client) -> Rejection {
    let finding = rules.occurrence(occurrence, central.now());
    if let Some(finding) = &finding {
        let (rule, remedy) = (&finding.rule, &finding.remedy);
        tracing::warn!(rule, calling_ae_title = calling_ae, peer = %client.address.ip(), remedy, "association refused: {}", finding.comment);
    }
    match finding.map(|finding| finding.reply) {
        Some(Reply::Reject { result, source, reason }) => Rejection::new(result, source, reason),
        // The rows of this stage are locked, so this is a rule set without the row: refuse without a reason.
        _ => Rejection::NO_REASON,
    }
}

/// Storage classes of the rule set with their transfer syntaxes, Verification and Storage Commitment.
fn supported(rules: &Rules) -> BTreeMap<String, Support> {
    let roles = Roles::default();
    let storage = rules.sop_classes().iter().map(|(uid, class)| {
        let extended_negotiation = Some(STORAGE_EXTENDED_NEGOTIATION.to_vec());
        (uid.to_owned(), Support { transfer_syntaxes: class.transfer_syntaxes.to_vec(), roles, extended_negotiation })
    });
    let data = data_set::TRANSFER_SYNTAXES.map(str::to_owned).to_vec();
    let services = [verification::SOP_CLASS_UID, storage_commitment::SOP_CLASS_UID]
        .map(|uid| (uid.to_owned(), Support { transfer_syntaxes: data.clone(), roles, extended_negotiation: None }));
    storage.chain(services).collect()
}
