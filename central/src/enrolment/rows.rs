//! What enrolled sites are in force: their peer rows, and what they add to the trust file.

use idr_profile::tls;
use idr_profile::xua::Enrolled;
use jiff::Timestamp;

use crate::config::{Model, Peer};
use crate::store::enrolment::{EnrolledSite, EnrolledState, HeldCertificate};

/// Peer rows of the sites in force.
pub fn peers(sites: &[EnrolledSite], now: Timestamp) -> Vec<Peer> {
    sites.iter().filter(|site| site.state == EnrolledState::Active).map(|site| peer(site, now)).collect()
}

fn peer(site: &EnrolledSite, now: Timestamp) -> Peer {
    let binding = &site.record.binding;
    Peer {
        name: site.site.clone(),
        organisation: binding.organisation.clone(),
        model: Model::C1,
        certificates: site.record.tls.iter().filter(|held| counts(held, now)).map(|held| held.sha256.clone()).collect(),
        ae_titles: binding.ae_titles.clone(),
        commitment_address: None,
        commitment_ae_title: None,
        commitment_server_name: None,
        commitment_certificates: Vec::new(),
        transactions: binding.transactions.clone(),
        controller: None,
        register: None,
        valid_from: None,
        valid_to: None,
    }
}

/// What is added to the trust file, and the certificates that count for nothing any more.
///
/// Certificates of a join that is not confirmed are neither: a certificate that is registered may be in use already by a row of the
/// main file.
pub fn trusted(sites: &[EnrolledSite], now: Timestamp) -> (Vec<Enrolled>, Vec<[u8; 32]>) {
    let active = |site: &&EnrolledSite| site.state == EnrolledState::Active;
    let enrolled = sites.iter().filter(active).map(|site| enrolled(site, now)).collect();
    let ended = sites.iter().filter(|site| site.state != EnrolledState::Pending).flat_map(|site| {
        let all = site.record.tls.iter().chain(&site.record.sign);
        all.filter(move |held| site.state != EnrolledState::Active || !counts(held, now)).filter_map(digest)
    });
    (enrolled, ended.collect())
}

fn enrolled(site: &EnrolledSite, now: Timestamp) -> Enrolled {
    let in_force = |held: &&HeldCertificate| counts(held, now);
    let first = |held: &HeldCertificate| Some(tls::certificates(held.pem.as_bytes(), "a kept chain").ok()?.first()?.to_vec());
    Enrolled {
        organisation: site.record.binding.organisation.clone(),
        entity_id: site.record.entity_id.clone(),
        controllers: site.record.binding.controllers.clone(),
        tls: site.record.tls.iter().filter(in_force).filter_map(digest).collect(),
        signing: site.record.sign.iter().filter(in_force).filter_map(first).collect(),
        receipt_keys: site.record.receipt_keys.clone(),
    }
}

/// Whether a certificate counts: it is the newest, or its overlap has not ended.
fn counts(held: &HeldCertificate, now: Timestamp) -> bool {
    held.until.is_none_or(|until| now <= until)
}

fn digest(held: &HeldCertificate) -> Option<[u8; 32]> {
    hex::decode(&held.sha256).ok()?.try_into().ok()
}
