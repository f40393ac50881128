//! `token` and `peer`: how sites join, and which are in force.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use idr_profile::enrolment::{Binding, Mode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Operator;
use crate::central::Central;
use crate::config::Config;
use crate::enrolment::authority;
use crate::enrolment::invites::{self, Turn};

/// Commands about invites.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an invite for one site; its join string is shown once.
    Create {
        /// `site.id` of the site.
        #[arg(long)]
        site: String,
        /// OID of its organisation.
        #[arg(long)]
        organisation: String,
        /// OIDs of the controllers that it may speak for; none: `<organisation>.19.0`.
        #[arg(long, value_delimiter = ',')]
        controllers: Vec<String>,
        /// AE titles that it calls the centre with.
        #[arg(long = "ae", value_delimiter = ',')]
        ae_titles: Vec<String>,
        /// DNS names that its TLS certificate may have.
        #[arg(long, value_delimiter = ',')]
        names: Vec<String>,
        /// `register`: it brings certificates of its authority; `issue`: the centre signs its keys.
        #[arg(long, default_value = "register")]
        mode: ModeArgument,
        /// How long it is good: `24h`, `30m`, `2d`.
        #[arg(long, default_value = "24h")]
        ttl: String,
        /// `Issuer` of its assertions; none: `urn:oid:<organisation>`.
        #[arg(long)]
        issuer: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Approve an invite of another operator.
    Approve {
        /// Its id, as `list` shows it.
        id: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Invites and whether they can be used; no tokens, which nobody keeps.
    List {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Take an invite back.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Make the authority that signs for sites, at enrol.authority_certificate and enrol.authority_key; nothing is written over.
    Authority {
        /// Its name.
        #[arg(long, default_value = "IDR enrolment CA")]
        name: String,
    },
}

/// Who makes the certificates.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ModeArgument {
    /// The site's authority.
    Register,
    /// The centre.
    Issue,
}

/// Commands about peers.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Rows of the main file, and enrolled sites.
    List {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Take an enrolled site out of force, at once.
    Disable {
        /// Its name.
        site: String,
        /// Why, without patient data; it is kept.
        #[arg(long)]
        reason: String,
        /// Put it in force again.
        #[arg(long, conflicts_with = "revoke")]
        undo: bool,
        /// For good: its keys are lost or known to others. It joins again by a new invite.
        #[arg(long)]
        revoke: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// What goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Enrol {
    /// `token create`.
    Create {
        /// What it is bound to.
        binding: Box<Binding>,
        /// `Issuer`.
        issuer: Option<String>,
        /// Seconds.
        ttl: i64,
    },
    /// `token approve`.
    Approve {
        /// Its id.
        id: String,
    },
    /// `token list`.
    List,
    /// `token revoke`.
    Revoke {
        /// Its id.
        id: String,
    },
    /// `peer list`.
    Peers,
    /// `peer disable`.
    Turn {
        /// Its name.
        site: String,
        /// Which way.
        turn: Turn,
        /// Why.
        reason: String,
    },
}

impl TokenCommand {
    /// The request, and whether the answer is for machines.
    ///
    /// # Errors
    /// A time that is none. `token authority` needs no centre and is done otherwise.
    pub fn into_request(self) -> anyhow::Result<(Enrol, bool)> {
        Ok(match self {
            Self::Create { site, organisation, mut controllers, ae_titles, names, mode, ttl, issuer, json } => {
                if controllers.is_empty() {
                    controllers.push(format!("{organisation}.19.0"));
                }
                let mode = match mode {
                    ModeArgument::Register => Mode::Register,
                    ModeArgument::Issue => Mode::Issue,
                };
                let binding = Binding {
                    site,
                    organisation,
                    controllers,
                    ae_titles,
                    names,
                    mode,
                    // What the configuration of the centre says.
                    rule_sets: Vec::new(),
                    transactions: Vec::new(),
                };
                (Enrol::Create { binding: Box::new(binding), issuer, ttl: seconds(&ttl)? }, json)
            }
            Self::Approve { id, json } => (Enrol::Approve { id }, json),
            Self::List { json } => (Enrol::List, json),
            Self::Revoke { id, json } => (Enrol::Revoke { id }, json),
            Self::Authority { .. } => anyhow::bail!("made without the centre"),
        })
    }
}

impl PeerCommand {
    /// The request, and whether the answer is for machines.
    pub fn into_request(self) -> (Enrol, bool) {
        match self {
            Self::List { json } => (Enrol::Peers, json),
            Self::Disable { site, reason, undo, revoke, json } => {
                let turn = if undo {
                    Turn::Enable
                } else if revoke {
                    Turn::Revoke
                } else {
                    Turn::Disable
                };
                (Enrol::Turn { site, turn, reason }, json)
            }
        }
    }
}

/// `24h`, `30m`, `2d`, `900s`.
fn seconds(text: &str) -> anyhow::Result<i64> {
    let wrong = || format!("--ttl: '{text}' is no time; write 24h, 30m, 2d or 900s");
    let unit = text.chars().last().with_context(wrong)?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().ok().with_context(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => anyhow::bail!(wrong()),
    };
    number.checked_mul(factor).with_context(wrong)
}

/// Does it.
///
/// # Errors
/// What kept it from being done.
pub async fn perform(central: &Central, operator: &Operator, enrol: Enrol) -> anyhow::Result<Value> {
    match enrol {
        Enrol::Create { binding, issuer, ttl } => invites::create(central, operator, *binding, issuer, ttl).await,
        Enrol::Approve { id } => invites::approve(central, operator, &id).await,
        Enrol::List => invites::list(central).await,
        Enrol::Revoke { id } => invites::revoke(central, operator, &id).await,
        Enrol::Peers => invites::peers(central).await,
        Enrol::Turn { site, turn, reason } => invites::turn(central, operator, &site, turn, &reason).await,
    }
}

/// The answer for people.
pub fn text(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |invite: &Value| {
        let (binding, approved) = (&invite["binding"], invite["approved_by"].as_str().unwrap_or("nobody"));
        format!(
            "{}  {:<8} {} of {}, mode {}, until {}, made by {}, approved by {approved}",
            text(&invite["id"]),
            text(&invite["state"]),
            text(&binding["site"]),
            text(&binding["organisation"]),
            text(&binding["mode"]),
            text(&invite["expires_at"]),
            text(&invite["created_by"]),
        )
    };
    if let Some(join) = answer["join_string"].as_str() {
        return format!(
            "invite {} of {}; its join string is shown this once:\n{join}",
            text(&answer["invite"]["id"]),
            text(&answer["invite"]["binding"]["site"])
        );
    }
    if let Some(invites) = answer["invites"].as_array() {
        return invites.iter().map(row).chain([format!("{} invites", invites.len())]).collect::<Vec<_>>().join("\n");
    }
    if let Some(peers) = answer["peers"].as_array() {
        let line = |peer: &Value| {
            let until = peer["tls"]["not_after"].as_str().map(|at| format!(", certificate until {at}")).unwrap_or_default();
            format!(
                "{:<20} {:<9} {} of {}{until}",
                text(&peer["name"]),
                text(&peer["state"]),
                text(&peer["from"]),
                text(&peer["organisation"])
            )
        };
        return peers.iter().map(line).collect::<Vec<_>>().join("\n");
    }
    if answer["invite"].is_object() {
        return row(&answer["invite"]);
    }
    format!("{}: {}", text(&answer["name"]), text(&answer["state"]))
}

/// `token authority`.
///
/// # Errors
/// The keys are not configured; a file is there already or cannot be written.
pub fn make_authority(config: &Config, name: &str) -> anyhow::Result<Value> {
    let (Some(certificate), Some(key)) = (&config.enrol.authority_certificate, &config.enrol.authority_key) else {
        anyhow::bail!("enrol.authority_certificate and enrol.authority_key say where; name both in the main file first");
    };
    for path in [certificate, key] {
        anyhow::ensure!(!path.exists(), "{}: is there already; nothing is written over", path.display());
    }
    let (certificate_pem, key_pem) = authority::make(name, idr_host::now())?;
    write(key, &key_pem, 0o600)?;
    write(certificate, &certificate_pem, 0o644)?;
    Ok(json!({"certificate": certificate, "key": key}))
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let context = || format!("{}: cannot be written", path.display());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(context)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(context)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(context)
}
