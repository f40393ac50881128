//! Many connections that do nothing, or next to nothing, do not stop one that works (profile 10 §11 BD-01, BD-02, BD-03, BD-09).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use idr_dimse::status::Status;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit, pss_bytes};
use idr_tests::modality::{Association, Modality};
use idr_tests::{poll, story as steps};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use toml::{Table, Value};

use crate::story;

const IDLE: usize = 1_000;
const SLOW: usize = 200;
/// Of the slow ones: in an association of a known device, with the data set of an object.
const SLOW_IN_ASSOCIATION: usize = 40;
/// How long the good sender works among them: longer than ARTIM and the handshake time, which are shortened.
const AMONG_THEM: Duration = Duration::from_secs(20);
/// How long the crowd is alone: all of it comes and is ended at least once.
const CROWD_ALONE: Duration = Duration::from_secs(12);
/// What 1 200 connections may cost beside what the site needs when nobody is there.
const MEMORY_MAX: u64 = 96 << 20;

#[derive(Default)]
struct Crowd {
    connected: AtomicUsize,
    /// How often one was ended and came again.
    again: AtomicUsize,
    associated: AtomicUsize,
    over: AtomicBool,
}

/// The n-th address of those who are slow or idle: at most 60 of them at one.
fn address(number: usize) -> SocketAddr {
    let host = u8::try_from(10 + number / 60).expect("few addresses");
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))
}

async fn connect(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    socket.connect(to).await
}

/// Connects, writes `dribble` byte by byte, one a second, and comes again whenever it is ended.
async fn pester(from: SocketAddr, to: SocketAddr, dribble: Option<Vec<u8>>, crowd: Arc<Crowd>) {
    let mut first = true;
    while !crowd.over.load(Ordering::Relaxed) {
        if let Ok(mut stream) = connect(from, to).await {
            let counter = if first { &crowd.connected } else { &crowd.again };
            counter.fetch_add(1, Ordering::Relaxed);
            first = false;
            let mut bytes = dribble.iter().flatten();
            let mut end = [0];
            loop {
                if let Ok(read) = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut end)).await
                    && !matches!(read, Ok(1..))
                {
                    break;
                }
                if let Some(byte) = bytes.next()
                    && stream.write_all(&[*byte]).await.is_err()
                {
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A-ASSOCIATE-RQ of SLOW, for CT Image Storage (PS3.8 §9.3.2).
fn associate_request() -> Vec<u8> {
    let item = |kind: u8, content: &[u8]| [&[kind, 0][..], &u16::try_from(content.len()).expect("short").to_be_bytes(), content].concat();
    let context = [&[1, 0, 0, 0][..], &item(0x30, b"1.2.840.10008.5.1.4.1.1.2"), &item(0x40, b"1.2.840.10008.1.2.1")].concat();
    let user = [item(0x51, &[0, 2, 0, 0]), item(0x52, b"1.2.246.10.90000011.12.98")].concat();
    let titles = [&[0, 1, 0, 0][..], b"IDRSITE         ", b"SLOW            ", &[0; 32]].concat();
    let body = [titles, item(0x10, b"1.2.840.10008.3.1.1.1"), item(0x20, &context), item(0x50, &user)].concat();
    [&[1, 0][..], &u32::try_from(body.len()).expect("short").to_be_bytes(), &body].concat()
}

/// Opens an association as a known device, and sends the bytes of P-DATA one a second.
async fn dawdle(from: SocketAddr, to: SocketAddr, crowd: Arc<Crowd>) -> anyhow::Result<()> {
    let mut stream = connect(from, to).await?;
    stream.write_all(&associate_request()).await?;
    let mut kind = [0];
    stream.read_exact(&mut kind).await?;
    ensure!(kind == [2], "A-ASSOCIATE-RQ of a slow device is answered with PDU {kind:?}");
    crowd.connected.fetch_add(1, Ordering::Relaxed);
    crowd.associated.fetch_add(1, Ordering::Relaxed);
    // A P-DATA-TF of 100 000 bytes that never ends.
    for byte in [4, 0, 0, 1, 0x86, 0xA0].into_iter().chain(std::iter::repeat(0)) {
        if crowd.over.load(Ordering::Relaxed) {
            break;
        }
        stream.write_all(&[byte]).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// A new association for every three objects, until the time is over; every object must be answered with success.
async fn work(modality: Modality, seed: u32, until: Instant) -> anyhow::Result<(usize, Duration)> {
    let (mut objects, mut longest) = (0, Duration::ZERO);
    for round in 0.. {
        let study = Recipe::small(Kind::Ct, Person::numbered(86), 3, seed + round).make();
        let sent = steps::outgoing([&study]);
        let begin = Instant::now();
        let contexts = [(sent[0].sop_class.clone(), vec![sent[0].transfer_syntax.clone()])];
        let mut association = Association::open(&modality, &contexts).await?;
        for object in sent.iter() {
            let answer = association.store(object).await?;
            ensure!(answer.status() == Some(Status::SUCCESS), "{answer:?}");
            objects += 1;
        }
        association.release().await?;
        longest = longest.max(begin.elapsed());
        if Instant::now() >= until {
            break;
        }
    }
    Ok((objects, longest))
}

fn raise_own_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum.map(|maximum| maximum.min(8_192)).or(Some(8_192)), ..limit }).ok();
}

#[test]
fn a_thousand_idle_and_two_hundred_slow_connections_stop_nobody() {
    raise_own_limit();
    story(async {
        let site = Arc::new(|table: &mut Table| {
            // As shipped: 1 024 connections, 64 of one address, 256 handshakes. Waits shorter, so that they end and come again.
            edit(table, [("dimse.artim_seconds", 8.into()), ("dimse.handshake_seconds", 4.into())]);
            // The slow ones shall keep their associations all the time: what ends them is another story (`bounds`).
            edit(table, [("dimse.pace_bytes_per_second", 0.into())]);
            let rows = table["inbound"].as_array_mut().expect("rows");
            let mut row = rows[0].as_table().expect("a row").clone();
            edit(&mut row, [("name", "slow".into()), ("ae_title", "SLOW".into()), ("addresses", vec!["127.0.0.0/24".to_owned()].into())]);
            rows.push(Value::Table(row));
        });
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let (plain, tls) = (world.site().modality(), world.site().modality_tls());
        let rest = pss_bytes(world.site().program.pid())?;

        let crowd = Arc::new(Crowd::default());
        let mut bad = JoinSet::new();
        let mut slow = JoinSet::new();
        for number in 0..SLOW_IN_ASSOCIATION {
            let from = SocketAddr::new(IpAddr::from([127, 0, 0, 100 + u8::try_from(number / 10)?]), 0);
            slow.spawn(dawdle(from, plain.address, crowd.clone()));
        }
        poll::holds("the slow devices have their associations", poll::DEADLINE, || {
            crowd.associated.load(Ordering::Relaxed) == SLOW_IN_ASSOCIATION
        })
        .await?;
        // Half of them where handshakes are made; the slow ones with the first bytes of a request, or of a ClientHello.
        let (request, hello) = (vec![1, 0, 0, 0, 0x10, 0], vec![22, 3, 1, 2, 0]);
        for number in 0..IDLE + SLOW - SLOW_IN_ASSOCIATION {
            let (to, begin) = if number % 2 == 0 { (plain.address, &request) } else { (tls.address, &hello) };
            let dribble = (number >= IDLE).then(|| begin.iter().copied().chain(std::iter::repeat_n(0, 3_600)).collect());
            bad.spawn(pester(address(number), to, dribble, crowd.clone()));
        }
        poll::holds("all are connected", poll::DEADLINE, || crowd.connected.load(Ordering::Relaxed) == IDLE + SLOW).await?;

        // What the crowd costs is measured before anyone works: what the objects leave in memory is of another story (`soak-memory`).
        let mut with_crowd = 0;
        let until = Instant::now() + CROWD_ALONE;
        while Instant::now() < until {
            with_crowd = with_crowd.max(pss_bytes(world.site().program.pid())?);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let until = Instant::now() + AMONG_THEM;
        let (of_plain, of_tls) = futures::future::join(work(plain, 2_000, until), work(tls, 3_000, until)).await;
        let ((in_plain, longest_plain), (over_tls, longest_tls)) = (of_plain?, of_tls?);
        println!(
            "{in_plain} objects in plain, longest association of three {} ms; {over_tls} over TLS, longest {} ms; {} came again; \
             the crowd costs {} MiB above {} MiB",
            longest_plain.as_millis(),
            longest_tls.as_millis(),
            crowd.again.load(Ordering::Relaxed),
            with_crowd.saturating_sub(rest) >> 20,
            rest >> 20
        );
        // The crowd was there all the time: who was ended came again, and the slow devices still have their associations.
        ensure!(crowd.again.load(Ordering::Relaxed) > IDLE, "the idle ones were not ended: {}", crowd.again.load(Ordering::Relaxed));
        ensure!(slow.len() == SLOW_IN_ASSOCIATION && slow.try_join_next().is_none(), "a slow device lost its association");
        ensure!(in_plain >= 30 && over_tls >= 30, "{in_plain} objects in plain, {over_tls} over TLS");
        ensure!(
            with_crowd.saturating_sub(rest) < MEMORY_MAX,
            "the crowd costs {} MiB above {} MiB",
            with_crowd.saturating_sub(rest) >> 20,
            rest >> 20
        );
        crowd.over.store(true, Ordering::Relaxed);
        bad.shutdown().await;
        slow.shutdown().await;
        world.site_mut().program.stop().await
    });
}
