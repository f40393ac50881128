//! QIDO-RS, and WADO-RS beyond one instance.

use super::*;

/// A second series of the study, with one image of another modality.
fn of_second_series(n: u32) -> Instance {
    let mut made = Instance::ct(n).with((0x0020, 0x000E), "UI", "1.2.246.10.90000011.77.1.2").with((0x0008, 0x103E), "LO", "Toinen");
    made.sop_instance_uid = format!("{STUDY}.2.{n}");
    let uid = made.sop_instance_uid.clone();
    made.with((0x0008, 0x0018), "UI", &uid)
}

async fn three(world: &World) -> [Instance; 3] {
    let made = [Instance::ct(1), Instance::ct(2), of_second_series(1)];
    for instance in &made {
        let (head, answer) = store(world, &[part(instance)]).await;
        assert_eq!(head.status(), StatusCode::OK, "{answer}");
    }
    made
}

async fn qido(world: &World, party: &Party, path: &str) -> (Response<()>, Value) {
    let authorization = party.bearer(&party.physician(&patient()), "idr.query");
    read(get(world, party, path, &authorization).await).await
}

async fn found(world: &World, path: &str) -> Vec<Value> {
    let (head, answer) = qido(world, &PKI.hospital, path).await;
    match head.status() {
        StatusCode::NO_CONTENT => Vec::new(),
        StatusCode::OK => answer.as_array().expect("an array").clone(),
        status => panic!("{path}: {status} {answer}"),
    }
}

fn first<'a>(object: &'a Value, name: &str) -> &'a Value {
    &object[name]["Value"][0]
}

fn uids(found: &[Value], name: &str) -> Vec<String> {
    found.iter().map(|object| first(object, name).as_str().expect("a UID").to_owned()).collect()
}

#[tokio::test]
async fn each_level_tells_what_the_standard_lists() {
    let world = World::new().await;
    three(&world).await;
    let base = format!("https://central.idr.example/dicomweb/studies/{STUDY}");
    let studies = found(&world, "/dicomweb/studies").await;
    let [study] = &studies[..] else { panic!("{studies:?}") };
    let expected = json!({
        "00080005": { "vr": "CS", "Value": ["ISO_IR 192"] },
        "00080020": { "vr": "DA", "Value": ["20260115"] },
        "00080030": { "vr": "TM", "Value": ["101530"] },
        "00080050": { "vr": "SH", "Value": ["T042059118706"] },
        "00080056": { "vr": "CS", "Value": ["ONLINE"] },
        "00080061": { "vr": "CS", "Value": ["CT"] },
        "00080090": { "vr": "PN", "Value": [{ "Alphabetic": "Lähettäjä^Testi" }] },
        "00080201": { "vr": "SH" },
        "00081190": { "vr": "UR", "Value": [base] },
        "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Öhman^Sanni" }] },
        "00100020": { "vr": "LO", "Value": ["010190-900P"] },
        "00100021": { "vr": "LO", "Value": ["1.2.246.21"] },
        "00100030": { "vr": "DA", "Value": ["19900101"] },
        "00100040": { "vr": "CS", "Value": ["F"] },
        "0020000D": { "vr": "UI", "Value": [STUDY] },
        "00200010": { "vr": "SH" },
        "00201206": { "vr": "IS", "Value": [2] },
        "00201208": { "vr": "IS", "Value": [3] },
    });
    assert_eq!(*study, expected, "{study:#}");

    let series = found(&world, &format!("/dicomweb/studies/{STUDY}/series")).await;
    assert_eq!(uids(&series, "0020000E"), [format!("{STUDY}.1"), format!("{STUDY}.2")]);
    assert_eq!((first(&series[0], "00201209"), first(&series[1], "00201209")), (&json!(2), &json!(1)));
    assert_eq!((first(&series[1], "0008103E"), first(&series[1], "00080060")), (&json!("Toinen"), &json!("CT")));
    assert_eq!(first(&series[1], "00081190"), &json!(format!("{base}/series/{STUDY}.2")));
    assert_eq!(series[0].get("00100010"), None, "the path names the study");
    let series = found(&world, "/dicomweb/series").await;
    assert_eq!(first(&series[0], "00100010")["Alphabetic"], json!("Öhman^Sanni"), "no path names the study");

    for (path, expected) in [
        (format!("/dicomweb/studies/{STUDY}/series/{STUDY}.1/instances"), vec![format!("{STUDY}.1.1"), format!("{STUDY}.1.2")]),
        (format!("/dicomweb/studies/{STUDY}/series/{STUDY}.2/instances"), vec![format!("{STUDY}.2.1")]),
        (format!("/dicomweb/studies/{STUDY}/instances"), vec![format!("{STUDY}.1.1"), format!("{STUDY}.1.2"), format!("{STUDY}.2.1")]),
        ("/dicomweb/instances".to_owned(), vec![format!("{STUDY}.1.1"), format!("{STUDY}.1.2"), format!("{STUDY}.2.1")]),
    ] {
        let instances = found(&world, &path).await;
        assert_eq!(uids(&instances, "00080018"), expected, "{path}");
        let told = (first(&instances[0], "00280010"), first(&instances[0], "00080016"), first(&instances[0], "00200013"));
        assert_eq!(told, (&json!(4), &json!(CT), &json!(1)), "{path}");
    }
}

#[tokio::test]
async fn keys_match_and_what_is_asked_for_is_given_back() {
    let world = World::new().await;
    three(&world).await;
    for (path, matched) in [
        ("/dicomweb/studies?PatientName=%C3%B6hman*", 1),
        ("/dicomweb/studies?PatientName=Virtanen*", 0),
        ("/dicomweb/studies?PatientID=010190-900P", 1),
        ("/dicomweb/studies?PatientID=010190-900P&IssuerOfPatientID=1.2.246.21", 1),
        ("/dicomweb/studies?PatientID=0101*", 1),
        ("/dicomweb/studies?StudyDate=20260101-20260131", 1),
        ("/dicomweb/studies?00080020=20260201-", 0),
        ("/dicomweb/studies?ModalitiesInStudy=CT", 1),
        ("/dicomweb/studies?ModalitiesInStudy=MR", 0),
        ("/dicomweb/studies?AccessionNumber=T042059118706&unknown=1", 1),
        ("/dicomweb/series?Modality=CT", 2),
        ("/dicomweb/series?SeriesDescription=Toi*", 1),
        ("/dicomweb/instances?InstanceNumber=1", 2),
        ("/dicomweb/instances?InstanceNumber=7", 0),
    ] {
        assert_eq!(found(&world, path).await.len(), matched, "{path}");
    }
    let other = format!("/dicomweb/studies/{STUDY}/series?SeriesInstanceUID={STUDY}.2,{STUDY}.9");
    assert_eq!(uids(&found(&world, &other).await, "0020000E"), [format!("{STUDY}.2")]);
    assert_eq!(found(&world, &format!("/dicomweb/studies/{STUDY}/series?StudyInstanceUID={STUDY}.9")).await, [json!(null); 0]);

    let asked = found(&world, "/dicomweb/studies?includefield=StudyDescription,00080062").await;
    assert_eq!((first(&asked[0], "00081030"), first(&asked[0], "00080062")), (&json!("AA1AD Pään TT"), &json!(CT)));
    let asked = found(&world, "/dicomweb/instances?includefield=PixelSpacing&includefield=all&limit=1").await;
    assert_eq!((&asked[0]["00280030"]["Value"], first(&asked[0], "00080023")), (&json!([0.5, 0.5]), &json!("20260115")));
}

#[tokio::test]
async fn pages_follow_each_other_and_say_what_remains() {
    let world = World::new().await;
    three(&world).await;
    let mut told = Vec::new();
    for (offset, remaining) in [(0, Some(2)), (1, Some(1)), (2, None)] {
        // With and without a key that is matched on headers.
        for key in ["", "&Modality=CT"] {
            let path = format!("/dicomweb/instances?limit=1&offset={offset}{key}");
            let (head, answer) = qido(&world, &PKI.hospital, &path).await;
            let expected = remaining.map(|left| {
                format!("299 https://central.idr.example/dicomweb \"There are {left} additional results that can be requested\"")
            });
            assert_eq!(header(&head, &WARNING), expected.iter().map(String::as_str).collect::<Vec<_>>(), "{path}");
            told.extend(uids(answer.as_array().expect("an array"), "00080018"));
        }
    }
    let each = [format!("{STUDY}.1.1"), format!("{STUDY}.1.2"), format!("{STUDY}.2.1")];
    assert_eq!(told, each.iter().flat_map(|uid| [uid.clone(), uid.clone()]).collect::<Vec<_>>());
    let (head, _) = qido(&world, &PKI.hospital, "/dicomweb/instances?offset=3").await;
    assert_eq!((head.status(), header(&head, &WARNING).len()), (StatusCode::NO_CONTENT, 0));
    let (head, _) = qido(&world, &PKI.hospital, "/dicomweb/studies?PatientName=%C3%B6hman&fuzzymatching=true").await;
    assert_eq!(
        header(&head, &WARNING)[0].split('"').nth(1),
        Some("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    );
}

/// 09 §6: the bound counts what is permitted, and only without `limit`.
#[tokio::test]
async fn more_matches_than_the_bound_need_a_limit() {
    let mut rules = idr_profile::xds::XdsRules::shipped();
    rules.qido.max_results = 2;
    let world = World::under(rules, "", &[]).await;
    three(&world).await;
    let (head, answer) = qido(&world, &PKI.hospital, "/dicomweb/instances").await;
    assert_eq!((head.status(), &answer["code"], &answer["limit"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("IDR-W-22"), &json!("2")));
    assert_eq!(found(&world, "/dicomweb/instances?limit=2").await.len(), 2);
    assert_eq!(found(&world, "/dicomweb/instances?limit=5").await.len(), 2);
    assert_eq!(found(&world, "/dicomweb/series").await.len(), 2);
}

/// More candidates than are looked at are no answer to who may see none of them (05 §8).
#[tokio::test]
async fn too_many_candidates_are_told_to_those_alone_who_may_see_some() {
    let mut rules = idr_profile::xds::XdsRules::shipped();
    rules.qido.max_results = 1;
    let world = World::under(rules, "", &[]).await;
    three(&world).await;
    for (party, status) in [(&PKI.hospital, StatusCode::PAYLOAD_TOO_LARGE), (&PKI.other, StatusCode::NO_CONTENT)] {
        let (head, answer) = qido(&world, party, "/dicomweb/instances?limit=1").await;
        assert_eq!(head.status(), status, "{answer}");
    }
}

#[tokio::test]
async fn what_is_denied_and_what_is_absent_are_one_answer() {
    let world = World::new().await;
    let made = three(&world).await;
    let series = format!("/dicomweb/studies/{STUDY}/series/{STUDY}.1");
    for (path, scope, absent) in [
        ("/dicomweb/studies".to_owned(), "idr.query", 204),
        ("/dicomweb/series?Modality=CT".to_owned(), "idr.query", 204),
        (format!("{series}/instances?limit=1"), "idr.query", 204),
        (format!("/dicomweb/studies/{STUDY}"), "idr.retrieve", 404),
        (series.clone(), "idr.retrieve", 404),
        (format!("/dicomweb/studies/{STUDY}/metadata"), "idr.retrieve", 404),
        (format!("{series}/metadata"), "idr.retrieve", 404),
        (format!("{}/metadata", instance_path(&made[0])), "idr.retrieve", 404),
    ] {
        let other = get(&world, &PKI.other, &path, &PKI.other.bearer(&PKI.other.physician(&patient()), scope)).await;
        assert_eq!(other.status().as_u16(), absent, "another's {path}");
        assert_eq!(header(&bytes(other).await.0, &WARNING), [""; 0], "{path}");
        let own = get(&world, &PKI.hospital, &path, &PKI.hospital.bearer(&PKI.hospital.physician(&other_patient()), scope)).await;
        assert_eq!(own.status().as_u16(), absent, "of another patient: {path}");
        let own = get(&world, &PKI.hospital, &path, &PKI.hospital.bearer(&PKI.hospital.physician(&patient()), scope)).await;
        assert_eq!(own.status(), StatusCode::OK, "own {path}");
    }
    let path = "/dicomweb/studies?PatientID=131052-930V&IssuerOfPatientID=1.2.246.21";
    let (head, answer) = qido(&world, &PKI.hospital, path).await;
    assert_eq!((head.status(), &answer["refusal"]), (StatusCode::FORBIDDEN, &json!("IDR-X-26")), "V16 is asked of a patient that is named");
    for (path, field) in [("/dicomweb/studies?limit=0", "limit"), ("/dicomweb/studies?PatientComments=x", "PatientComments")] {
        let (head, answer) = qido(&world, &PKI.hospital, path).await;
        assert_eq!((head.status(), &answer["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{path}");
    }
}

#[tokio::test]
async fn the_record_of_a_search_names_what_was_told() {
    let world = World::new().await;
    three(&world).await;
    let before = world.sink.entries().len();
    found(&world, "/dicomweb/series?SeriesDescription=Toi*").await;
    let records = format!("{:?}", &world.sink.entries()[before..]);
    assert!(records.contains("QIDO-RS") && records.contains(&format!("{STUDY}.2\"")), "{records}");
    assert!(!records.contains(&format!("{STUDY}.1\"")), "the other series was not told: {records}");
}

/// Files of a multipart answer.
fn files(head: &Response<()>, body: &Bytes) -> Vec<Vec<u8>> {
    let media = idr_ihe::soap::MediaType::parse(header(head, &CONTENT_TYPE)[0]).expect("a media type");
    let limits = idr_ihe::soap::multipart::Limits::STOW;
    let mut reader = idr_ihe::soap::multipart::Reader::new(media.parameter("boundary").expect("a boundary"), limits).expect("a boundary");
    reader.feed(body).expect("within bounds");
    let mut files: Vec<Vec<u8>> = Vec::new();
    while let Some(event) = reader.poll().expect("well formed") {
        match event {
            idr_ihe::soap::multipart::Event::Part(_) => files.push(Vec::new()),
            idr_ihe::soap::multipart::Event::Data(data) => files.last_mut().expect("a part").extend_from_slice(&data),
            _ => {}
        }
    }
    reader.finish().expect("closed");
    files
}

#[tokio::test]
async fn a_study_and_a_series_come_back_whole() {
    let world = World::new().await;
    let made = three(&world).await;
    for (path, expected) in
        [(format!("/dicomweb/studies/{STUDY}"), &made[..]), (format!("/dicomweb/studies/{STUDY}/series/{STUDY}.1"), &made[..2])]
    {
        let before = world.sink.entries().len();
        let (head, body) = bytes(wado(&world, &PKI.hospital, &path).await).await;
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert_eq!(head.headers()[CONTENT_LENGTH], body.len().to_string(), "{path}");
        let sets: Vec<Vec<u8>> = files(&head, &body).iter().map(|file| data_set(file)).collect();
        assert_eq!(sets, expected.iter().map(Instance::data_set).collect::<Vec<_>>(), "{path}");
        let records = format!("{:?}", &world.sink.entries()[before..]);
        let delivered = format!("\"instances\": Number({})", expected.len());
        assert!(records.contains("String(\"complete\")") && records.contains(&delivered), "{path}: {records}");
    }
    for accept in
        ["application/dicom; transfer-syntax=*", "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.90"]
    {
        let authorization = PKI.hospital.bearer(&PKI.hospital.physician(&patient()), "idr.retrieve");
        let request = Request::get(format!("/dicomweb/studies/{STUDY}")).header(AUTHORIZATION, authorization).header(ACCEPT, accept);
        let answer = world.send(&PKI.hospital, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status(), StatusCode::NOT_ACCEPTABLE, "{accept}");
    }
}

#[tokio::test]
async fn metadata_describes_each_instance_without_its_pixels() {
    let world = World::new().await;
    let made = three(&world).await;
    let series = format!("/dicomweb/studies/{STUDY}/series/{STUDY}.1/metadata");
    for (path, expected) in
        [(format!("/dicomweb/studies/{STUDY}/metadata"), 3), (series, 2), (format!("{}/metadata", instance_path(&made[0])), 1)]
    {
        let (head, answer) = read(wado(&world, &PKI.hospital, &path).await).await;
        assert_eq!((head.status(), header(&head, &CONTENT_TYPE)), (StatusCode::OK, vec!["application/dicom+json"]), "{path}");
        let objects = answer.as_array().expect("an array");
        assert_eq!(objects.len(), expected, "{path}");
        assert_eq!(first(&objects[0], "00080018"), &json!(made[0].sop_instance_uid));
        assert_eq!(first(&objects[0], "00100010")["Alphabetic"], json!("Öhman^Sanni"));
        assert_eq!(objects[0]["00280030"], json!({ "vr": "DS", "Value": [0.5, 0.5] }));
        assert_eq!(objects[0].get("7FE00010"), None);
    }
}

#[tokio::test]
async fn bytes_that_are_gone_are_told_before_the_first_one() {
    let world = World::new().await;
    three(&world).await;
    let objects = world.folder.path().join("objects");
    std::fs::rename(&objects, world.folder.path().join("away")).expect("renamed");
    for path in [format!("/dicomweb/studies/{STUDY}"), format!("/dicomweb/studies/{STUDY}/metadata")] {
        let answer = wado(&world, &PKI.hospital, &path).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
    let series = found(&world, "/dicomweb/series").await;
    assert_eq!(uids(&series, "0020000E"), [format!("{STUDY}.1"), format!("{STUDY}.2")], "what the index knows is told");
    assert_eq!(found(&world, "/dicomweb/series?Modality=CT").await.len(), 0, "nothing is known to match");
}

/// RAD-55 (08 §7): 404 for all that is not there or not permitted, 400 for what is malformed, 406 for what would have to be made.
#[tokio::test]
async fn an_instance_is_named_by_parameters() {
    let world = World::new().await;
    let made = three(&world).await;
    let uid = &made[0].sop_instance_uid;
    let own = format!("/wado?requestType=WADO&studyUID={STUDY}&seriesUID={STUDY}.1&objectUID={uid}");
    for path in [
        own.clone(),
        format!("{own}&contentType=application%2Fdicom"),
        format!("{own}&contentType=image/jpeg,application/dicom&transferSyntax={EXPLICIT}"),
    ] {
        let (head, body) = bytes(wado(&world, &PKI.hospital, &path).await).await;
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&head, &CONTENT_TYPE), [format!("application/dicom; transfer-syntax={EXPLICIT}")]);
        assert_eq!(data_set(&body), made[0].data_set(), "{path}");
    }
    for (path, status, code) in [
        (own.replace("requestType=WADO", "requestType=X"), 400, "IDR-W-01"),
        (own.replace("&studyUID=", "&studyUID=&x="), 400, "IDR-W-01"),
        (own.replace("&objectUID=", "&objectUID=abc&x="), 400, "IDR-W-01"),
        (format!("{own}&objectUID=1.2"), 400, "IDR-W-01"),
        (format!("{own}&frameNumber=0"), 400, "IDR-W-01"),
        (own.replace(&format!("objectUID={uid}"), &format!("objectUID={uid}9")), 404, "IDR-W-04"),
        (own.replace(&format!("seriesUID={STUDY}.1"), &format!("seriesUID={STUDY}.2")), 404, "IDR-W-04"),
        (format!("{own}&contentType=image/jpeg"), 406, "IDR-W-06"),
        (format!("{own}&frameNumber=1"), 406, "IDR-W-06"),
        (format!("{own}&contentType=application/dicom&transferSyntax=1.2.840.10008.1.2.4.90"), 406, "IDR-W-06"),
        (format!("{own}&anonymize=yes"), 501, "IDR-W-18"),
    ] {
        let (head, answer) = read(wado(&world, &PKI.hospital, &path).await).await;
        assert_eq!((head.status().as_u16(), answer["code"].as_str()), (status, Some(code)), "{path}");
    }
    assert_eq!(wado(&world, &PKI.other, &own).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn frames_are_cut_from_the_stored_pixels() {
    let world = World::new().await;
    let mut image = Instance::ct(1).with((0x0028, 0x0008), "IS", "2");
    image.put_number((0x0028, 0x0010), 2);
    image.put_number((0x0028, 0x0011), 2);
    let image = image.pixels(&[[1; 8], [2; 8]].concat());
    let (head, answer) = store(&world, &[part(&image)]).await;
    assert!(head.status().is_success(), "{answer}");
    for (list, expected) in [("1", vec![vec![1; 8]]), ("2,1", vec![vec![2; 8], vec![1; 8]])] {
        let (head, body) = bytes(wado(&world, &PKI.hospital, &format!("{}/frames/{list}", instance_path(&image))).await).await;
        assert_eq!(head.status(), StatusCode::OK, "{list}");
        assert_eq!(head.headers()[CONTENT_LENGTH], body.len().to_string());
        assert_eq!(files(&head, &body), expected, "{list}");
    }
    for (list, status) in [("3", 404), ("0", 400), ("a", 400)] {
        let answer = wado(&world, &PKI.hospital, &format!("{}/frames/{list}", instance_path(&image))).await;
        assert_eq!(answer.status().as_u16(), status, "{list}");
    }
}
