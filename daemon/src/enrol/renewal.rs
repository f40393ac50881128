//! New keys in place of those in use (profile 10 §6.3): by `cert rotate`, and by itself where the centre issues certificates.
//!
//! # Failure
//! Until the centre has answered, nothing has changed here. The earlier certificates count at the centre for days beside the new
//! ones, so that what is under way goes on. What could not be renewed is tried again every hour; `cert list`, `doctor` and the metric of
//! expiry show how long there is.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use idr_host::files;
use idr_profile::enrolment::Mode;
use idr_profile::enrolment::message::{Joined, Renew, Renewed};
use idr_profile::tls;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::calls::Calls;
use super::join::{BroughtArguments, offer, put_certificate, runtime};
use super::ring::{self, Brought, Ring};
use crate::config::Config;
use crate::control;
use crate::reload::Reload;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3_600);
/// Folder of keys that the centre has not answered for yet.
const NEXT: &str = "next";

/// Arguments of `cert rotate`.
#[derive(Debug, clap::Args)]
pub struct RotateArguments {
    #[command(flatten)]
    brought: BroughtArguments,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Does `cert rotate`.
///
/// # Errors
/// What kept it from being done; the same command again goes on where it ended.
pub fn execute(config: &Config, RotateArguments { brought, json }: RotateArguments) -> anyhow::Result<ExitCode> {
    let renewed = runtime()?.block_on(rotate(config, brought.into_brought().as_ref()))?;
    let reloaded = idr_host::control::ask(&config.control_socket(), &control::Request::Reload)?.is_some();
    let until = ring::certificate(&Ring::of(config).current().join("tls.pem"))?.not_after();
    if json {
        println!("{}", json!({"tls_until": until, "earlier_until": renewed.earlier_until, "reloaded": reloaded}));
    } else {
        println!("new keys and certificates are in use, until {until}; the earlier ones count until {}", renewed.earlier_until);
        println!("{}", if reloaded { "the running appliance has taken them" } else { "no appliance runs here" });
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes new keys, has them certified, and takes them into use.
///
/// # Errors
/// This site has not joined; the centre refuses or is away.
pub async fn rotate(config: &Config, brought: Option<&Brought>) -> anyhow::Result<Renewed> {
    let ring = Ring::of(config);
    let current = ring.current();
    let answer = files::read_text_if_there(&current.join("answer.json"))?
        .context("this site has not joined by `idr-site cert join`; put new files in place of those of [centre] and [assertion], then `idr-site reload`")?;
    let joined: Joined = serde_json::from_str(&answer).context("answer.json")?;
    anyhow::ensure!(
        joined.mode == Brought::mode(brought),
        "{}",
        match joined.mode {
            Mode::Register =>
                "this site brings its own certificates: name the new files by --tls-certificate, --tls-key, --sign-certificate, --sign-key",
            Mode::Issue => "the centre issues the certificates of this site: none are brought",
        }
    );
    let centre = config.centre.as_ref().context("[centre] is missing")?;
    let trust = files::trust(&config.files.trust)?;
    let own = std::fs::read(current.join("tls.pem")).context("keys/current/tls.pem")?;
    let key = files::read_private(&current.join("tls.key"))?;
    let client = tls::client(&own, &key, &files::anchors(trust.tls_anchors()), &centre.pins, &[b"h2", b"http/1.1"])?;
    let calls = Calls::new(&format!("{}{}", centre.url, joined.endpoints.enrol), client)?;
    let nonce = calls.nonce(idr_host::now).await?;
    let set = ring.keys(NEXT, brought)?;
    let shown = ring::certificate(&current.join("tls.pem"))?;
    let names = idr_profile::enrolment::names_of_certificate(shown.der()).map(|(names, _)| names).unwrap_or_default();
    let request = Renew {
        tls: offer(config, (&set.tls, &names), brought.map(|brought| brought.tls.0.as_path()), &shown.sha256(), &nonce)?,
        sign: offer(config, (&set.sign, &[]), brought.map(|brought| brought.sign.0.as_path()), &shown.sha256(), &nonce)?,
        nonce: brought.map(|_| nonce),
    };
    let renewed: Renewed = serde_json::from_str(&calls.post("renew", &request, idr_host::now()).await?)?;
    put_certificate(&ring, &set, "tls.pem", (renewed.tls.as_ref(), brought.map(|brought| &brought.tls.0)), &set.tls)?;
    put_certificate(&ring, &set, "sign.pem", (renewed.sign.as_ref(), brought.map(|brought| &brought.sign.0)), &set.sign)?;
    ring.put(&set, "answer.json", &answer)?;
    // Its certificate names it, so that no two renewals have one folder.
    let name = hex::encode(&ring::certificate(&set.folder.join("tls.pem"))?.sha256()[..8]);
    ring.name_folder(NEXT, &name)?;
    ring.use_folder(&name)?;
    ring.give_to_owner()?;
    Ok(renewed)
}

/// Whether two thirds of the life of a certificate are over (mode issue).
fn is_due((from, until): (Timestamp, Timestamp), now: Timestamp) -> bool {
    let (life, over) = (until.as_second() - from.as_second(), now.as_second() - from.as_second());
    over * 3 >= life * 2
}

fn due(config: &Config, now: Timestamp) -> anyhow::Result<bool> {
    let current = Ring::of(config).current();
    let Some(answer) = files::read_text_if_there(&current.join("answer.json"))? else { return Ok(false) };
    let joined: Joined = serde_json::from_str(&answer).context("answer.json")?;
    if joined.mode != Mode::Issue {
        return Ok(false);
    }
    for name in ["tls.pem", "sign.pem"] {
        let certificate = ring::certificate(&current.join(name))?;
        if is_due((certificate.not_before(), certificate.not_after()), now) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks every hour, and renews what is due.
pub async fn run(config: Arc<Config>, reload: Arc<Reload>, stop: CancellationToken) {
    loop {
        match due(&config, idr_host::now()) {
            Ok(false) => {}
            Ok(true) => match rotate(&config, None).await {
                Ok(renewed) => {
                    tracing::info!(earlier_until = %renewed.earlier_until, "the certificates of this site are renewed");
                    drop(reload.reload("certificates were renewed").await);
                }
                Err(error) => {
                    tracing::error!(cause = %format!("{error:#}"), "the certificates of this site cannot be renewed; tried again in an hour")
                }
            },
            Err(error) => tracing::error!(cause = %format!("{error:#}"), "whether certificates must be renewed cannot be seen"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_at_two_thirds_of_their_life() {
        let day = |days: i64| Timestamp::from_second(1_768_000_000 + days * 86_400).expect("an instant");
        let of_a_year = (day(0), day(366));
        assert!(!is_due(of_a_year, day(243)) && is_due(of_a_year, day(244)), "366 · 2 / 3 = 244");
        assert!(is_due(of_a_year, day(400)), "also when it is over");
    }
}
