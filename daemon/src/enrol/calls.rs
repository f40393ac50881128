//! What a site says to `/enrol/v1` of the centre.
//!
//! # Bounds
//! 10 s to connect, 60 s for an answer of at most 256 KiB.

use std::time::Duration;

use anyhow::Context as _;
use http::header::{CONTENT_TYPE, DATE};
use idr_profile::enrolment::JoinCode;
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use reqwest::{Client, Response};
use serde::Serialize;

/// Longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Largest difference of clocks, seconds (profile 10 §6.2 step 1).
const CLOCK_SECONDS: i64 = 60;

/// A way to the centre.
pub struct Calls {
    client: Client,
    url: String,
}

/// A refusal by its code (10 §6.4).
#[derive(Debug, thiserror::Error)]
#[error("the centre refuses: IDR-{}: {}", code.id(), code.remedy())]
pub struct Refused {
    /// Its code.
    pub code: JoinCode,
}

impl Calls {
    /// `url` ends in `/enrol/v1`.
    ///
    /// # Errors
    /// No client can be made.
    pub fn new(url: &str, tls: rustls::ClientConfig) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(60))
            .build()?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// Asks for a nonce, and looks at the clock by the way: nothing secret was said yet.
    ///
    /// # Errors
    /// No connection, another certificate than the pinned one, a clock that differs by more than 60 s, [`Refused`].
    pub async fn nonce(&self, now: fn() -> Timestamp) -> anyhow::Result<String> {
        let sent = now();
        let response = self.client.get(format!("{}/nonce", self.url)).send().await.map_err(|error| unreached(&self.url, error))?;
        let said = response.headers().get(DATE).and_then(|date| DateTimeParser::new().parse_timestamp(date.to_str().ok()?).ok());
        let said = said.context("the centre does not say what time it is")?;
        let off = sent.as_second() - said.as_second();
        anyhow::ensure!(off.abs() <= CLOCK_SECONDS, "the clock of this machine differs by {off} s from that of the centre; set it (NTP)");
        let answer: idr_profile::enrolment::message::Nonce = serde_json::from_str(&read(response).await?)?;
        Ok(answer.nonce)
    }

    /// Posts, and gives the body of an answer of 2xx.
    ///
    /// # Errors
    /// No connection, [`Refused`], another status.
    pub async fn post(&self, name: &str, body: &impl Serialize, now: Timestamp) -> anyhow::Result<String> {
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now)?;
        let request = self.client.post(format!("{}/{name}", self.url)).header(CONTENT_TYPE, "application/json").header(DATE, date);
        let response = request.body(serde_json::to_string(body)?).send().await.map_err(|error| unreached(&self.url, error))?;
        read(response).await
    }
}

fn unreached(url: &str, error: reqwest::Error) -> anyhow::Error {
    let error = anyhow::Error::from(error.without_url());
    let pin = format!("{error:#}").contains("ApplicationVerificationFailure");
    let what = match pin {
        true => {
            format!("{url}: IDR-T-13: the certificate shown there matches no pin: possible interception. Nothing was sent; ask the centre")
        }
        false => format!("{url}: no answer"),
    };
    error.context(what)
}

async fn read(mut response: Response) -> anyhow::Result<String> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        anyhow::ensure!(body.len() + chunk.len() <= ANSWER_BYTES_MAX, "the answer is longer than {ANSWER_BYTES_MAX} bytes");
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return String::from_utf8(body).context("the answer is no text");
    }
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match problem["type"].as_str().and_then(JoinCode::of_problem_type) {
        Some(code) => Err(Refused { code }.into()),
        None => anyhow::bail!("the centre answers with HTTP {}", status.as_u16()),
    }
}
