//! What of `doctor` is about others: the centre, and devices that this site calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use idr_dimse::limits::Limits;
use idr_dimse::service::verification;
use idr_host::{files, probe};
use idr_ihe::assertion::Certificate;
use idr_profile::tls;
use idr_profile::xua::Trust;
use serde_json::{Value, json};

use super::{Check, Level, level_of};
use crate::config::{Centre, Config, TlsDemand};
use crate::outbound::{self, Session, Target, Waits, server_name};

/// Seconds that a clock may differ, and with how many it is a problem (profile 10 §10).
const CLOCK_SECONDS: [f64; 2] = [2.0, 30.0];
/// Every wait of a C-ECHO.
const WAIT: Duration = Duration::from_secs(10);

/// A device that this site calls.
struct Device<'a> {
    name: &'a str,
    role: &'static str,
    address: SocketAddr,
    ae_title: &'a str,
    tls: bool,
    server_name: Option<&'a str>,
    certificates: &'a [String],
}

fn devices(config: &Config) -> Vec<Device<'_>> {
    let destinations = config.destination.iter().map(|row| Device {
        name: &row.ae_title,
        role: "move destination",
        address: row.address,
        ae_title: &row.ae_title,
        tls: row.tls,
        server_name: row.server_name.as_deref(),
        certificates: &row.certificates,
    });
    let reported = config.inbound.iter().filter_map(|row| {
        Some(Device {
            name: &row.name,
            role: "storage commitment",
            address: row.commitment_address?,
            ae_title: row.commitment_ae_title.as_deref().unwrap_or(&row.ae_title),
            tls: row.tls != TlsDemand::Optional,
            server_name: row.commitment_server_name.as_deref(),
            certificates: &row.certificates,
        })
    });
    reported.chain(destinations).collect()
}

/// The peers of the configuration.
pub(super) fn rows(config: &Config) -> Vec<Value> {
    let centre = config.centre.iter().map(|centre| json!({"name": centre.name, "role": "centre", "address": centre.url}));
    let calls = devices(config).into_iter().map(
        |device| json!({"name": device.name, "role": device.role, "address": device.address.to_string(), "ae_title": device.ae_title}),
    );
    let inbound = config.inbound.iter().map(|row| json!({"name": row.name, "role": "inbound", "ae_title": row.ae_title}));
    centre.chain(calls).chain(inbound).collect()
}

/// Looks at all.
pub(super) async fn all(config: &Config, trust: &Trust) -> Vec<Check> {
    let mut checks = match &config.centre {
        Some(peer) => centre(peer, trust).await,
        None => vec![Check::new("centre", Level::PassedOver, "none is configured: objects are held", "")],
    };
    for device in devices(config) {
        checks.push(called(config, trust, &device).await);
    }
    checks
}

/// Looks at those of a name.
pub(super) async fn named(config: &Config, trust: &Trust, name: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    for peer in config.centre.iter().filter(|peer| peer.name == name || name == "centre") {
        checks.extend(centre(peer, trust).await);
    }
    for device in devices(config).iter().filter(|device| device.name == name || device.ae_title == name) {
        checks.push(called(config, trust, device).await);
    }
    checks
}

async fn centre(peer: &Centre, trust: &Trust) -> Vec<Check> {
    let name = &peer.name;
    let seen = match look(peer, trust).await {
        Ok(seen) => seen,
        Err(error) => {
            let remedy = "check name service, network, certificates and pins; objects are held meanwhile";
            return vec![Check::new(name, Level::Problem, format!("{}: {error:#}", peer.url), remedy)];
        }
    };
    let mut checks = vec![Check::ok(name, format!("{} answers over mutual TLS from {} (HTTP {})", peer.url, seen.address, seen.status))];
    if let Some(certificate) = seen.chain.first().and_then(|der| Certificate::from_der(der).ok()) {
        let (left, level) = super::certificate(&certificate, idr_host::now());
        checks.push(Check::new(format!("{name} certificate"), level, format!("{left} days left"), "tell the centre"));
    }
    checks.push(match seen.ahead {
        Some(ahead) => {
            let level = level_of(ahead.as_secs_f64().abs(), CLOCK_SECONDS[0], CLOCK_SECONDS[1]);
            Check::new("clock", level, format!("{:+.1} s against {name}", -ahead.as_secs_f64()), "correct NTP; beyond 60 s nothing is sent")
        }
        None => Check::new("clock", Level::Degraded, format!("{name} gives no date"), "check NTP by hand"),
    });
    checks
}

async fn look(peer: &Centre, trust: &Trust) -> anyhow::Result<probe::Seen> {
    let url: http::Uri = peer.url.parse().context("centre.url")?;
    let host = url.host().context("centre.url names no host")?;
    let chain = std::fs::read(&peer.certificate).with_context(|| format!("{}: cannot be read", peer.certificate.display()))?;
    let key = files::read_private(&peer.key)?;
    let client = tls::client(&chain, &key, &files::anchors(trust.tls_anchors()), &peer.pins, &[b"http/1.1"])?;
    Ok(probe::https(host, url.port_u16().unwrap_or(443), client, idr_host::now).await?)
}

async fn called(config: &Config, trust: &Trust, device: &Device<'_>) -> Check {
    let name = format!("{} ({})", device.name, device.role);
    match echo(config, trust, device).await {
        Ok(()) => Check::ok(name, format!("{} answers C-ECHO", device.address)),
        Err(error) => {
            let remedy = "check its address, its AE title for us, and certificates; see whether it is switched on";
            Check::new(name, Level::Degraded, format!("{}: {error:#}", device.address), remedy)
        }
    }
}

async fn echo(config: &Config, trust: &Trust, device: &Device<'_>) -> anyhow::Result<()> {
    let tls = match device.tls {
        true => Some((Arc::new(outbound::client_tls(config, trust)?), server_name(device.server_name, device.address)?)),
        false => None,
    };
    let target = Target { address: device.address, ae_title: device.ae_title.to_owned(), tls, certificates: device.certificates.to_vec() };
    let calling = config.dimse.local_ae_titles.first().context("dimse.local_ae_titles is empty")?;
    let mut request = outbound::request(calling, device.ae_title);
    request.propose(verification::SOP_CLASS_UID, &[dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN]);
    let waits = Waits { connect: WAIT, handshake: WAIT, associate: WAIT, response: WAIT, progress: WAIT };
    let mut session = Session::open(&target, request, Limits::default(), waits).await?;
    let Some(context) = session.contexts().first().map(|context| context.id) else {
        session.release().await;
        anyhow::bail!("it takes the association and no C-ECHO");
    };
    let id = session.next_message_id();
    session.command(context, &verification::request(id)).await?;
    let answer = session.received().await?;
    session.release().await;
    anyhow::ensure!(answer.message_id() == id, "it answered something else");
    Ok(())
}
