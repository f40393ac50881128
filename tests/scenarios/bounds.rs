//! The bounds of profile 10 §11 at the doors of the site, over the wire: each at its limit, one past it, and with the largest length
//! that its field can hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use toml::Table;

use crate::story;

const CT: &[u8] = b"1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &[u8] = b"1.2.840.10008.1.2.1";

/// How a door answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A-ASSOCIATE-AC.
    Accepted,
    /// A-ASSOCIATE-RJ: result, source, reason.
    Rejected(u8, u8, u8),
    /// A-ABORT: source, reason.
    Aborted(u8, u8),
    /// P-DATA-TF.
    Data,
    /// HTTP status.
    Http(u16),
    /// The connection ends without a word.
    Closed,
    /// Nothing yet.
    Waits,
}

fn item(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &u16::try_from(content.len()).expect("an item").to_be_bytes(), content].concat()
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &u32::try_from(body.len()).expect("a PDU").to_be_bytes(), body].concat()
}

fn context(id: u8, syntaxes: &[Vec<u8>]) -> Vec<u8> {
    let syntaxes: Vec<u8> = syntaxes.iter().flat_map(|syntax| item(0x40, syntax)).collect();
    item(0x20, &[&[id, 0, 0, 0][..], &item(0x30, CT), &syntaxes].concat())
}

/// A-ASSOCIATE-RQ with these contexts and further user items.
fn request(contexts: &[Vec<u8>], user: &[Vec<u8>]) -> Vec<u8> {
    let user = [item(0x51, &[0, 2, 0, 0]), item(0x52, b"1.2.246.10.90000011.12.98"), user.concat()].concat();
    let titles = [&[0, 1, 0, 0][..], b"IDRSITE         ", b"MODALITY        ", &[0; 32]].concat();
    pdu(1, &[titles, item(0x10, b"1.2.840.10008.3.1.1.1"), contexts.concat(), item(0x50, &user)].concat())
}

fn plain_request() -> Vec<u8> {
    request(&[context(1, &[EXPLICIT.to_vec()])], &[])
}

/// A request whose PDU-length is this.
fn request_of(length: usize) -> Vec<u8> {
    let ids: Vec<u8> = (0..128_u16).map(|n| u8::try_from(2 * n + 1).expect("odd, to 255")).collect();
    let bare: Vec<Vec<u8>> = ids.iter().map(|id| context(*id, &[EXPLICIT.to_vec()])).collect();
    let mut rest = length + 6 - request(&bare, &[]).len();
    let contexts: Vec<Vec<u8>> = ids
        .iter()
        .map(|id| {
            let mut syntaxes = vec![EXPLICIT.to_vec()];
            // 68 bytes an item; the last one is what is left, and has at least one character.
            while syntaxes.len() < 63 && rest >= 5 {
                let characters = if rest >= 68 + 5 { 64 } else { (rest - 4).min(60) };
                syntaxes.push([b"1.".to_vec(), vec![b'2'; characters]].concat()[..characters].to_vec());
                rest -= characters + 4;
            }
            context(*id, &syntaxes)
        })
        .collect();
    assert_eq!(rest, 0, "filled");
    request(&contexts, &[])
}

/// A P-DATA-TF of these fragments: control header, bytes.
fn data(fragments: &[(u8, &[u8])]) -> Vec<u8> {
    let fragment = |(control, bytes): &(u8, &[u8])| {
        [&u32::try_from(bytes.len() + 2).expect("short").to_be_bytes()[..], &[1, *control], bytes].concat()
    };
    pdu(4, &fragments.iter().flat_map(fragment).collect::<Vec<u8>>())
}

/// A C-ECHO-RQ whose command set has this many bytes, by an Error Comment too long for any.
fn command_of(bytes: usize) -> Vec<u8> {
    let element = |tag: u16, value: &[u8]| {
        [&[0, 0][..], &tag.to_le_bytes(), &u32::try_from(value.len()).expect("short").to_le_bytes(), value].concat()
    };
    let mut rest =
        [element(0x0002, b"1.2.840.10008.1.1\0"), element(0x0100, &[0x30, 0]), element(0x0110, &[1, 0]), element(0x0800, &[1, 1])].concat();
    let filling = bytes - 12 - rest.len() - 8;
    rest.extend(element(0x0902, &vec![b' '; filling]));
    let length = u32::try_from(rest.len()).expect("short").to_le_bytes();
    [element(0, &length), rest].concat()
}

/// A command set in fragments of half a PDU.
fn command_pdus(command: &[u8]) -> Vec<u8> {
    let chunks: Vec<&[u8]> = command.chunks(16_000).collect();
    let last = chunks.len() - 1;
    chunks.iter().enumerate().flat_map(|(at, chunk)| data(&[(if at == last { 3 } else { 1 }, chunk)])).collect()
}

struct Wire(TcpStream);

impl Wire {
    async fn to(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(TcpStream::connect(address).await?))
    }

    /// With an association.
    async fn associated(address: SocketAddr) -> anyhow::Result<Self> {
        let mut wire = Self::to(address).await?;
        let answer = wire.ask(&plain_request()).await?;
        ensure!(answer == Answer::Accepted, "{answer:?}");
        Ok(wire)
    }

    /// What is answered to these bytes; an end while they are written is an answer too.
    async fn ask(&mut self, bytes: &[u8]) -> anyhow::Result<Answer> {
        self.0.write_all(bytes).await.ok();
        self.hear(Duration::from_secs(10)).await
    }

    async fn hear(&mut self, wait: Duration) -> anyhow::Result<Answer> {
        let mut head = [0; 6];
        match tokio::time::timeout(wait, self.0.read_exact(&mut head)).await {
            Err(_) => return Ok(Answer::Waits),
            Ok(Err(_)) => return Ok(Answer::Closed),
            Ok(Ok(_)) => {}
        }
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let mut body = vec![0; length.min(1 << 20)];
        self.0.read_exact(&mut body).await?;
        Ok(match head[0] {
            2 => Answer::Accepted,
            3 => Answer::Rejected(body[1], body[2], body[3]),
            4 => Answer::Data,
            7 => Answer::Aborted(body[2], body[3]),
            other => anyhow::bail!("PDU {other}"),
        })
    }
}

/// A request to the STOW-RS door, as it is; its status.
async fn http(address: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.context("no end of the answer")?.ok();
    let text = String::from_utf8_lossy(&answer);
    Ok(text.split(' ').nth(1).and_then(|status| status.parse().ok()).map_or(Answer::Closed, Answer::Http))
}

/// A POST with this target, further head, and body.
fn post(target: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let kind = "multipart/related; type=\"application/dicom\"; boundary=b";
    let line = format!(
        "POST {target} HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{head}\r\n",
        body.len()
    );
    [line.as_bytes(), body].concat()
}

/// `parts` copies of a file, the first with a part head of `head` bytes.
fn parts(file: &[u8], parts: usize, head: usize) -> Vec<u8> {
    let fields = "Content-Type: application/dicom";
    let filler =
        |bytes: usize| if bytes > fields.len() { format!("\r\nx: {}", "y".repeat(bytes - fields.len() - 5)) } else { String::new() };
    let mut body = Vec::new();
    for number in 0..parts {
        let more = if number == 0 { filler(head) } else { String::new() };
        body.extend_from_slice(format!("--b\r\n{fields}{more}\r\n\r\n").as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

async fn world(change: fn(&mut Table)) -> anyhow::Result<(World, SocketAddr)> {
    let site = Arc::new(move |table: &mut Table| {
        let shorter = [("dimse.artim_seconds", 2), ("dimse.handshake_seconds", 1), ("stow.body_bytes_max", 60_000), ("stow.parts_max", 3)];
        edit(table, shorter.map(|(key, value)| (key, value.into())));
        edit(table, [("stow.listen", vec!["127.0.0.1:0".to_owned()].into())]);
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        edit(row, [("stow", true.into())]);
        change(table);
    });
    let mut world = World::prepare(Plan { site, ..Plan::default() })?;
    let stow = world.site_mut().program.start().await?.stow[0];
    Ok((world, stow))
}

#[test]
fn each_bound_of_the_doors_holds_at_its_limit_and_not_past_it() {
    use Answer::{Aborted, Accepted, Closed, Data, Http, Rejected, Waits};
    story(async {
        let (mut world, stow) = world(|_| {}).await?;
        let (plain, tls) = (world.site().dimse, world.site().dimse_tls);
        let mut wrong = Vec::new();
        let mut check = |row: &str, what: &str, expected: Answer, answer: Answer| {
            println!("{row} {what}: {answer:?}");
            if answer != expected {
                wrong.push(format!("{row} {what}: {answer:?} instead of {expected:?}"));
            }
        };
        let invalid = Aborted(2, 6);

        // BD-02, BD-03: waits.
        check("BD-02", "a handshake that is not begun", Closed, Wire::to(tls).await?.hear(Duration::from_secs(8)).await?);
        check("BD-03", "an association that is not asked for", Closed, Wire::to(plain).await?.hear(Duration::from_secs(8)).await?);

        // BD-03: A-ASSOCIATE-RQ.
        let syntaxes = |count: usize| [context(1, &vec![EXPLICIT.to_vec(); count])];
        let unknown = |count: usize| vec![item(0x5F, b"x"); count];
        let uid = |length: usize| [context(1, &[EXPLICIT.to_vec(), vec![b'1'; length]])];
        for (what, expected, bytes) in [
            ("262 144 bytes", Accepted, request_of(262_144)),
            ("262 145 bytes", invalid, request_of(262_145)),
            ("an announced length of 2^32-1", invalid, [&[1, 0][..], &[0xFF; 4], &[0; 80]].concat()),
            ("64 transfer syntaxes", Accepted, request(&syntaxes(64), &[])),
            ("65 transfer syntaxes", invalid, request(&syntaxes(65), &[])),
            ("256 user items", Accepted, request(&syntaxes(1), &unknown(254))),
            ("257 user items", invalid, request(&syntaxes(1), &unknown(255))),
            ("a UID of 64 bytes", Accepted, request(&uid(64), &[])),
            ("a UID of 65 bytes", invalid, request(&uid(65), &[])),
        ] {
            check("BD-03", what, expected, Wire::to(plain).await?.ask(&bytes).await?);
        }

        // BD-04, BD-05, BD-06: within an association. Of what is only a part nothing is answered.
        let fragment = vec![0; 131_072 - 6];
        let some = |count: usize| data(&vec![(1, &[0_u8][..]); count]);
        let empty = |count: usize| data(&vec![(1, &[][..]); count]);
        for (row, what, expected, bytes) in [
            ("BD-04", "131 072 bytes, which is too much for a command set alone", Aborted(0, 0), data(&[(1, &fragment)])),
            ("BD-04", "131 073 bytes", invalid, data(&[(1, &[&fragment[..], &[0]].concat())])),
            ("BD-04", "an announced length of 2^32-1", invalid, [&[4, 0][..], &[0xFF; 4], &[0; 80]].concat()),
            ("BD-05", "256 presentation data values", Waits, some(256)),
            ("BD-05", "257 presentation data values", invalid, some(257)),
            ("BD-05", "64 empty ones in a row", Waits, empty(64)),
            ("BD-05", "65 empty ones in a row", invalid, empty(65)),
            ("BD-06", "a command set of 65 536 bytes", Data, command_pdus(&command_of(65_536))),
            ("BD-06", "a command set of 65 538 bytes", Aborted(0, 0), command_pdus(&command_of(65_538))),
        ] {
            let mut wire = Wire::associated(plain).await?;
            wire.0.write_all(&bytes).await.ok();
            let wait = Duration::from_secs(if expected == Waits { 1 } else { 10 });
            check(row, what, expected, wire.hear(wait).await?);
        }

        // BD-09 (01 D005): associations of one peer.
        let mut open = Vec::new();
        for _ in 0..16 {
            open.push(Wire::associated(plain).await?);
        }
        check("BD-09", "the 17th association of a peer", Rejected(2, 3, 2), Wire::to(plain).await?.ask(&plain_request()).await?);
        drop(open);

        // BD-10, BD-17: STOW-RS.
        let file = Recipe::small(Kind::Ct, Person::numbered(68), 1, 1).make().instances[0].part10();
        let one = parts(&file, 1, 0);
        let fields = |count: usize| (0..count - 4).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
        let target = |length: usize| format!("/studies?{}", "a".repeat(length - "/studies?".len()));
        let head_of = |bytes: usize| {
            let bare = post("/studies", "x: \r\n", &one).len() - one.len();
            post("/studies", &format!("x: {}\r\n", "y".repeat(bytes - bare)), &one)
        };
        // Zeros after the data set are a warning of their own (D116).
        let body_of = |bytes: usize| parts(&[&file[..], &vec![0; bytes - one.len()]].concat(), 1, 0);
        for (row, what, expected, bytes) in [
            ("BD-10", "100 fields", Http(200), post("/studies", &fields(100), &one)),
            ("BD-10", "101 fields", Http(431), post("/studies", &fields(101), &one)),
            ("BD-10", "a target of 8 192 bytes", Http(200), post(&target(8_192), "", &one)),
            ("BD-10", "a target of 8 193 bytes", Http(414), post(&target(8_193), "", &one)),
            ("BD-10", "a head of 65 536 bytes", Http(200), head_of(65_536)),
            ("BD-10", "a head of 65 537 bytes", Http(431), head_of(65_537)),
            ("BD-10", "a head of 1 MiB", Http(431), head_of(1 << 20)),
            ("BD-17", "a body of 60 000 bytes", Http(200), post("/studies", "", &body_of(60_000))),
            ("BD-17", "a body of 60 001 bytes", Http(413), post("/studies", "", &body_of(60_001))),
            ("BD-17", "3 parts", Http(200), post("/studies", "", &parts(&file, 3, 0))),
            ("BD-17", "4 parts", Http(413), post("/studies", "", &parts(&file, 4, 0))),
            ("BD-17", "a part head of 8 192 bytes", Http(200), post("/studies", "", &parts(&file, 1, 8_192))),
            ("BD-17", "a part head of 8 193 bytes", Http(400), post("/studies", "", &parts(&file, 1, 8_193))),
        ] {
            check(row, what, expected, http(stow, &bytes).await?);
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        // After all that the doors are open.
        world.site().modality().echo().await?;
        world.site_mut().program.stop().await
    });
}

/// A C-STORE-RQ of the CT image `instance`, Message ID 1.
fn store_command(instance: &str) -> Vec<u8> {
    let element = |tag: u16, value: &[u8]| {
        let odd = value.len() % 2;
        let length = u32::try_from(value.len() + odd).expect("short").to_le_bytes();
        [&[0, 0][..], &tag.to_le_bytes(), &length, value, &[0][..odd]].concat()
    };
    let words = [(0x0100, 1_u16), (0x0110, 1), (0x0700, 0), (0x0800, 1)].map(|(tag, value)| element(tag, &value.to_le_bytes()));
    let rest = [element(0x0002, CT), words.concat(), element(0x1000, instance.as_bytes())].concat();
    [element(0, &u32::try_from(rest.len()).expect("short").to_le_bytes()), rest].concat()
}

/// A message that comes below the least pace ends its association, so that its place is free; a slow one above it is taken.
#[test]
fn a_message_has_a_least_pace_and_a_slow_honest_one_keeps_it() {
    story(async {
        let (mut world, _) = world(|table| {
            edit(table, [("dimse.pace_bytes_per_second", 200.into()), ("dimse.pace_seconds", 2.into())]);
        })
        .await?;
        let plain = world.site().dimse;
        let object = &Recipe::small(Kind::Ct, Person::numbered(69), 1, 1).make().instances[0];
        let command = data(&[(3, &store_command(&object.sop_instance))]);

        // The front of a PDU, a command set and a data set that never end; each with a byte every quarter of a second.
        let unfinished_pdu = &data(&[(0, &[0; 4_000])])[..200];
        for (what, front) in [
            ("a PDU", unfinished_pdu.to_vec()),
            ("a command set", [&data(&[(1, &store_command(&object.sop_instance)[..60])]), unfinished_pdu].concat()),
            ("a data set", [&command[..], unfinished_pdu].concat()),
        ] {
            let mut wire = Wire::associated(plain).await?;
            let begin = std::time::Instant::now();
            wire.0.write_all(&front).await?;
            let answer = loop {
                wire.0.write_all(&[0]).await.ok();
                match wire.hear(Duration::from_millis(250)).await? {
                    Answer::Waits if begin.elapsed() < Duration::from_secs(30) => {}
                    answer => break answer,
                }
            };
            println!("{what}: {answer:?} after {} ms", begin.elapsed().as_millis());
            ensure!(matches!(answer, Answer::Aborted(0, _)), "{what}: {answer:?}");
        }
        let health = world.site().program.health()?;
        let metrics = reqwest::get(format!("http://{health}/metrics")).await?.text().await?;
        ensure!(metrics.contains("idr_site_associations_too_slow_total 3"), "{metrics}");

        // 500 bytes a second: over at least two of these windows.
        let mut wire = Wire::associated(plain).await?;
        let begin = std::time::Instant::now();
        wire.0.write_all(&command).await?;
        let mut chunks = object.data_set.chunks(500).peekable();
        while let Some(chunk) = chunks.next() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let sent = wire.0.write_all(&data(&[(if chunks.peek().is_some() { 0 } else { 2 }, chunk)])).await;
            sent.with_context(|| format!("{} bytes left; {}", chunks.len() * 500, world.site().program.tail()))?;
        }
        let answer = wire.hear(Duration::from_secs(30)).await?;
        println!("{} bytes at 500 a second: {answer:?} after {} ms", object.data_set.len(), begin.elapsed().as_millis());
        ensure!(answer == Answer::Data && begin.elapsed() > Duration::from_secs(4), "{answer:?}");
        // Between messages nothing is measured.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let answer = wire.ask(&command_pdus(&command_of(200))).await?;
        ensure!(answer == Answer::Data, "C-ECHO after a rest: {answer:?}");
        world.site_mut().program.stop().await
    });
}

/// BD-01: a connection with an association keeps its place; one past the bound is closed, and the place comes back.
#[test]
fn connections_at_work_keep_their_places() {
    story(async {
        for key in ["dimse.connections_max", "dimse.connections_per_address_max"] {
            let change: fn(&mut Table) = match key {
                "dimse.connections_max" => |table| edit(table, [("dimse.connections_max", 3.into())]),
                _ => |table| edit(table, [("dimse.connections_per_address_max", 3.into())]),
            };
            let (mut world, _) = world(change).await?;
            let plain = world.site().dimse;
            let mut at_work = [Wire::associated(plain).await?, Wire::associated(plain).await?, Wire::associated(plain).await?];
            let answer = Wire::to(plain).await?.ask(&plain_request()).await?;
            ensure!(answer == Answer::Closed, "{key}: the fourth is answered with {answer:?}");
            for wire in &mut at_work {
                let answer = wire.ask(&command_pdus(&command_of(200))).await?;
                ensure!(answer == Answer::Data, "{key}: C-ECHO on an earlier one: {answer:?}");
            }
            drop(at_work);
            let free =
                idr_tests::poll::until("a place comes back", idr_tests::poll::DEADLINE, || async { Wire::associated(plain).await.ok() });
            drop(free.await?);
            let health = world.site().program.health()?;
            let metrics = reqwest::get(format!("http://{health}/metrics")).await?.text().await?;
            ensure!(metrics.contains("idr_bound_exceeded_total{bound=\"BD-01\"}"), "{key}: {metrics}");
            world.site_mut().program.stop().await?;
        }
        Ok(())
    });
}
