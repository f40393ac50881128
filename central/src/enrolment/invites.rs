//! What operators do: invites, and sites in and out of force (profile 10 §6.1, §6.3).

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_host::config::check_name;
use idr_ihe::metadata::is_oid;
use idr_profile::enrolment::{Binding, JoinString, Mode, token_sha256};
use jiff::{SignedDuration, Timestamp};
use rand::TryRngCore as _;
use serde_json::{Value, json};

use super::join::told;
use super::{PATH, pins, record};
use crate::central::Central;
use crate::control::Operator;
use crate::store::enrolment::{EnrolledSite, EnrolledState, Invite, InviteRecord, InviteState};

/// Shortest and longest life of an invite, seconds.
const TTL_SECONDS: std::ops::RangeInclusive<i64> = 600..=259_200;
/// Entries of a list of a binding.
const LIST_MAX: usize = 50;
/// Invites that a list shows.
const SHOWN_MAX: u32 = 1_000;

/// Makes an invite; the join string is in the answer, and nowhere else.
///
/// # Errors
/// What of it is not allowed; the store.
pub async fn create(
    central: &Central,
    operator: &Operator,
    mut binding: Binding,
    issuer: Option<String>,
    ttl: i64,
) -> anyhow::Result<Value> {
    let (config, trust) = (&central.config, central.enrolment.trust_file());
    check_name("--site", &binding.site).map_err(|(key, problem)| anyhow::anyhow!("{key}: {problem}"))?;
    for (key, oid) in
        std::iter::once(("--organisation", &binding.organisation)).chain(binding.controllers.iter().map(|oid| ("--controllers", oid)))
    {
        anyhow::ensure!(is_oid(oid), "{key}: '{oid}' is no OID");
    }
    for (key, list) in [("--controllers", &binding.controllers), ("--ae", &binding.ae_titles), ("--names", &binding.names)] {
        anyhow::ensure!(list.len() <= LIST_MAX, "{key}: more than {LIST_MAX}");
    }
    for title in &binding.ae_titles {
        let of_form =
            (1..=16).contains(&title.len()) && title.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\') && title.trim() == title;
        anyhow::ensure!(of_form, "--ae: '{title}' is no AE title (1–16 characters)");
    }
    for name in &binding.names {
        let of_form = !name.contains('*') && rustls_pki_types::DnsName::try_from(name.as_str()).is_ok();
        anyhow::ensure!(of_form, "--names: '{name}' is no DNS name without a wildcard");
    }
    anyhow::ensure!(TTL_SECONDS.contains(&ttl), "--ttl: 600 s to 3 days");
    anyhow::ensure!(
        binding.mode == Mode::Register || central.enrolment.authority.is_some(),
        "--mode issue: enrol.authority_certificate and enrol.authority_key are not configured; `idr-central token authority` makes them"
    );
    anyhow::ensure!(!config.enrol.listen.is_empty(), "enrol.listen: no address; sites could not reach the centre");
    anyhow::ensure!(
        config.peer.iter().all(|row| row.name != binding.site),
        "--site: a [[peer]] row of the main file is called {}; remove it or choose another name",
        binding.site
    );
    let entity_id = issuer.unwrap_or_else(|| format!("urn:oid:{}", binding.organisation));
    let other = trust.issuer(&entity_id).is_some_and(|row| row.organisation != binding.organisation);
    anyhow::ensure!(!other && entity_id.len() <= 200, "--issuer: {entity_id} is another organisation's in trust.toml, or too long");
    let sites = central.store.read().await?.enrolled().await?;
    let foreign = sites.iter().find(|site| site.site == binding.site && site.record.binding.organisation != binding.organisation);
    anyhow::ensure!(foreign.is_none(), "--site: {} is a site of another organisation", binding.site);
    binding.transactions.clone_from(&config.enrol.transactions);
    if binding.rule_sets.is_empty() {
        binding.rule_sets.clone_from(&config.central.rule_sets);
    }

    let mut bytes = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).context("the operating system gives no random bytes")?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let now = central.now();
    let expires_at = Timestamp::from_second(now.checked_add(SignedDuration::from_secs(ttl))?.as_second())?;
    let join_string =
        JoinString { url: format!("{}{PATH}", config.enrol.public_url), pins: pins(config)?, token: token.clone(), expires: expires_at };
    let text = join_string.to_text()?;
    let invite = Invite {
        token_sha256: hex::encode(token_sha256(&token)),
        state: if config.enrol.two_person { InviteState::Waiting } else { InviteState::Open },
        failures: 0,
        expires_at,
        record: InviteRecord { binding, entity_id, created_at: now, created_by: operator.name(), approved_by: None },
    };
    record(central, "enrol-invite", shown(&invite)).await?;
    let mut tx = central.store.begin().await?;
    tx.add_invite(&invite).await?;
    tx.commit().await?;
    Ok(json!({"invite": shown(&invite), "join_string": text}))
}

/// Approves an invite of another operator.
///
/// # Errors
/// There is none of that id that waits; the same operator made it.
pub async fn approve(central: &Central, operator: &Operator, id: &str) -> anyhow::Result<Value> {
    let mut invite = find(central, id).await?;
    anyhow::ensure!(invite.state == InviteState::Waiting, "invite {id} does not wait for approval: it is {}", word(&invite, central.now()));
    anyhow::ensure!(
        invite.record.created_by != operator.name(),
        "you made this invite yourself; a second operator must approve it (enrol.two_person)"
    );
    (invite.state, invite.record.approved_by) = (InviteState::Open, Some(operator.name()));
    change(central, "enrol-approve", &invite).await
}

/// Takes an invite back.
///
/// # Errors
/// There is none of that id, or a site has joined by it.
pub async fn revoke(central: &Central, operator: &Operator, id: &str) -> anyhow::Result<Value> {
    let mut invite = find(central, id).await?;
    anyhow::ensure!(
        invite.state != InviteState::Used,
        "a site has joined by invite {id}; `idr-central peer disable` takes the site out of force"
    );
    tracing::info!(invite = id, operator = operator.name(), "an invite is revoked");
    invite.state = InviteState::Burned;
    change(central, "enrol-revoke", &invite).await
}

async fn change(central: &Central, event: &str, invite: &Invite) -> anyhow::Result<Value> {
    record(central, event, shown(invite)).await?;
    let mut tx = central.store.begin().await?;
    tx.change_invite(invite).await?;
    tx.commit().await?;
    Ok(json!({"invite": with_state(invite, central.now())}))
}

async fn find(central: &Central, id: &str) -> anyhow::Result<Invite> {
    let invites = central.store.read().await?.invites(SHOWN_MAX).await?;
    let mut fitting = invites.into_iter().filter(|invite| id.len() >= 8 && invite.token_sha256.starts_with(id));
    let invite = fitting.next().with_context(|| format!("no invite {id}; `idr-central token list` has them"))?;
    anyhow::ensure!(fitting.next().is_none(), "more than one invite begins with {id}");
    Ok(invite)
}

/// All invites.
///
/// # Errors
/// The store.
pub async fn list(central: &Central) -> anyhow::Result<Value> {
    let invites = central.store.read().await?.invites(SHOWN_MAX).await?;
    Ok(json!({"invites": invites.iter().map(|invite| with_state(invite, central.now())).collect::<Vec<_>>()}))
}

fn word(invite: &Invite, now: Timestamp) -> &'static str {
    match invite.state {
        InviteState::Used => "used",
        InviteState::Burned => "burned",
        _ if now > invite.expires_at => "expired",
        InviteState::Waiting => "waiting",
        InviteState::Open => "open",
    }
}

fn with_state(invite: &Invite, now: Timestamp) -> Value {
    let mut value = shown(invite);
    value["state"] = word(invite, now).into();
    value["failures"] = invite.failures.into();
    value
}

/// An invite without its token, which nobody here has.
fn shown(invite: &Invite) -> Value {
    let record = &invite.record;
    json!({
        "id": invite.token_sha256[..16], "binding": record.binding, "issuer": record.entity_id, "expires_at": invite.expires_at,
        "created_at": record.created_at, "created_by": record.created_by, "approved_by": record.approved_by,
    })
}

/// Sites that have joined, and the rows of the main file.
///
/// # Errors
/// The store.
pub async fn peers(central: &Central) -> anyhow::Result<Value> {
    let sites = central.store.read().await?.enrolled().await?;
    let enrolled = sites.iter().map(|site| {
        let last = |held: &[crate::store::enrolment::HeldCertificate]| {
            held.last().map(|held| json!({"sha256": held.sha256, "not_after": held.not_after}))
        };
        json!({
            "name": site.site, "from": "enrolment", "state": site.state, "organisation": site.record.binding.organisation,
            "since": site.changed_at, "transactions": site.record.binding.transactions, "software": site.record.software,
            "tls": last(&site.record.tls), "sign": last(&site.record.sign),
        })
    });
    let configured = central.config.peer.iter().map(|row| {
        json!({"name": row.name, "from": "main file", "state": "active", "organisation": row.organisation, "transactions": row.transactions})
    });
    Ok(json!({"peers": configured.chain(enrolled).collect::<Vec<_>>()}))
}

/// What an operator does to an enrolled site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turn {
    /// Out of force, until it is taken back.
    Disable,
    /// In force again.
    Enable,
    /// Out of force for good: its keys are lost or known to others.
    Revoke,
}

/// Takes a site out of force or back.
///
/// # Errors
/// There is no such site in a state from which that is possible.
pub async fn turn(central: &Central, operator: &Operator, site: &str, turn: Turn, reason: &str) -> anyhow::Result<Value> {
    anyhow::ensure!(!reason.trim().is_empty() && reason.len() <= 500, "--reason: 1–500 characters");
    let _turn = central.enrolment.turn.lock().await;
    let sites = central.store.read().await?.enrolled().await?;
    let fits = |found: &EnrolledSite| {
        found.site == site
            && match turn {
                Turn::Disable => found.state == EnrolledState::Active,
                Turn::Enable => found.state == EnrolledState::Disabled,
                Turn::Revoke => matches!(found.state, EnrolledState::Active | EnrolledState::Disabled | EnrolledState::Pending),
            }
    };
    let mut found = sites.into_iter().rfind(fits).with_context(|| {
        format!("{site}: no enrolled site in a state for that; `idr-central peer list` has them; rows of the main file are changed there")
    })?;
    found.state = match turn {
        Turn::Disable => EnrolledState::Disabled,
        Turn::Enable => EnrolledState::Active,
        Turn::Revoke => EnrolledState::Revoked,
    };
    found.changed_at = central.now();
    let mut data = told(&found);
    (data["state"], data["operator"], data["reason"]) = (found.state.name().into(), operator.name().into(), reason.into());
    record(central, "enrol-peer", data).await?;
    let mut tx = central.store.begin().await?;
    tx.keep_enrolled(&found).await?;
    tx.commit().await?;
    central.enrolment.refresh(central).await?;
    Ok(json!({"name": found.site, "state": found.state}))
}
