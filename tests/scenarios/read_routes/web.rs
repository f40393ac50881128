//! DICOMweb: WADO-RS and QIDO-RS, a row for each of their routes.

use idr_tests::consumer::Receiving;

use super::*;

/// What a route names: study, series, instance, as far as its pattern goes.
type Named<'a> = (&'a str, &'a str, &'a str);

pub fn rows(stored: &Stored) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for path in [
        "/dicomweb/studies/{study}",
        "/dicomweb/studies/{study}/series/{series}",
        "/dicomweb/studies/{study}/series/{series}/instances/{instance}",
        "/wado",
    ] {
        let (transaction, query) = match path {
            "/wado" => (
                Transaction::WadoUri,
                "?requestType=WADO&contentType=application/dicom&studyUID={study}&seriesUID={series}&objectUID={instance}",
            ),
            _ => (Transaction::WadoRs, ""),
        };
        let holds: Holds<'_> = Box::new(|answer| {
            ensure!(answer.status == 200, "HTTP {}", answer.status);
            match answer.header("content-type").starts_with("multipart/") {
                true => is_as_sent(stored, answer),
                false => is_file_as_sent(stored, answer),
            }
        });
        rows.push(row(stored, transaction, By::Professional, path, query, holds));
    }
    for path in [
        "/dicomweb/studies/{study}/metadata",
        "/dicomweb/studies/{study}/series/{series}/metadata",
        "/dicomweb/studies/{study}/series/{series}/instances/{instance}/metadata",
    ] {
        rows.push(row(stored, Transaction::WadoRs, By::Professional, path, "", Box::new(|answer| tells(stored, answer, "00080018"))));
    }
    let path = "/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frames}";
    let holds: Holds<'_> = Box::new(|answer| {
        ensure!(answer.status == 200 && answer.header("content-type").contains("application/octet-stream"), "HTTP {}", answer.status);
        Ok(())
    });
    rows.push(row(stored, Transaction::WadoRs, By::Professional, path, "", holds));
    for by in [By::Professional, By::Technical] {
        for (path, query, unique) in [
            ("/dicomweb/studies", "?StudyInstanceUID={study}", "0020000D"),
            ("/dicomweb/studies", "?0020000D={study}&PatientName=*", "0020000D"),
            ("/dicomweb/series", "?StudyInstanceUID={study}&SeriesInstanceUID={series}", "0020000E"),
            ("/dicomweb/instances", "?StudyInstanceUID={study}&SOPInstanceUID={instance}&limit=1", "00080018"),
            ("/dicomweb/studies/{study}/series", "", "0020000E"),
            ("/dicomweb/studies/{study}/instances", "?includefield=all", "00080018"),
            ("/dicomweb/studies/{study}/series/{series}/instances", "", "00080018"),
        ] {
            rows.push(row(stored, Transaction::QidoRs, by, path, query, Box::new(move |answer| tells(stored, answer, unique))));
        }
    }
    rows
}

fn row<'a>(stored: &'a Stored, transaction: Transaction, by: By, path: &'static str, query: &'static str, holds: Holds<'a>) -> Row<'a> {
    let (series, instances) = &stored.registered.series[0];
    let own = (stored.study.uid.as_str(), series.as_str(), instances[0].as_str());
    let pattern = format!("{path}{query}").replace("{frames}", "1");
    let filled = |(study, series, instance): Named<'_>| {
        pattern.replace("{study}", study).replace("{series}", series).replace("{instance}", instance)
    };
    let ask =
        |named: Named<'_>| Ask { patient: patient_id(&stored.study.person), how: How::Get { path: filled(named) }, echoes: Vec::new() };
    let others: Vec<String> = [own.0, own.1, own.2].into_iter().map(same_length_uid).collect();
    let absent = [(&*others[0], own.1, own.2), (own.0, &*others[1], own.2), (own.0, own.1, &*others[2])];
    // What the pattern does not name, nothing is unknown of.
    let unknown = absent.into_iter().filter(|named| filled(*named) != filled(own)).map(ask).collect();
    let refusal = if by == By::Technical { "IDR-X-24" } else { "IDR-X-27" };
    Row { transaction, query: Some(path), by, form: query, stored: ask(own), unknown, holds, refusal }
}

/// The one file of an answer without parts.
fn is_file_as_sent(stored: &Stored, answer: &Raw) -> anyhow::Result<()> {
    let mut received = Receiving::new(true);
    received.feed(&answer.body);
    ensure!(received.finish_by_meta().digest == Some(stored.study.instances[0].digest()), "the instance came back changed");
    Ok(())
}

/// The answer describes the one instance that is stored, and nothing else.
fn tells(stored: &Stored, answer: &Raw, unique: &str) -> anyhow::Result<()> {
    ensure!(answer.status == 200, "HTTP {}", answer.status);
    let objects: Vec<serde_json::Value> = serde_json::from_slice(&answer.body)?;
    let (series, instances) = &stored.registered.series[0];
    let expected = match unique {
        "0020000D" => &stored.study.uid,
        "0020000E" => series,
        _ => &instances[0],
    };
    let told: Vec<&str> = objects.iter().filter_map(|object| object[unique]["Value"][0].as_str()).collect();
    ensure!(told == [expected.as_str()], "{told:?} instead of {expected}");
    Ok(())
}
