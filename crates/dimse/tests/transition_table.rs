//! PS3.8 Table 9-10 as data, against both machines: every event in every state.
//!
//! The table and its actions are those of the standard, not of the machines; they were compared with the tables of
//! pynetdicom 3.0 and DCMTK 3.6.7. What a side cannot reach, and where it does something else on purpose, is listed with
//! the reason. Everything else has to agree cell by cell.

mod common;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;

use common::{CT, policy, request};
use idr_dimse::association::acceptor::{self, Acceptor, Answer};
use idr_dimse::association::negotiation::{Request, negotiate};
use idr_dimse::association::requestor::{self, Requestor};
use idr_dimse::association::{Action, Cause, State};
use idr_dimse::codec::DecodeError;
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::{CommandSet, Priority};
use idr_dimse::pdu::{Abort, Fragment, Pdu, PduType, Pdv, Rejection};

//= PS3.8 §9.2.3, Table 9-10
//= type=test
/// The action of each event in Sta1 to Sta13; a point stands for a blank cell.
const TABLE: &str = "
    Evt1  AE-1 .    .    .    .    .    .    .    .    .     .    .    .     A-ASSOCIATE request of the local user
    Evt2  .    .    .    AE-2 .    .    .    .    .    .     .    .    .     transport connection confirmed
    Evt3  .    AA-1 AA-8 .    AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6  A-ASSOCIATE-AC
    Evt4  .    AA-1 AA-8 .    AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6  A-ASSOCIATE-RJ
    Evt5  AE-5 .    .    .    .    .    .    .    .    .     .    .    .     transport connection indicated
    Evt6  .    AE-6 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-7  A-ASSOCIATE-RQ
    Evt7  .    .    AE-7 .    .    .    .    .    .    .     .    .    .     local answer: accept
    Evt8  .    .    AE-8 .    .    .    .    .    .    .     .    .    .     local answer: reject
    Evt9  .    .    .    .    .    DT-1 .    AR-7 .    .     .    .    .     P-DATA request of the local user
    Evt10 .    AA-1 AA-8 .    AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6  P-DATA-TF
    Evt11 .    .    .    .    .    AR-1 .    .    .    .     .    .    .     A-RELEASE request of the local user
    Evt12 .    AA-1 AA-8 .    AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6  A-RELEASE-RQ
    Evt13 .    AA-1 AA-8 .    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3 AA-8 AA-6  A-RELEASE-RP
    Evt14 .    .    .    .    .    .    .    AR-4 AR-9 .     .    AR-4 .     A-RELEASE response of the local user
    Evt15 .    .    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1 AA-1 .     A-ABORT request of the local user
    Evt16 .    AA-2 AA-3 .    AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3 AA-3 AA-2  A-ABORT
    Evt17 .    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4 AA-4 AR-5  transport connection closed
    Evt18 .    AA-2 .    .    .    .    .    .    .    .     .    .    AA-2  ARTIM expired
    Evt19 .    AA-1 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-7  unrecognized or invalid PDU
";

//= PS3.8 §9.2.2, Tables 9-6 to 9-9
//= type=test
/// What an action does, in the words of [`word`], and the state after it. An action with several outcomes has a line for
/// each. `2/r` is an abort of the service-provider with the reason that the event earns. The order within an action, and
/// the source in AA-7, are left open by the standard.
const ACTIONS: [(&str, &str, State); 32] = [
    ("AE-1", "open the transport connection", State::Sta4),
    ("AE-2", "send A-ASSOCIATE-RQ", State::Sta5),
    ("AE-3", "tell A-ASSOCIATE Accepted", State::Sta6),
    ("AE-4", "tell A-ASSOCIATE Rejected; close", State::Sta1),
    ("AE-5", "start ARTIM", State::Sta2),
    ("AE-6", "stop ARTIM; tell A-ASSOCIATE Request", State::Sta3),
    ("AE-6 otherwise", "stop ARTIM; send A-ASSOCIATE-RJ; start ARTIM", State::Sta13),
    ("AE-7", "send A-ASSOCIATE-AC", State::Sta6),
    ("AE-8", "send A-ASSOCIATE-RJ; start ARTIM", State::Sta13),
    ("DT-1", "send P-DATA-TF", State::Sta6),
    ("DT-2", "tell P-DATA", State::Sta6),
    ("AR-1", "send A-RELEASE-RQ", State::Sta7),
    ("AR-2", "tell A-RELEASE", State::Sta8),
    ("AR-3", "confirm A-RELEASE; close", State::Sta1),
    ("AR-4", "send A-RELEASE-RP; start ARTIM", State::Sta13),
    ("AR-5", "stop ARTIM", State::Sta1),
    ("AR-6", "tell P-DATA", State::Sta7),
    ("AR-7", "send P-DATA-TF", State::Sta8),
    ("AR-8 requestor", "tell A-RELEASE", State::Sta9),
    ("AR-8 acceptor", "tell A-RELEASE", State::Sta10),
    ("AR-9", "send A-RELEASE-RP", State::Sta11),
    ("AR-10", "confirm A-RELEASE", State::Sta12),
    ("AA-1", "send A-ABORT 0/0; start ARTIM", State::Sta13),
    ("AA-2", "stop ARTIM; close", State::Sta1),
    ("AA-3 user", "tell A-ABORT; close", State::Sta1),
    ("AA-3 provider", "tell A-P-ABORT; close", State::Sta1),
    ("AA-4", "tell A-P-ABORT", State::Sta1),
    ("AA-5", "stop ARTIM", State::Sta1),
    ("AA-6", "", State::Sta13),
    ("AA-7", "send A-ABORT 2/r", State::Sta13),
    ("AA-8", "send A-ABORT 2/r; start ARTIM; tell A-P-ABORT", State::Sta13),
    // Not the standard's: the answer to a blank cell is that nothing happens. The state stays.
    (".", "", State::Sta1),
];

/// Where the machines do something else, or more: the line of [`ACTIONS`], the state if only there, what they do, and why.
const ON_PURPOSE: [(&str, Option<State>, &str, &str); 6] = [
    (
        "AA-1",
        Some(State::Sta2),
        "send A-ABORT 2/r; start ARTIM; tell A-P-ABORT",
        "profile rule D013: no user knows of an association yet, and the reason helps the peer's technician",
    ),
    ("AA-1", None, "send A-ABORT 0/0; start ARTIM; note the end", "local: the driver hears of every end in the same way"),
    ("AE-6 otherwise", None, "stop ARTIM; send A-ASSOCIATE-RJ; start ARTIM; note the end", "local, as above"),
    ("AR-4", None, "send A-RELEASE-RP; start ARTIM; confirm A-RELEASE", "local, as above"),
    ("AR-8 acceptor", None, "", "local: it may answer only after the requestor did, and is told when it can"),
    ("AR-10", None, "tell A-RELEASE", "local: what AR-8 held back; the end is confirmed with AR-4"),
];

/// Rows and columns that are not of a side, and why.
const NOT_OF_THE_ACCEPTOR: [(&str, &str); 6] = [
    ("Evt1", "an acceptor requests no association"),
    ("Evt2", "it opens no transport connection"),
    ("Sta4", "it opens no transport connection"),
    ("Sta5", "it requests no association"),
    ("Sta9", "the requestor's in a release collision"),
    ("Sta11", "the requestor's in a release collision"),
];
const NOT_OF_THE_REQUESTOR: [(&str, &str); 8] = [
    ("Evt1", "AE-1 is the driver's: it opens the transport connection, and the machine it makes begins in Sta4"),
    ("Evt5", "a requestor takes no transport connection"),
    ("Evt7", "it answers no request"),
    ("Evt8", "it answers no request"),
    ("Sta2", "it awaits no request"),
    ("Sta3", "it answers no request"),
    ("Sta10", "the acceptor's in a release collision"),
    ("Sta12", "the acceptor's in a release collision"),
];

/// One happening of an event: which outcome of its action it leads to, and the reason of the A-ABORT that it earns where
/// the state does not allow it.
#[derive(Debug, Clone, Copy)]
struct Sample {
    event: usize,
    outcome: &'static str,
    reason: u8,
}

fn samples(event: usize) -> Vec<Sample> {
    let sample = |outcome, reason| Sample { event, outcome, reason };
    match event {
        6 => vec![sample("", 2), sample("otherwise", 2)],
        16 => vec![sample("user", 2), sample("provider", 2)],
        19 => vec![sample("unrecognized", 1), sample("invalid", 6)],
        _ => vec![sample("", 2)],
    }
}

/// Silence of the peer, which the standard leaves to the local user.
const SILENCE: usize = 20;

/// What the sample receives, if it receives anything.
fn received(sample: Sample) -> Option<Result<Pdu, DecodeError>> {
    Some(match (sample.event, sample.outcome) {
        (3, _) => Ok(ac()),
        (4, _) => Ok(Pdu::AssociateRj(Rejection::CALLED_AE_TITLE)),
        (6, "otherwise") => Ok(rq(Request { protocol_version: 2, ..request() })),
        (6, _) => Ok(rq(request())),
        (10, _) => Ok(data()),
        (12, _) => Ok(Pdu::ReleaseRq),
        (13, _) => Ok(Pdu::ReleaseRp),
        (16, "provider") => Ok(Pdu::Abort(Abort::PROVIDER)),
        (16, _) => Ok(Pdu::Abort(Abort::USER)),
        (19, "unrecognized") => Err(DecodeError::UnknownType { pdu_type: 0x99 }),
        (19, _) => Err(DecodeError::Malformed { pdu_type: PduType::Data, what: "a test" }),
        _ => return None,
    })
}

fn rq(request: Request) -> Pdu {
    let mut out = Vec::new();
    Requestor::new(request, Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    sent(out)
}

fn ac() -> Pdu {
    let mut acceptor = Acceptor::new(common::implementation(), Limits::default(), Timeouts::default());
    acceptor.handle(acceptor::Event::TransportOpened, &mut Vec::new());
    acceptor.handle(acceptor::Event::Pdu(rq(request())), &mut Vec::new());
    let mut out = Vec::new();
    acceptor.handle(acceptor::Event::Answer(accept()), &mut out);
    sent(out)
}

fn accept() -> Answer {
    Answer::Accept(negotiate(&request(), &policy()).unwrap())
}

fn data() -> Pdu {
    let command = CommandSet::c_store_rq(1, CT, "1.2.3", Priority::Medium).encode();
    Pdu::Data(vec![
        Pdv { context_id: 3, kind: Fragment::Command, last: true, data: command },
        Pdv { context_id: 3, kind: Fragment::Data, last: true, data: "ab".into() },
    ])
}

fn sent<I>(out: Vec<Action<I>>) -> Pdu {
    match out.into_iter().next() {
        Some(Action::Send(pdu)) => pdu,
        _ => panic!("the first action sends the PDU"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Acceptor,
    Requestor,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Acceptor => "acceptor",
            Side::Requestor => "requestor",
        }
    }

    /// Why this row or column is not checked for this side.
    fn lacks(self, row_or_column: &str) -> Option<&'static str> {
        let list = match self {
            Side::Acceptor => &NOT_OF_THE_ACCEPTOR[..],
            Side::Requestor => &NOT_OF_THE_REQUESTOR[..],
        };
        list.iter().find(|(name, _)| *name == row_or_column).map(|(_, why)| *why)
    }

    fn machine(self) -> Machine {
        match self {
            Side::Acceptor => Machine::Acceptor(Acceptor::new(common::implementation(), Limits::default(), Timeouts::default())),
            Side::Requestor => Machine::Requestor(Requestor::new(request(), Limits::default(), Timeouts::default())),
        }
    }

    /// Every state that a sequence of events leads to, with the shortest such sequence.
    fn states(self) -> HashMap<State, Vec<Sample>> {
        let start = self.machine().state();
        let (mut found, mut todo) = (HashMap::from([(start, vec![])]), VecDeque::from([start]));
        while let Some(from) = todo.pop_front() {
            for sample in (1..=19).flat_map(samples) {
                let mut path = found[&from].clone();
                let mut machine = self.after(&path);
                if machine.takes(sample).is_some() && !found.contains_key(&machine.state()) {
                    path.push(sample);
                    found.insert(machine.state(), path);
                    todo.push_back(machine.state());
                }
            }
        }
        found
    }

    fn after(self, path: &[Sample]) -> Machine {
        let mut machine = self.machine();
        path.iter().for_each(|sample| assert!(machine.takes(*sample).is_some()));
        machine
    }
}

enum Machine {
    Acceptor(Acceptor),
    Requestor(Requestor),
}

impl Machine {
    fn state(&self) -> State {
        match self {
            Machine::Acceptor(acceptor) => acceptor.state(),
            Machine::Requestor(requestor) => requestor.state(),
        }
    }

    fn has_idle_limit(&self) -> bool {
        match self {
            Machine::Acceptor(acceptor) => acceptor.idle_limit().is_some(),
            Machine::Requestor(requestor) => requestor.idle_limit().is_some(),
        }
    }

    /// What the machine does about it, in words; `None` when it has no such event.
    fn takes(&mut self, sample: Sample) -> Option<String> {
        match self {
            Machine::Acceptor(acceptor) => {
                use acceptor::Event;
                let mut out = Vec::new();
                let event = match (sample.event, received(sample)) {
                    (_, Some(Ok(pdu))) => Event::Pdu(pdu),
                    (_, Some(Err(error))) => Event::Invalid(error),
                    (5, _) => Event::TransportOpened,
                    (7, _) => Event::Answer(accept()),
                    (8, _) => Event::Answer(Answer::Reject(Rejection::LOCAL_LIMIT)),
                    (9, _) => {
                        let sent = acceptor.send_command(3, &CommandSet::c_echo_rq(1), &mut out).is_ok();
                        assert_eq!(sent, !out.is_empty());
                        return Some(words(&out));
                    }
                    (11, _) => Event::Release,
                    (14, _) => Event::ReleaseResponse,
                    (15, _) => Event::Abort,
                    (17, _) => Event::TransportClosed,
                    (18, _) => Event::ArtimExpired,
                    (SILENCE, _) => Event::IdleExpired,
                    _ => return None,
                };
                acceptor.handle(event, &mut out);
                Some(words(&out))
            }
            Machine::Requestor(requestor) => {
                use requestor::Event;
                let mut out = Vec::new();
                let event = match (sample.event, received(sample)) {
                    (_, Some(Ok(pdu))) => Event::Pdu(pdu),
                    (_, Some(Err(error))) => Event::Invalid(error),
                    (2, _) => Event::TransportOpened,
                    (9, _) => {
                        let sent = requestor.send_command(3, &CommandSet::c_echo_rq(1), &mut out).is_ok();
                        assert_eq!(sent, !out.is_empty());
                        return Some(words(&out));
                    }
                    (11, _) => Event::Release,
                    (14, _) => Event::ReleaseResponse,
                    (15, _) => Event::Abort,
                    (17, _) => Event::TransportClosed,
                    (18, _) => Event::ArtimExpired,
                    (SILENCE, _) => Event::IdleExpired,
                    _ => return None,
                };
                requestor.handle(event, &mut out);
                Some(words(&out))
            }
        }
    }
}

/// A command set and its data set are one P-DATA indication.
fn words<I: Debug>(actions: &[Action<I>]) -> String {
    let mut words: Vec<String> = actions.iter().map(word).collect();
    words.dedup();
    words.join("; ")
}

fn word<I: Debug>(action: &Action<I>) -> String {
    match action {
        Action::Send(Pdu::Abort(abort)) => format!("send A-ABORT {abort:?}"),
        Action::Send(pdu) => format!("send {}", pdu.pdu_type()),
        Action::Associate(told) => {
            let told = format!("{told:?}");
            format!("tell A-ASSOCIATE {}", told.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default())
        }
        Action::Command { .. } | Action::Data { .. } => "tell P-DATA".to_owned(),
        Action::StartArtim(limit) => {
            assert_eq!(*limit, Timeouts::default().artim);
            "start ARTIM".to_owned()
        }
        Action::StopArtim => "stop ARTIM".to_owned(),
        Action::ReleaseRequested => "tell A-RELEASE".to_owned(),
        Action::Released => "confirm A-RELEASE".to_owned(),
        Action::Aborted(Cause::Peer(Abort { source: 0, .. })) => "tell A-ABORT".to_owned(),
        Action::Aborted(Cause::Local | Cause::Idle | Cause::Rejected(_)) => "note the end".to_owned(),
        Action::Aborted(_) => "tell A-P-ABORT".to_owned(),
        Action::CloseTransport => "close".to_owned(),
    }
}

/// A row of [`TABLE`].
struct Row {
    event: usize,
    name: &'static str,
    cells: Vec<(State, &'static str)>,
}

fn table() -> Vec<Row> {
    let row = |line: &'static str| {
        let mut fields = line.split_whitespace();
        let name = fields.next().expect("an event");
        Row { event: name[3..].parse().expect("its number"), name, cells: State::ALL.into_iter().zip(fields).collect() }
    };
    TABLE.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

#[test]
fn both_machines_do_what_table_9_10_says() {
    let (mut unchecked, mut used, mut differences) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for row in table() {
        let filled = row.cells.iter().filter(|(_, action)| *action != ".");
        unchecked.extend(filled.map(|(state, _)| (row.name, format!("{state:?}"))));
    }
    for side in [Side::Acceptor, Side::Requestor] {
        let states = side.states();
        for row in table() {
            for (state, action) in row.cells {
                let column = format!("{state:?}");
                if side.lacks(row.name).is_some() || side.lacks(&column).is_some() {
                    continue;
                }
                for sample in samples(row.event) {
                    let mut machine = side.after(&states[&state]);
                    let done = machine.takes(sample).unwrap_or_else(|| panic!("an {} has no {}", side.name(), row.name));
                    let names = [format!("{action} {}", sample.outcome), format!("{action} {}", side.name()), action.to_owned()];
                    let line = |name: &String| ACTIONS.iter().find(|(action, ..)| action == name);
                    let (name, words, next) = names.iter().find_map(line).expect("the action is in its table");
                    let own = ON_PURPOSE.iter().position(|(action, only, ..)| action == name && only.is_none_or(|only| only == state));
                    used.extend(own);
                    let words = own.map_or(*words, |own| ON_PURPOSE[own].2).replace("2/r", &format!("2/{}", sample.reason));
                    let next = if action == "." { state } else { *next };
                    if (&done, machine.state()) != (&words, next) {
                        differences.push(format!(
                            "{}, {} {} in {column}: {action} is \"{words}\" and {next:?}, done was \"{done}\" and {:?}",
                            side.name(),
                            row.name,
                            sample.outcome,
                            machine.state()
                        ));
                    }
                }
                unchecked.remove(&(row.name, column));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(used.len(), ON_PURPOSE.len(), "a deviation is listed that does not occur");
    // Of all that is not blank the two sides leave out what the driver does, AE-1.
    assert_eq!(unchecked, BTreeSet::from([("Evt1", "Sta1".to_owned())]));
}

#[test]
fn the_table_has_19_events_and_13_states() {
    let table = table();
    assert_eq!(table.iter().map(|row| row.event).collect::<Vec<_>>(), (1..=19).collect::<Vec<_>>());
    assert!(table.iter().all(|row| row.cells.len() == 13));
}

#[test]
fn a_side_reaches_every_state_that_is_not_the_other_sides() {
    for side in [Side::Acceptor, Side::Requestor] {
        let states = side.states();
        for state in State::ALL {
            assert_eq!(states.contains_key(&state), side.lacks(&format!("{state:?}")).is_none(), "{} in {state}", side.name());
        }
        for row in table() {
            let known = samples(row.event).into_iter().all(|sample| side.machine().takes(sample).is_some());
            assert_eq!(known, side.lacks(row.name).is_none(), "{} at {}", side.name(), row.name);
        }
    }
}

#[test]
fn silence_is_an_abort_of_the_local_user() {
    for side in [Side::Acceptor, Side::Requestor] {
        for (state, path) in side.states() {
            let limited = side.after(&path).has_idle_limit();
            let [silence, abort] = [SILENCE, 15].map(|event| {
                let mut machine = side.after(&path);
                let done = machine.takes(Sample { event, outcome: "", reason: 0 });
                (done, machine.state())
            });
            assert_eq!(silence, abort, "{} in {state}", side.name());
            assert!(!limited || silence.1 == State::Sta13, "{} in {state}: silence is limited and ends nothing", side.name());
        }
    }
}
