//! Metadata of a study, a series or an instance in the DICOM JSON model (PS3.18 §10.4.1.1.2, Annex F).
//!
//! One header is in memory at a time; each is decided again before it is read. Bulk data has no resource of its own here, so
//! that it is left out.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Uri};
use idr_profile::scan::Scan;
use idr_profile::xua::Transaction;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::{Call, Ended, Target, found, media, stopped};
use crate::archive::header::Until;
use crate::archive::retrieve::Retrieval;
use crate::central::Central;
use crate::https::server::Client;
use crate::store::instances::StoredInstance;

/// `GET …/studies/{study}/metadata`.
pub async fn study_metadata(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path(study): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: None, instance: None };
    metadata(Call { central, client, headers, uri }, target).await.unwrap_or_else(|response| *response)
}

/// `GET …/series/{series}/metadata`.
pub async fn series_metadata(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: Some(series), instance: None };
    metadata(Call { central, client, headers, uri }, target).await.unwrap_or_else(|response| *response)
}

/// `GET …/instances/{instance}/metadata`.
pub async fn instance_metadata(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path((study, series, instance)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let target = Target { study, series: Some(series), instance: Some(instance) };
    metadata(Call { central, client, headers, uri }, target).await.unwrap_or_else(|response| *response)
}

async fn metadata(call: Call, target: Target) -> Ended<Response> {
    let (mut retrieval, place) = found(&call, Transaction::WadoRs, &target, media::takes_json(&call.headers)).await?;
    // What cannot be read is told before the first byte, if it is the first.
    let first = match retrieval.header(0, Until::PixelData).await {
        Ok(scan) => scan,
        Err(error) => return Err(stopped(&call, retrieval, error).await),
    };
    let describing = Describing { first: Some(first), index: 0, retrieval: Some(retrieval), _place: place };
    let mut response = Response::new(Body::from_stream(stream::unfold(describing, Describing::next).fuse()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/dicom+json"));
    Ok(response)
}

/// An array while it is sent, an object for each instance.
struct Describing {
    first: Option<Scan>,
    index: usize,
    retrieval: Option<Retrieval<StoredInstance>>,
    _place: OwnedSemaphorePermit,
}

impl Describing {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        let retrieval = self.retrieval.as_mut()?;
        if self.index == retrieval.items().len() {
            if let Some(retrieval) = self.retrieval.take() {
                retrieval.close("200").await;
            }
            return Some((Ok(Bytes::from_static(b"]")), self));
        }
        let scan = match self.first.take() {
            Some(scan) => Ok(scan),
            None => retrieval.header(self.index, Until::PixelData).await,
        };
        match scan {
            Ok(scan) => {
                let object = Value::Object(scan.data_set().to_json(&|_| None));
                let text = format!("{}{object}", if self.index == 0 { "[" } else { "," });
                retrieval.count(text.len() as u64);
                retrieval.count_described();
                self.index += 1;
                Some((Ok(text.into()), self))
            }
            Err(error) => {
                // Dropping the retrieval closes its records with what had left.
                tracing::error!(cause = %error, "metadata is broken off");
                self.retrieval = None;
                Some((Err(std::io::Error::other("the answer cannot be completed")), self))
            }
        }
    }
}
