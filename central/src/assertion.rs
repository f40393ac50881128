//! Who asks: the driver of assertion verification (profile 04 §11), from bytes and certificate to [`Authenticated`].
//!
//! [`idr_profile::xua`] runs V1–V17. Here are the three steps that need the store and the audit: aliases of the patient that the
//! request names (for V16), the replay key (V18), and the record of the accepted or refused assertion (V19), all durable before
//! any answer. STOW-RS and C-STORE name no patient here: V16 is judged per instance ([`idr_profile::xua::patient_binding`]).
//!
//! # Failure
//! [`Refusal`], already recorded. What cannot be recorded, looked up or kept is IDR-X-32, never let through.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use idr_dimse::association::negotiation::{UserIdentity, UserIdentityType};
use idr_ihe::metadata::PatientId;
use idr_ihe::soap::Envelope;
use idr_profile::access::{Claims, Operation, Request, Subject};
use idr_profile::xua::http::{Credentials, credentials, no_token_elsewhere};
use idr_profile::xua::{self, Carriage, Class, Code, Refusal, RequestFacts, Transaction, Verified, Verifier};
use serde_json::json;

use crate::audit::{Entry, Kind, Note, Outcome, Record, Stream, Tls, User};
use crate::central::Central;
use crate::consent::log;
use crate::https::server::Client;
use crate::peer;
use crate::store::messages::{Presentation, Presented};

/// A request, as journal and audit name it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `None` until the action of a SOAP message is known.
    pub transaction: Option<Transaction>,
    /// `wsa:MessageID`; else the `X-Request-Id` of the answer.
    pub request_id: String,
    /// Who is connected.
    pub client: Client,
}

impl Asked {
    /// `ITI-18`, `WADO-RS` …
    pub fn number(&self) -> &'static str {
        self.transaction.map_or("SOAP", peer::number)
    }
}

/// A request whose assertion holds.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Gate G1.
    pub subject: Subject,
    /// Class of the request.
    pub class: Class,
    /// Its transaction.
    pub transaction: Transaction,
    /// Organisation of the TLS client.
    pub tls_organisation: String,
    /// Whom its assertion may be passed on to ([`Verified::audiences`]).
    pub audiences: Vec<String>,
    /// The technical user that acts for a responsible professional.
    pub technical_user: Option<String>,
    /// The request.
    pub asked: Asked,
}

impl Authenticated {
    /// What the subject claims.
    pub fn claims(&self) -> &Claims {
        self.subject.claims()
    }

    /// What is decided (05 §3).
    pub fn operation(&self) -> Operation {
        self.transaction.operation(self.class)
    }

    /// The request of the decision; `patient`: named by the message itself.
    pub fn request(&self, patient: Option<PatientId>) -> Request {
        Request { operation: self.operation(), patient }
    }

    /// A record with everything that is known of requester and request.
    pub fn record(&self, central: &Central, kind: Kind, outcome: Outcome) -> Record {
        let mut record = log::record(central, &self.asked, Some(self.claims()), kind, self.operation(), outcome);
        record.tls = Tls { organisation: Some(self.tls_organisation.clone()), ..record.tls };
        if let Some(technical) = &self.technical_user {
            let professional = record.user.id.replace(technical.clone());
            record.user = User { on_behalf: professional, ..record.user };
        }
        record
    }
}

/// Verifies the `Authorization` of an HTTP request (04 §10.2). The answer's request id is taken from the request header
/// `X-Request-Id`, which [`crate::https::problem::identified`] has set.
///
/// # Errors
/// [`Refusal`], recorded.
pub async fn authenticate_http(
    central: &Central,
    client: &Client,
    headers: &HeaderMap,
    facts: RequestFacts<'_>,
) -> Result<Authenticated, Refusal> {
    let request_id = crate::https::problem::request_id(headers).unwrap_or_else(|| format!("urn:uuid:{}", central.random_id()));
    let asked = Asked { transaction: Some(facts.transaction), request_id, client: client.clone() };
    let facts = RequestFacts { endpoint: facts.endpoint.or(Some(&central.config.https.public_url)), ..facts };
    let verified = match named(central, &facts).await {
        Ok(ids) => verify_http(central, client, headers, facts, &ids),
        Err(refusal) => Err(refusal),
    };
    settle(central, asked, facts.transaction, verified).await
}

fn verify_http(
    central: &Central,
    client: &Client,
    headers: &HeaderMap,
    facts: RequestFacts<'_>,
    ids: &[PatientId],
) -> Result<Verified, Refusal> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    no_token_elsewhere(cookies.map(|cookie| cookie.split('=').next().unwrap_or_default().trim()))?;
    let credentials = credentials(headers.get_all(AUTHORIZATION).iter().map(|value| value.as_bytes()), &central.xua)?;
    verify_alone(central, client, (&credentials, Carriage::Http), facts, ids)
}

/// An assertion or token that is not in a SOAP message.
fn verify_alone(
    central: &Central,
    client: &Client,
    (credentials, carriage): (&Credentials<'_>, Carriage),
    facts: RequestFacts<'_>,
    ids: &[PatientId],
) -> Result<Verified, Refusal> {
    verify(central, facts, ids, |verifier, facts| match credentials {
        Credentials::Jwt(token) => verifier.verify_jwt(token, carriage, &client.certificate, facts, central.now()),
        Credentials::Saml(assertion) => verifier.verify_saml(assertion, carriage, &client.certificate, facts, central.now()),
    })
}

/// Verifies the user identity of an association (04 §10.4). It holds for all that is asked for on it, until it expires.
///
/// # Errors
/// [`Refusal`], recorded.
pub async fn authenticate_dimse(
    central: &Central,
    asked: Asked,
    identity: &UserIdentity,
    facts: RequestFacts<'_>,
) -> Result<Authenticated, Refusal> {
    let kind = match identity.identity_type {
        UserIdentityType::SamlAssertion => 4,
        UserIdentityType::Jwt => 5,
        // User name, passcode, Kerberos: refused here whatever they say.
        _ => 0,
    };
    let facts = RequestFacts { endpoint: facts.endpoint.or(Some(&central.config.https.public_url)), ..facts };
    let verified = match named(central, &facts).await {
        Ok(ids) => {
            let credentials = xua::dimse::identity(kind, &identity.primary, &identity.secondary, &central.xua);
            credentials.and_then(|credentials| verify_alone(central, &asked.client, (&credentials, Carriage::Dimse), facts, &ids))
        }
        Err(refusal) => Err(refusal),
    };
    settle(central, asked, facts.transaction, verified).await
}

/// Refuses a token in the query string of a request (04 §10.2).
///
/// # Errors
/// [`Refusal`] IDR-X-31, not yet recorded: see [`refused`].
pub fn no_token_in_query(uri: &http::Uri) -> Result<(), Refusal> {
    let names = uri.query().unwrap_or_default().split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    no_token_elsewhere(names)
}

/// Verifies the assertion of a SOAP message (04 §10.1).
///
/// # Errors
/// [`Refusal`], recorded.
pub async fn authenticate_soap(
    central: &Central,
    asked: Asked,
    envelope: &Envelope<'_>,
    facts: RequestFacts<'_>,
) -> Result<Authenticated, Refusal> {
    let endpoint = format!("{}{}", central.config.https.public_url, crate::https::soap::GATEWAY);
    let facts = RequestFacts { endpoint: Some(&endpoint), ..facts };
    let verified = match named(central, &facts).await {
        Ok(ids) => verify(central, facts, &ids, |verifier, facts| {
            verifier.verify_saml(envelope.bytes(), Carriage::Soap, &asked.client.certificate, facts, central.now())
        }),
        Err(refusal) => Err(refusal),
    };
    settle(central, asked, facts.transaction, verified).await
}

/// Every identifier of the patient that the request names: the one named first.
async fn named(central: &Central, facts: &RequestFacts<'_>) -> Result<Vec<PatientId>, Refusal> {
    if central.audit.refusing().is_some() {
        return Err(Refusal::unavailable("the audit store takes no records"));
    }
    let Some(named) = facts.patient else { return Ok(Vec::new()) };
    let named = central.canonical(named);
    let unavailable = |error| {
        tracing::error!(cause = %error, "patient aliases cannot be read");
        Refusal::unavailable("the store cannot be read")
    };
    let mut tx = central.store.read().await.map_err(unavailable)?;
    let known = tx.patient(&named).await.map_err(unavailable)?.map(|patient| patient.ids).unwrap_or_default();
    let others = known.into_iter().filter(|id| *id != named).collect::<Vec<_>>();
    Ok(std::iter::once(named).chain(others).collect())
}

/// V1–V17. A merged patient has several identifiers, and the assertion may name any of them (06 §7.1).
fn verify(
    central: &Central,
    facts: RequestFacts<'_>,
    ids: &[PatientId],
    attempt: impl Fn(&Verifier<'_>, &RequestFacts<'_>) -> Result<Verified, Refusal>,
) -> Result<Verified, Refusal> {
    let (trust, revocation) = (central.trust.load(), central.revocation.load());
    let verifier = Verifier {
        trust: &trust,
        revocation: &revocation.lists,
        rules: &central.xua,
        policy: &central.policy,
        identity: &central.identity,
        environment: central.config.environment,
        local_issuers: &[],
    };
    let mut verified = attempt(&verifier, &RequestFacts { patient: ids.first(), ..facts });
    for id in ids.iter().skip(1) {
        if !matches!(&verified, Err(refusal) if refusal.code == Code::Patient) {
            break;
        }
        verified = attempt(&verifier, &RequestFacts { patient: Some(id), ..facts });
    }
    verified
}

/// V18 and V19.
async fn settle(
    central: &Central,
    asked: Asked,
    transaction: Transaction,
    verified: Result<Verified, Refusal>,
) -> Result<Authenticated, Refusal> {
    let verified = match verified {
        Ok(verified) => verified,
        Err(refusal) => return Err(refused(central, &asked, None, refusal).await),
    };
    let claims = verified.subject.claims();
    for warning in &verified.warnings {
        tracing::warn!(issuer = %claims.issuer, "assertion accepted with a warning: {warning:?}");
    }
    let first = match present(central, &verified).await {
        Ok(first) => first,
        Err(refusal) => return Err(refused(central, &asked, Some(claims), refusal).await),
    };
    if first {
        let data = json!({
            "sha256": claims.assertion_sha256,
            "issuer": claims.issuer,
            "request_id": asked.request_id,
            "assertion": String::from_utf8_lossy(&verified.evidence),
            "acp": verified.acp,
            "consent_doc": verified.consent_doc,
            "alias": verified.alias,
        });
        let note = Note { id: Some(central.new_id()), time: central.now(), event: "assertion".to_owned(), data };
        if let Err(error) = central.audit.append(vec![Entry::Note(Stream::Decision, note)]).await {
            tracing::error!(cause = %error, "the assertion cannot be recorded; the request is refused");
            return Err(Refusal::unavailable("the audit store takes no records"));
        }
    }
    Ok(Authenticated {
        subject: verified.subject,
        class: verified.class,
        transaction,
        tls_organisation: verified.tls_organisation,
        audiences: verified.audiences,
        technical_user: verified.technical_user,
        asked,
    })
}

/// V18: whether this is the first presentation.
async fn present(central: &Central, verified: &Verified) -> Result<bool, Refusal> {
    let replay = &verified.replay;
    let presentation =
        Presentation { key: hex::encode(replay.key), certificate_sha256: hex::encode(replay.tls_sha256), keep_until: replay.keep_until };
    let presented = async {
        let mut tx = central.store.begin().await?;
        let presented = tx.present_assertion(&presentation, REPLAY_KEYS_MAX).await?;
        match presented {
            Presented::First => tx.commit().await?,
            Presented::Again { .. } => tx.rollback().await?,
        }
        Ok::<_, crate::store::StoreError>(presented)
    };
    match presented.await {
        Ok(Presented::First) => Ok(true),
        Ok(Presented::Again { same_certificate: true }) if !replay.single_use => Ok(false),
        Ok(Presented::Again { .. }) => Err(Refusal::replayed()),
        Err(error) => {
            tracing::error!(cause = %error, "the replay store does not answer; the request is refused");
            Err(Refusal::unavailable("the replay store is full or cannot be reached"))
        }
    }
}

/// Records a refusal (R) and gives what the caller is told: the refusal, or IDR-X-32 if it cannot be recorded.
pub async fn refused(central: &Central, asked: &Asked, claims: Option<&Claims>, refusal: Refusal) -> Refusal {
    refused_as(central, asked, claims, &refusal.code.to_string(), refusal).await
}

/// [`refused`] with another rule in the record than the code of the answer.
pub async fn refused_as(central: &Central, asked: &Asked, claims: Option<&Claims>, rule: &str, refusal: Refusal) -> Refusal {
    tracing::info!(code = rule, transaction = asked.number(), peer = %asked.client.address.ip(), "request refused: {}", refusal.what);
    let operation = asked.transaction.map_or(Operation::Search, |transaction| transaction.operation(Class::Store));
    let mut record = log::record(central, asked, claims, Kind::R, operation, Outcome::Refuse);
    record.rule = Some(rule.to_owned());
    record.status = Some(refusal.code.to_string());
    match central.audit.append(vec![Entry::Record(Box::new(record))]).await {
        Ok(()) => refusal,
        Err(error) => {
            tracing::error!(cause = %error, "a refusal cannot be recorded");
            Refusal::unavailable("the audit store takes no records")
        }
    }
}

/// How a refusal is answered; the audit store's own `Retry-After` (07 §8) in place of the verifier's.
pub fn answer(central: &Central, refusal: &Refusal) -> xua::Answer {
    let mut answer = central.xua.answer(refusal);
    if answer.retry_after_seconds.is_some() && central.audit.refusing().is_some() {
        answer.retry_after_seconds = Some(AUDIT_RETRY_SECONDS);
    }
    answer
}

/// Keys of the replay store (04 §8).
const REPLAY_KEYS_MAX: u64 = 5_000_000;
/// `Retry-After` while the audit store refuses (07 §8).
const AUDIT_RETRY_SECONDS: u32 = 60;
