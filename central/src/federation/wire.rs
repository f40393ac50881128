//! How a message reaches a peer: HTTPS with both certificates, or, in tests, a function.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use reqwest::Client;

use super::Cause;

/// The way to one peer.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Sends a message to the peer's endpoint; gives the head of its answer, and the body as it comes.
    ///
    /// # Errors
    /// [`Cause::Connection`].
    async fn post(&self, content_type: &str, message: Bytes) -> Result<Response<Body>, Cause>;
}

/// HTTPS by our TLS profile. No redirect is followed, no proxy asked, and no address taken from a message (10 §4.2).
pub struct Https {
    client: Client,
    endpoint: String,
}

impl Https {
    /// A client of `endpoint`.
    ///
    /// # Errors
    /// What keeps it from being built.
    pub fn new(endpoint: &str, tls: rustls::ClientConfig, connect: Duration) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { client, endpoint: endpoint.to_owned() })
    }
}

#[async_trait]
impl Wire for Https {
    async fn post(&self, content_type: &str, message: Bytes) -> Result<Response<Body>, Cause> {
        let sent = self.client.post(&self.endpoint).header(CONTENT_TYPE, content_type).body(message).send().await;
        let answer = sent.map_err(|error| Cause::Connection(anyhow::Error::new(error.without_url())))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}
