//! `idr-site cert join`, also `idr-site enrol`: joins the centre by a join string (profile 10 §6.2).

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_host::files;
use idr_ihe::assertion::{Signer as _, SigningKey};
use idr_profile::enrolment::message::{Join, Joined, Offer, PublicKeys};
use idr_profile::enrolment::{JoinString, method, over, token_sha256};
use idr_profile::tls;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::json;

use super::calls::Calls;
use super::edit;
use super::ring::{self, Brought, Ring, Set};
use crate::config::Config;
use crate::control;
use crate::receipts::KeyFile;
use crate::site;

/// Longest join string with blanks around it, bytes.
const STRING_BYTES_MAX: u64 = 4_096;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// File with the join string, mode 0600 or 0400; none: standard input.
    #[arg(long, conflicts_with = "insecure_argv")]
    file: Option<PathBuf>,
    /// The join string itself: other users of this machine can see it.
    #[arg(long, value_name = "STRING")]
    insecure_argv: Option<String>,
    /// Pin of the centre that was told by another way; it must be in the join string.
    #[arg(long)]
    pin: Option<String>,
    /// DNS names that the TLS certificate shall have; the invite must have them.
    #[arg(long, value_delimiter = ',')]
    names: Vec<String>,
    #[command(flatten)]
    brought: BroughtArguments,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Certificates of an authority that the centre trusts, with their keys.
#[derive(Debug, clap::Args)]
pub struct BroughtArguments {
    /// TLS certificate chain, PEM, where the site brings its own certificates (mode register).
    #[arg(long, requires_all = ["tls_key", "sign_certificate", "sign_key"])]
    tls_certificate: Option<PathBuf>,
    /// Its key, mode 0600 or 0400.
    #[arg(long, requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// System signature certificate chain, PEM.
    #[arg(long, requires = "tls_certificate")]
    sign_certificate: Option<PathBuf>,
    /// Its key, mode 0600 or 0400.
    #[arg(long, requires = "tls_certificate")]
    sign_key: Option<PathBuf>,
}

impl BroughtArguments {
    /// What is brought, if anything is.
    pub fn into_brought(self) -> Option<Brought> {
        Some(Brought { tls: (self.tls_certificate?, self.tls_key?), sign: (self.sign_certificate?, self.sign_key?) })
    }
}

/// Does the command.
///
/// # Errors
/// What kept it from being done; the same command again goes on where it ended.
pub fn execute(config: &Config, arguments: JoinArguments) -> anyhow::Result<ExitCode> {
    let text = match (&arguments.file, &arguments.insecure_argv) {
        (Some(file), _) => String::from_utf8(files::read_private(file)?).context("the join string is no text")?,
        (None, Some(text)) => text.clone(),
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().take(STRING_BYTES_MAX).read_to_string(&mut text).context("no join string on standard input")?;
            text
        }
    };
    let invited = JoinString::parse(&text)?;
    if let Some(pin) = &arguments.pin {
        anyhow::ensure!(invited.pins.contains(pin), "--pin: the join string names another certificate of the centre; ask the centre");
    }
    let (json, names) = (arguments.json, arguments.names);
    let joined = runtime()?.block_on(join(config, &invited, &names, arguments.brought.into_brought().as_ref()))?;
    let reload = match config.centre.is_some() {
        true => idr_host::control::ask(&config.control_socket(), &control::Request::Reload).map(|answer| answer.is_some()),
        false => Ok(false),
    };
    let shown = |name: &str| ring::certificate(&Ring::of(config).current().join(name)).map(|certificate| certificate.not_after());
    let (tls, sign) = (shown("tls.pem")?, shown("sign.pem")?);
    if json {
        println!(
            "{}",
            json!({"site": joined.site, "organisation": joined.organisation, "centre": joined.endpoints.url, "tls_until": tls, "sign_until": sign,
                   "reloaded": matches!(reload, Ok(true))})
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} of {} has joined {}", joined.site, joined.organisation, joined.endpoints.url);
    println!("keys, made here: {}", Ring::of(config).current().display());
    println!("TLS certificate until {tls}, signing certificate until {sign}");
    println!("{} and {} have what the centre told", config.path().display(), config.files.trust.display());
    match reload {
        Ok(true) => println!("the running appliance has taken it"),
        Ok(false) => println!("next: `idr-site check-config`, then start the appliance, or restart it"),
        Err(error) => println!("the running appliance has not taken it: {error:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Joins; each step is durable before the next.
///
/// # Errors
/// What kept it from being done.
pub async fn join(config: &Config, invited: &JoinString, names: &[String], brought: Option<&Brought>) -> anyhow::Result<Joined> {
    let done = steps(config, invited, names, brought).await;
    // Also what a join left that broke off: the service must be able to read its keys.
    Ring::of(config).give_to_owner()?;
    done
}

async fn steps(config: &Config, invited: &JoinString, names: &[String], brought: Option<&Brought>) -> anyhow::Result<Joined> {
    let ring = Ring::of(config);
    let token = token_sha256(&invited.token);
    let name = hex::encode(&token[..8]);
    let answer = ring.folder(&name).join("answer.json");
    let in_use = ring.current().canonicalize().ok();
    let other = in_use.is_some_and(|current| ring.folder(&name).canonicalize().is_ok_and(|folder| folder != current));
    anyhow::ensure!(!(other && answer.exists()), "this site has joined by this join string, and has newer keys now; nothing is changed");
    let set = ring.keys(&name, brought)?;
    let joined: Joined = match files::read_text_if_there(&answer)? {
        Some(text) => serde_json::from_str(&text).with_context(|| answer.display().to_string())?,
        None => {
            let text = ask(config, invited, (&set, &token), names, brought).await?;
            let joined: Joined =
                serde_json::from_str(&text).context("the answer of the centre cannot be read; site and centre have different versions")?;
            store(&ring, &set, &joined, brought)?;
            ring.put(&set, "answer.json", &text)?;
            joined
        }
    };
    anyhow::ensure!(
        joined.organisation == config.site.organisation && joined.site == config.site.id,
        "the invite is for {} of {}, and site.id and site.organisation are {} and {}; change them and give the command again",
        joined.site,
        joined.organisation,
        config.site.id,
        config.site.organisation
    );
    let trust_path = &config.files.trust;
    let known = files::trust(trust_path)?;
    let text =
        edit::joined_trust_file(&files::read_text(trust_path)?, &known, &joined).with_context(|| trust_path.display().to_string())?;
    edit::replace(trust_path, &text)?;
    confirm(&set, &joined).await?;
    ring.use_folder(&name)?;
    let path = config.path();
    let text =
        edit::joined_main_file(&files::read_text(path)?, &joined, &config.site.source_oid).with_context(|| path.display().to_string())?;
    // What would not start does not take the place of what is there.
    site::check(&Config::parse(&text, path)?)
        .context("with what the centre told, the configuration is not in order; mend it, then give the command again")?;
    edit::replace(path, &text)?;
    Ok(joined)
}

/// Certificates beside their keys. They are checked to fit before the answer counts as kept.
fn store(ring: &Ring, set: &Set, joined: &Joined, brought: Option<&Brought>) -> anyhow::Result<()> {
    for (name, issued, of_site, key) in [
        ("tls.pem", &joined.tls, brought.map(|brought| &brought.tls.0), &set.tls),
        ("sign.pem", &joined.sign, brought.map(|brought| &brought.sign.0), &set.sign),
    ] {
        put_certificate(ring, set, name, (issued.as_ref(), of_site), key)?;
    }
    Ok(())
}

/// Puts the certificate that was issued, or that the site has, beside its key.
///
/// # Errors
/// There is none, or it is not of the key.
pub(super) fn put_certificate(
    ring: &Ring,
    set: &Set,
    name: &str,
    (issued, of_site): (Option<&String>, Option<&PathBuf>),
    key: &KeyPair,
) -> anyhow::Result<()> {
    use rcgen::PublicKeyData as _;
    let pem = match (issued, of_site) {
        (Some(pem), _) => pem.clone(),
        (None, Some(path)) => files::read_text(path)?,
        (None, None) => anyhow::bail!("the centre issued no {name}"),
    };
    let chain = tls::certificates(pem.as_bytes(), "certificate").with_context(|| name.to_owned())?;
    let certificate = idr_ihe::assertion::Certificate::from_der(&chain[0])?;
    anyhow::ensure!(certificate.spki() == key.subject_public_key_info(), "{name}: is of another key than the one here");
    ring.put(set, name, &pem)
}

async fn ask(
    config: &Config,
    invited: &JoinString,
    (set, token): (&Set, &[u8; 32]),
    names: &[String],
    brought: Option<&Brought>,
) -> anyhow::Result<String> {
    let now = idr_host::now();
    anyhow::ensure!(now <= invited.expires, "the join string was good until {}; ask the centre for a new one", invited.expires);
    let calls = Calls::new(&invited.url, tls::client_by_pin(&invited.pins, &[b"h2", b"http/1.1"])?)?;
    let nonce = calls.nonce(idr_host::now).await?;
    let request = Join {
        token: invited.token.clone(),
        site: config.site.id.clone(),
        software: concat!("idr-site ", env!("CARGO_PKG_VERSION")).to_owned(),
        tls: offer(config, (&set.tls, names), brought.map(|brought| brought.tls.0.as_path()), token, &nonce)?,
        sign: offer(config, (&set.sign, &[]), brought.map(|brought| brought.sign.0.as_path()), token, &nonce)?,
        k6: PublicKeys { audit: None, receipt: receipt_key(config)? },
        nonce: brought.map(|_| nonce),
    };
    calls.post("join", &request, idr_host::now()).await
}

/// A request for a certificate, or the one that is brought with the proof that its key is here. `over_what`: SHA-256 of the token, or
/// of the certificate of the connection.
///
/// # Errors
/// A file; a key that cannot sign.
pub(super) fn offer(
    config: &Config,
    (key, names): (&KeyPair, &[String]),
    brought: Option<&Path>,
    over_what: &[u8; 32],
    nonce: &str,
) -> anyhow::Result<Offer> {
    let Some(path) = brought else {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, config.site.id.as_str());
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), config.site.organisation.as_str());
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().with_context(|| format!("--names: {name}"))?));
        }
        return Ok(Offer { csr: Some(params.serialize_request(key)?.pem()?), ..Offer::default() });
    };
    let nonce =
        URL_SAFE_NO_PAD.decode(nonce).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).context("the nonce of the centre is none")?;
    let signer = SigningKey::from_pkcs8(key.serialized_der()).context("this key cannot sign")?;
    let proof = signer.sign(method(signer.key_type()), &over(over_what, &config.site.id, &nonce))?;
    Ok(Offer { csr: None, certificate: Some(files::read_text(path)?), proof: Some(URL_SAFE_NO_PAD.encode(proof)) })
}

/// The public receipt key of this site; the key is made here if nothing was signed yet.
fn receipt_key(config: &Config) -> anyhow::Result<String> {
    let state = &config.storage.path;
    let log_is_empty = std::fs::read_dir(state.join("receipts")).map_or(true, |mut entries| entries.next().is_none());
    let keys = KeyFile::new(state.join("keys")).load_or_create(log_is_empty)?;
    let current = keys.first().context("there is a receipt key")?;
    Ok(URL_SAFE_NO_PAD.encode(current.public_key()))
}

async fn confirm(set: &Set, joined: &Joined) -> anyhow::Result<()> {
    let mut anchors = Vec::new();
    for pem in &joined.trust.tls_anchors {
        anchors.extend(tls::certificates(pem.as_bytes(), "an anchor of the centre")?);
    }
    let (chain, key) = (std::fs::read(set.folder.join("tls.pem"))?, files::read_private(&set.folder.join("tls.key"))?);
    let own = tls::client(&chain, &key, &anchors, &joined.pins, &[b"h2", b"http/1.1"])?;
    let calls = Calls::new(&format!("{}{}", joined.endpoints.url, joined.endpoints.enrol), own)?;
    calls
        .post("confirm", &json!({}), idr_host::now())
        .await
        .context("joined, and not confirmed: give the same command again within the hour")?;
    Ok(())
}
