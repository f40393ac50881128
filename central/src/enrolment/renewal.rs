//! New keys for old, over mutual TLS (profile 10 §6.3).

use idr_profile::enrolment::message::{Renew, Renewed};
use idr_profile::enrolment::{JoinCode, Mode, Use, over};
use jiff::SignedDuration;
use serde_json::json;

use super::join::{keys_sha256, of_client, take_nonce};
use super::offer::{Offered, Over};
use super::{Refused, record};
use crate::central::Central;
use crate::https::server::Client;
use crate::store::enrolment::{EnrolledState, HeldCertificate, RenewalRecord};

/// Certificates of one kind that are kept of a site; the earliest go.
const KEPT_MAX: usize = 8;

/// Renews the certificates of a site; the answer, JSON.
///
/// The keys are new: none that the site has. The earlier certificates count for `enrol.overlap_days` beside the new ones. With the keys of
/// the last renewal its answer is given again.
///
/// In mode register the proof is made over the SHA-256 of the TLS certificate of the connection, where a join has that of its token.
///
/// # Errors
/// [`Refused`]; nothing has changed then.
pub async fn renew(central: &Central, client: &Client, asked: &Renew) -> Result<String, Refused> {
    let _turn = central.enrolment.turn.lock().await;
    let now = central.now();
    let all = central.store.read().await?.enrolled().await?;
    let site = of_client(all, client, now).filter(|site| site.state == EnrolledState::Active);
    let mut site = site.ok_or_else(|| Refused::new(JoinCode::Token, "no site in force has this certificate"))?;
    let (tls, sign) = (Offered::read(&asked.tls, Use::Tls)?, Offered::read(&asked.sign, Use::Sign)?);
    let keys = keys_sha256(tls.spki(), sign.spki(), "");
    // The answer was lost: however late it is asked for again, these certificates are made, and no others are.
    if let Some(earlier) = site.record.renewal.as_ref().filter(|earlier| earlier.keys_sha256 == keys) {
        return Ok(earlier.answer.clone());
    }
    let known = site.record.tls.iter().chain(&site.record.sign).filter_map(spki);
    let offered = [tls.spki(), sign.spki()];
    if offered[0] == offered[1] || known.into_iter().any(|known| offered.contains(&known.as_slice())) {
        return Err(Refused::new(JoinCode::Profile, format!("{}: a renewal brings new keys, one for each use", site.site)));
    }
    let certificate: [u8; 32] = hex::decode(&*client.sha256).ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let nonce = take_nonce(central, asked.nonce.as_deref());
    let proven = Over(nonce.map(|nonce| over(&certificate, &site.site, &nonce)));
    let binding = site.record.binding.clone();
    let tls = tls.settle(central, Use::Tls, &binding, &proven)?;
    let sign = sign.settle(central, Use::Sign, &binding, &proven)?;
    let overlap = SignedDuration::from_hours(24 * i64::from(central.config.enrol.overlap_days));
    let until = now.checked_add(overlap).map_err(Refused::unavailable)?;
    let issued = |held: &HeldCertificate| (binding.mode == Mode::Issue).then(|| held.pem.clone());
    let renewed = Renewed { tls: issued(&tls), sign: issued(&sign), earlier_until: until };
    let answer = serde_json::to_string(&renewed).map_err(Refused::unavailable)?;
    let data = json!({
        "site": site.site, "tls": tls.sha256, "sign": sign.sha256, "earlier_until": until, "by": &*client.sha256,
    });
    record(central, "enrol-renew", data).await?;
    for (kept, new) in [(&mut site.record.tls, tls), (&mut site.record.sign, sign)] {
        // One that is on its way out keeps its time: the site may have nothing else yet, when the answer is lost.
        for held in kept.iter_mut() {
            held.until.get_or_insert(until);
        }
        kept.push(new);
        let over = kept.len().saturating_sub(KEPT_MAX);
        kept.drain(..over);
    }
    site.record.renewal = Some(RenewalRecord { at: now, keys_sha256: keys, answer: answer.clone() });
    let mut tx = central.store.begin().await?;
    tx.keep_enrolled(&site).await?;
    tx.commit().await?;
    central.enrolment.refresh(central).await?;
    tracing::info!(site = site.site, "a site has new certificates; its earlier ones count beside them until {until}");
    Ok(answer)
}

fn spki(held: &HeldCertificate) -> Option<Vec<u8>> {
    let chain = idr_profile::tls::certificates(held.pem.as_bytes(), "a kept chain").ok()?;
    Some(idr_ihe::assertion::Certificate::from_der(chain.first()?).ok()?.spki().to_vec())
}
