//! RAD-55, WADO-URI: one instance named by parameters, `GET /wado` (PS3.18 §9; RAD TF-3 §4.55; profile 08 §7).
//!
//! The instance goes out as it is stored. What would have to be made of it is not offered: rendering (406), another transfer
//! syntax (406), anonymised copies (501: what was asked for as such must not be given as it is).

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use idr_profile::xua::Transaction;

use super::{Call, Ended, Target, found, give, media};
use crate::central::Central;
use crate::https::problem::Problem;
use crate::https::server::Client;

/// `GET /wado`.
pub async fn by_parameters(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    answer(Call { central, client, headers, uri }).await.unwrap_or_else(|response| *response)
}

/// What a request names.
#[derive(Debug, Default)]
struct Parameters {
    target: Option<Target>,
    /// The stored form, or anything, is asked for.
    dicom: bool,
    transfer_syntax: Option<String>,
    anonymised: bool,
    /// The parameter that is missing or malformed.
    wrong: Option<&'static str>,
}

async fn answer(call: Call) -> Ended<Response> {
    let parameters = read(&call.uri);
    // A target that is never looked up, so that who asks is judged first.
    let target = parameters.target.clone().unwrap_or(Target { study: String::new(), series: None, instance: None });
    let takes = media::takes(&call.headers, &["application/dicom"]);
    let (acceptable, missing) = (parameters.dicom && takes, parameters.wrong.or(parameters.anonymised.then_some("anonymize")));
    let (retrieval, place) = match missing {
        None => found(&call, Transaction::WadoUri, &target, acceptable).await?,
        Some(parameter) => {
            super::entered(&call, Transaction::WadoUri).await?;
            let problem = match parameters.wrong {
                Some(_) => Problem::bad_request(),
                None => Problem::new("W-18", StatusCode::NOT_IMPLEMENTED),
            };
            return Err(Box::new(call.answer(&problem.with("field", parameter))));
        }
    };
    let stored = retrieval.items().next().map(|item| item.transfer_syntax_uid.clone());
    let fits = parameters.transfer_syntax.is_none_or(|asked| Some(asked) == stored);
    give(&call, retrieval, place, fits.then_some(media::Frame::Single)).await
}

fn read(uri: &Uri) -> Parameters {
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Parameters { wrong: Some("query"), ..Parameters::default() };
    };
    let value = |name: &str| {
        let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.trim());
        // Given twice, it names nothing.
        values.next().filter(|_| values.next().is_none()).map(str::to_owned)
    };
    let given = |name: &str| pairs.iter().any(|(key, _)| key == name);
    let target = || Some(Target { study: value("studyUID")?, series: Some(value("seriesUID")?), instance: Some(value("objectUID")?) });
    let valid = |name: &str| value(name).is_some_and(|uid| crate::https::stow::is_uid(&uid));
    let wrong = match () {
        () if value("requestType").as_deref() != Some("WADO") => Some("requestType"),
        () if !valid("studyUID") => Some("studyUID"),
        () if !valid("seriesUID") => Some("seriesUID"),
        () if !valid("objectUID") => Some("objectUID"),
        () if given("transferSyntax") && !valid("transferSyntax") => Some("transferSyntax"),
        // A frame of its own is a rendered one (PS3.18 §9.1.2.2.5).
        () if given("frameNumber")
            && value("frameNumber").is_none_or(|number| number.parse::<u32>().is_ok_and(|number| number > 0).then_some(()).is_none()) =>
        {
            Some("frameNumber")
        }
        () => None,
    };
    let dicom =
        |types: String| types.split(',').any(|media| matches!(media.split(';').next().map(str::trim), Some("application/dicom" | "*/*")));
    Parameters {
        target: target(),
        dicom: value("contentType").is_none_or(dicom) && !given("frameNumber"),
        transfer_syntax: value("transferSyntax"),
        anonymised: given("anonymize"),
        wrong,
    }
}
