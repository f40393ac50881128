//! What a site asks: a nonce, to join, and that it has its certificates (profile 10 §6.2).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_profile::enrolment::message::{Confirmed, Endpoints, Join, Joined, Nonce, TrustBundle};
use idr_profile::enrolment::{JoinCode, OutsideBinding, Use, is_token, over, token_sha256};
use idr_profile::receipt::ReceiptKey;
use idr_profile::tls;
use jiff::{SignedDuration, Timestamp};
use rand::RngCore as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::offer::{Offered, Over};
use super::{PATH, Refused, pins, record};
use crate::central::Central;
use crate::https::server::Client;
use crate::https::soap;
use crate::store::enrolment::{EnrolledRecord, EnrolledSite, EnrolledState, HeldCertificate, Invite, InviteState};

/// So long a join is answered again with the same answer.
const REPEATED: SignedDuration = SignedDuration::from_secs(600);
/// So long it waits for its confirmation.
pub const CONFIRMED: SignedDuration = SignedDuration::from_secs(3_600);
/// Tries that a token has.
const TRIES_MAX: u64 = 5;

/// Whether an address may ask now.
///
/// # Errors
/// [`JoinCode::Rate`].
pub fn admit(central: &Central, address: IpAddr) -> Result<(), Refused> {
    let limits = (central.config.enrol.requests_per_address, central.config.enrol.requests);
    let mut limiter = central.enrolment.limiter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if limiter.admit(address, limits, Instant::now()) {
        Ok(())
    } else {
        Err(Refused::new(JoinCode::Rate, format!("{address}: more requests than enrol.requests_per_address or enrol.requests allow")))
    }
}

/// A nonce, for one use.
///
/// # Errors
/// [`JoinCode::Unavailable`]: too many are out.
pub fn nonce(central: &Central) -> Result<Nonce, Refused> {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    let mut nonces = central.enrolment.nonces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if nonces.give(bytes, Instant::now()) {
        Ok(Nonce { nonce: URL_SAFE_NO_PAD.encode(bytes) })
    } else {
        Err(Refused::unavailable("too many nonces are out"))
    }
}

/// Uses a nonce up.
pub(super) fn take_nonce(central: &Central, text: Option<&str>) -> Option<[u8; 32]> {
    let nonce: [u8; 32] = URL_SAFE_NO_PAD.decode(text?).ok()?.try_into().ok()?;
    let mut nonces = central.enrolment.nonces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    nonces.take(&nonce, Instant::now()).then_some(nonce)
}

/// Joins a site; the answer, JSON.
///
/// # Errors
/// [`Refused`]; nothing is kept then but the count of a try.
pub async fn join(central: &Central, asked: &Join) -> Result<String, Refused> {
    let _turn = central.enrolment.turn.lock().await;
    let no_token = |why: &str| Refused::new(JoinCode::Token, why);
    if !is_token(&asked.token) {
        return Err(no_token("a token of another form"));
    }
    let token = token_sha256(&asked.token);
    let token_hex = hex::encode(token);
    let mut tx = central.store.read().await?;
    let invite = tx.invite(&token_hex).await?.ok_or_else(|| no_token("a token that nobody was given"))?;
    let earlier = tx.enrolled_by(&token_hex).await?;
    drop(tx);
    let offers = [(Use::Tls, &asked.tls), (Use::Sign, &asked.sign)].map(|(use_, offer)| Offered::read(offer, use_));
    if invite.state == InviteState::Used {
        return repeated(central, asked, &offers, earlier);
    }
    match invite.state {
        InviteState::Waiting => return Err(no_token("an invite that is not approved yet")),
        InviteState::Burned => return Err(no_token("an invite that was revoked, or tried too often")),
        InviteState::Open if central.now() > invite.expires_at => return Err(no_token("an invite that has expired")),
        InviteState::Open | InviteState::Used => {}
    }
    match settle(central, asked, offers, &invite).await {
        Ok(answer) => Ok(answer),
        Err(refused) if refused.code.counts_as_try() => {
            let failures = count_try(central, &token_hex).await?;
            Err(Refused { why: format!("{} (try {failures} of {TRIES_MAX})", refused.why), ..refused })
        }
        Err(refused) => Err(refused),
    }
}

/// The answer of a join that was done, for the same keys and a while.
fn repeated(
    central: &Central,
    asked: &Join,
    offers: &[Result<Offered, Refused>; 2],
    earlier: Option<EnrolledSite>,
) -> Result<String, Refused> {
    let keys = match offers {
        [Ok(tls), Ok(sign)] => Some(keys_sha256(tls.spki(), sign.spki(), &asked.k6.receipt)),
        _ => None,
    };
    match earlier {
        Some(site) if keys.as_ref() != Some(&site.record.keys_sha256) => {
            Err(Refused::new(JoinCode::OtherKeys, format!("{}: the token was used with other keys", site.site)))
        }
        Some(site) if central.now().duration_since(site.record.joined_at) <= REPEATED => Ok(site.record.answer),
        _ => Err(Refused::new(JoinCode::Token, "a token that was used")),
    }
}

async fn count_try(central: &Central, token_hex: &str) -> Result<u64, Refused> {
    let mut tx = central.store.begin().await?;
    let Some(mut invite) = tx.invite(token_hex).await? else { return Ok(0) };
    invite.failures += 1;
    if invite.failures >= TRIES_MAX {
        invite.state = InviteState::Burned;
    }
    tx.change_invite(&invite).await?;
    tx.commit().await?;
    Ok(invite.failures)
}

async fn settle(central: &Central, asked: &Join, offers: [Result<Offered, Refused>; 2], invite: &Invite) -> Result<String, Refused> {
    let [tls, sign] = offers;
    let (tls, sign) = (tls?, sign?);
    let binding = &invite.record.binding;
    if asked.site != binding.site {
        return Err(Refused::new(JoinCode::Binding, OutsideBinding::Site));
    }
    if tls.spki() == sign.spki() {
        return Err(Refused::new(JoinCode::Profile, "one key for TLS and signatures"));
    }
    if asked.software.len() > 200 {
        return Err(Refused::new(JoinCode::Malformed, "software: longer than 200 bytes"));
    }
    let receipt_key = receipt_key(&binding.organisation, &binding.site, &asked.k6.receipt)?;
    let token = token_sha256(&asked.token);
    let nonce = take_nonce(central, asked.nonce.as_deref());
    let proven = Over(nonce.map(|nonce| over(&token, &binding.site, &nonce)));
    let tls_held = tls.settle(central, Use::Tls, binding, &proven)?;
    let sign_held = sign.settle(central, Use::Sign, binding, &proven)?;
    let now = central.now();
    let answer = answer(central, invite, &tls_held, &sign_held, now).map_err(|error| Refused::unavailable(format!("{error:#}")))?;
    let site = EnrolledSite {
        token_sha256: invite.token_sha256.clone(),
        site: binding.site.clone(),
        state: EnrolledState::Pending,
        changed_at: now,
        record: EnrolledRecord {
            binding: binding.clone(),
            entity_id: invite.record.entity_id.clone(),
            software: asked.software.clone(),
            joined_at: now,
            keys_sha256: keys_sha256(tls.spki(), sign.spki(), &asked.k6.receipt),
            tls: vec![tls_held],
            sign: vec![sign_held],
            receipt_keys: vec![receipt_key],
            answer: answer.clone(),
            renewal: None,
        },
    };
    // Before the commit, and durable: nobody is enrolled without a record.
    record(central, "enrol-join", told(&site)).await?;
    keep(central, invite, &site).await?;
    tracing::info!(site = site.site, organisation = binding.organisation, "a site has joined; it is in force when it confirms");
    Ok(answer)
}

/// One commit: the use of the token, and all that the join made.
pub(super) async fn keep(central: &Central, invite: &Invite, site: &EnrolledSite) -> Result<(), Refused> {
    let tx = central.store.begin().await?;
    keep_in(tx, invite, site).await
}

pub(super) async fn keep_in(mut tx: crate::store::Tx, invite: &Invite, site: &EnrolledSite) -> Result<(), Refused> {
    let still = tx.invite(&invite.token_sha256).await?;
    if still.is_none_or(|invite| invite.state != InviteState::Open) {
        return Err(Refused::new(JoinCode::Token, "an invite that was revoked meanwhile"));
    }
    tx.change_invite(&Invite { state: InviteState::Used, ..invite.clone() }).await?;
    tx.keep_enrolled(site).await?;
    Ok(tx.commit().await?)
}

/// What the journal of the system keeps of a site: its binding and its certificates by digest.
pub(super) fn told(site: &EnrolledSite) -> serde_json::Value {
    let certificates = |held: &[HeldCertificate]| held.iter().map(|held| held.sha256.clone()).collect::<Vec<_>>();
    json!({
        "site": site.site, "invite": site.token_sha256[..16], "binding": site.record.binding, "issuer": site.record.entity_id,
        "software": site.record.software, "tls": certificates(&site.record.tls), "sign": certificates(&site.record.sign),
        "receipt_keys": site.record.receipt_keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>(),
    })
}

fn receipt_key(organisation: &str, site: &str, key: &str) -> Result<ReceiptKey, Refused> {
    let malformed = || Refused::new(JoinCode::Malformed, "k6.receipt: base64url of 32 bytes");
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(key).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
    Ok(ReceiptKey { holder: format!("{organisation}/{site}"), kid: hex::encode(Sha256::digest(bytes)), key: key.to_owned() })
}

pub(super) fn keys_sha256(tls: &[u8], sign: &[u8], receipt: &str) -> String {
    let mut digest = Sha256::new();
    for part in [tls, sign, receipt.as_bytes()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

fn answer(central: &Central, invite: &Invite, tls: &HeldCertificate, sign: &HeldCertificate, now: Timestamp) -> anyhow::Result<String> {
    let (binding, trust) = (&invite.record.binding, central.enrolment.trust_file());
    let issued = |held: &HeldCertificate| (binding.mode == idr_profile::enrolment::Mode::Issue).then(|| held.pem.clone());
    let pems = |list: &[Vec<u8>]| list.iter().map(|der| tls::to_pem(der)).collect();
    // Anchors alone: a site is told no intermediates of signing certificates, which it has no use for.
    let signing = trust.signing().anchors().map(|anchor| tls::to_pem(anchor.der())).collect();
    let joined = Joined {
        site: binding.site.clone(),
        organisation: binding.organisation.clone(),
        mode: binding.mode,
        issuer: invite.record.entity_id.clone(),
        controllers: binding.controllers.clone(),
        ae_titles: binding.ae_titles.clone(),
        tls: issued(tls),
        sign: issued(sign),
        trust: TrustBundle {
            tls_anchors: pems(trust.tls_anchors()),
            tls_intermediates: pems(trust.tls_intermediates()),
            signing_anchors: signing,
        },
        pins: pins(&central.config)?,
        endpoints: Endpoints {
            url: central.config.https.public_url.clone(),
            dicomweb: "/dicomweb".to_owned(),
            gateway: soap::GATEWAY.to_owned(),
            enrol: PATH.to_owned(),
        },
        rule_sets: binding.rule_sets.clone(),
        receipt_keys: vec![central.custody.signer().to_receipt_key(central.custody.holder())],
        audit_keys: central.enrolment.audit_keys.clone(),
        confirm_by: now.checked_add(CONFIRMED)?,
        snapshot: None,
        site_secret_id: None,
    };
    Ok(serde_json::to_string(&joined)?)
}

/// The site of a TLS certificate that counts, or waits for its confirmation.
pub(super) fn of_client(sites: Vec<EnrolledSite>, client: &Client, now: Timestamp) -> Option<EnrolledSite> {
    let has = |site: &EnrolledSite| {
        let counts = |held: &HeldCertificate| held.sha256 == *client.sha256 && held.until.is_none_or(|until| now <= until);
        site.record.tls.iter().any(counts)
    };
    let mut of = sites.into_iter().filter(|site| matches!(site.state, EnrolledState::Pending | EnrolledState::Active) && has(site));
    // Of two joins with one certificate the later one.
    let first = of.next()?;
    Some(of.fold(first, |one, other| if other.changed_at > one.changed_at { other } else { one }))
}

/// A site shows over mutual TLS that it has its certificates: its row is in force from now on.
///
/// # Errors
/// [`JoinCode::Token`]: no join of this certificate waits, or it waited for too long.
pub async fn confirm(central: &Central, client: &Client) -> Result<Confirmed, Refused> {
    let _turn = central.enrolment.turn.lock().await;
    let now = central.now();
    let all = central.store.read().await?.enrolled().await?;
    let none = || Refused::new(JoinCode::Token, "no join waits for this certificate");
    let mut site = of_client(all.clone(), client, now).ok_or_else(none)?;
    if site.state == EnrolledState::Pending {
        if now.duration_since(site.record.joined_at) > CONFIRMED {
            return Err(Refused::new(JoinCode::Token, format!("{}: it joined more than an hour ago", site.site)));
        }
        record(central, "enrol-confirm", told(&site)).await?;
        let mut tx = central.store.begin().await?;
        for mut earlier in all {
            let in_force = matches!(earlier.state, EnrolledState::Active | EnrolledState::Disabled);
            if earlier.site == site.site && earlier.token_sha256 != site.token_sha256 && in_force {
                (earlier.state, earlier.changed_at) = (EnrolledState::Replaced, now);
                tx.keep_enrolled(&earlier).await?;
            }
        }
        (site.state, site.changed_at) = (EnrolledState::Active, now);
        tx.keep_enrolled(&site).await?;
        tx.commit().await?;
        tracing::info!(site = site.site, "an enrolled site is in force");
    }
    central.enrolment.refresh(central).await?;
    Ok(Confirmed { site: site.site, active: true })
}

/// Forgets joins that were not confirmed in time, and takes out of force what has ended.
///
/// # Errors
/// [`crate::store::StoreError`].
pub async fn sweep(central: &Central) -> Result<(), crate::store::StoreError> {
    let before = central.now().checked_sub(CONFIRMED).unwrap_or(Timestamp::MIN);
    let mut tx = central.store.begin().await?;
    let forgotten = tx.forget_unconfirmed(before).await?;
    tx.commit().await?;
    if forgotten > 0 {
        tracing::warn!(count = forgotten, "joins that were not confirmed within an hour are forgotten; their sites need a new invite");
    }
    central.enrolment.refresh(central).await
}
