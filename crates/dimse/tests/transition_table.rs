//! Every event in every state of both machines, against a snapshot that reads like PS3.8 Table 9-10.
//!
//! The states are reached by what really happens on an association, so that the table is that of the machines and not of a
//! list beside them.

mod common;

use std::fmt::Write;

use common::{CT, policy, request};
use idr_dimse::association::acceptor::{self, Acceptor, Answer};
use idr_dimse::association::negotiation::negotiate;
use idr_dimse::association::requestor::{self, Requestor};
use idr_dimse::association::{Action, State};
use idr_dimse::codec::DecodeError;
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::{CommandSet, Priority};
use idr_dimse::pdu::{Abort, Fragment, Pdu, Pdv, Rejection};

/// The PDUs that a peer may send.
fn pdus() -> Vec<Pdu> {
    let mut requestor = Requestor::new(request(), Limits::default(), Timeouts::default());
    let mut out = Vec::new();
    requestor.handle(requestor::Event::TransportOpened, &mut out);
    let rq = sent(&mut out);
    let mut acceptor = acceptor_in(State::Sta3);
    let mut out = Vec::new();
    acceptor.handle(acceptor::Event::Answer(Answer::Accept(negotiate(&request(), &policy()).unwrap())), &mut out);
    let ac = sent(&mut out);
    let command = CommandSet::c_store_rq(1, CT, "1.2.3", Priority::Medium).encode();
    let data = Pdu::Data(vec![
        Pdv { context_id: 3, kind: Fragment::Command, last: true, data: command },
        Pdv { context_id: 3, kind: Fragment::Data, last: true, data: "ab".into() },
    ]);
    vec![ac, Pdu::AssociateRj(Rejection::CALLED_AE_TITLE), rq, data, Pdu::ReleaseRq, Pdu::ReleaseRp, Pdu::Abort(Abort::USER)]
}

fn sent<I>(out: &mut Vec<Action<I>>) -> Pdu {
    match out.remove(0) {
        Action::Send(pdu) => pdu,
        _ => panic!("the first action sends the PDU"),
    }
}

fn rq() -> Pdu {
    let mut out = Vec::new();
    Requestor::new(request(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    sent(&mut out)
}

fn acceptor_in(state: State) -> Acceptor {
    use acceptor::Event::{Abort, Answer as Answered, Pdu as Received, Release, TransportOpened};
    let accept = || Answered(Answer::Accept(negotiate(&request(), &policy()).unwrap()));
    let established = || vec![TransportOpened, Received(rq()), accept()];
    let with = |mut events: Vec<acceptor::Event>, more: Vec<acceptor::Event>| {
        events.extend(more);
        events
    };
    let events = match state {
        State::Sta1 => vec![],
        State::Sta2 => vec![TransportOpened],
        State::Sta3 => vec![TransportOpened, Received(rq())],
        State::Sta6 => established(),
        State::Sta7 => with(established(), vec![Release]),
        State::Sta8 => with(established(), vec![Received(Pdu::ReleaseRq)]),
        State::Sta10 => with(established(), vec![Release, Received(Pdu::ReleaseRq)]),
        State::Sta12 => with(established(), vec![Release, Received(Pdu::ReleaseRq), Received(Pdu::ReleaseRp)]),
        State::Sta13 => with(established(), vec![Abort]),
        _ => panic!("an acceptor has no {state}"),
    };
    let mut acceptor = Acceptor::new(common::implementation(), Limits::default(), Timeouts::default());
    for event in events {
        acceptor.handle(event, &mut Vec::new());
    }
    assert_eq!(acceptor.state(), state);
    acceptor
}

fn requestor_in(state: State, ac: &Pdu) -> Requestor {
    use requestor::Event::{Abort, Pdu as Received, Release, ReleaseResponse, TransportOpened};
    let established = || vec![TransportOpened, Received(ac.clone())];
    let with = |mut events: Vec<requestor::Event>, more: Vec<requestor::Event>| {
        events.extend(more);
        events
    };
    let events = match state {
        State::Sta4 => vec![],
        State::Sta5 => vec![TransportOpened],
        State::Sta6 => established(),
        State::Sta7 => with(established(), vec![Release]),
        State::Sta8 => with(established(), vec![Received(Pdu::ReleaseRq)]),
        State::Sta9 => with(established(), vec![Release, Received(Pdu::ReleaseRq)]),
        State::Sta11 => with(established(), vec![Release, Received(Pdu::ReleaseRq), ReleaseResponse]),
        State::Sta13 => with(established(), vec![Abort]),
        _ => panic!("a requestor has no {state}"),
    };
    let mut requestor = Requestor::new(request(), Limits::default(), Timeouts::default());
    for event in events {
        requestor.handle(event, &mut Vec::new());
    }
    assert_eq!(requestor.state(), state);
    requestor
}

fn row<I>(table: &mut String, event: &str, next: State, actions: &[Action<I>]) {
    let actions: Vec<String> = actions.iter().map(short).collect();
    let row = format!("  {event:<28} -> {:<5} {}", format!("{next:?}"), actions.join("; "));
    writeln!(table, "{}", row.trim_end()).unwrap();
}

fn short<I>(action: &Action<I>) -> String {
    match action {
        Action::Send(Pdu::Data(pdvs)) => format!("send P-DATA-TF of {} PDV", pdvs.len()),
        Action::Send(pdu @ (Pdu::AssociateRj(_) | Pdu::Abort(_))) => format!("send {pdu:?}"),
        Action::Send(pdu) => format!("send {}", pdu.pdu_type()),
        Action::Associate(_) => "tell association".to_owned(),
        Action::Command { .. } => "tell command".to_owned(),
        Action::Data { .. } => "tell data".to_owned(),
        Action::StartArtim(_) => "start ARTIM".to_owned(),
        Action::StopArtim => "stop ARTIM".to_owned(),
        Action::ReleaseRequested => "tell release".to_owned(),
        Action::Released => "tell released".to_owned(),
        Action::Aborted(cause) => {
            let cause = format!("{cause:?}");
            format!("tell aborted, {}", cause.split([' ', '(']).next().unwrap_or_default())
        }
        Action::CloseTransport => "close".to_owned(),
    }
}

fn invalid() -> DecodeError {
    DecodeError::UnknownType { pdu_type: 0x99 }
}

#[test]
fn the_acceptor_does_what_table_9_10_says() {
    use acceptor::Event;
    let mut table = String::new();
    let states = [State::Sta1, State::Sta2, State::Sta3, State::Sta6, State::Sta7, State::Sta8, State::Sta10, State::Sta12, State::Sta13];
    for state in states {
        writeln!(table, "{state}").unwrap();
        let mut apply = |name: &str, event: Event| {
            let (mut acceptor, mut actions) = (acceptor_in(state), Vec::new());
            acceptor.handle(event, &mut actions);
            row(&mut table, name, acceptor.state(), &actions);
        };
        apply("transport opened", Event::TransportOpened);
        pdus().into_iter().for_each(|pdu| apply(&pdu.pdu_type().to_string(), Event::Pdu(pdu)));
        apply("invalid PDU", Event::Invalid(invalid()));
        apply("local accept", Event::Answer(Answer::Accept(negotiate(&request(), &policy()).unwrap())));
        apply("local reject", Event::Answer(Answer::Reject(Rejection::LOCAL_LIMIT)));
        apply("local release", Event::Release);
        apply("local release response", Event::ReleaseResponse);
        apply("local abort", Event::Abort);
        apply("ARTIM expired", Event::ArtimExpired);
        apply("silence", Event::IdleExpired);
        apply("transport closed", Event::TransportClosed);
        let (mut acceptor, mut actions) = (acceptor_in(state), Vec::new());
        let refused = acceptor.send_command(3, &CommandSet::c_echo_rq(1), &mut actions).is_err();
        row(&mut table, if refused { "local data (refused)" } else { "local data" }, acceptor.state(), &actions);
    }
    insta::assert_snapshot!("acceptor", table);
}

#[test]
fn the_requestor_does_what_table_9_10_says() {
    use requestor::Event;
    let mut table = String::new();
    let pdus = pdus();
    for state in [State::Sta4, State::Sta5, State::Sta6, State::Sta7, State::Sta8, State::Sta9, State::Sta11, State::Sta13] {
        writeln!(table, "{state}").unwrap();
        let mut apply = |name: &str, event: Event| {
            let (mut requestor, mut actions) = (requestor_in(state, &pdus[0]), Vec::new());
            requestor.handle(event, &mut actions);
            row(&mut table, name, requestor.state(), &actions);
        };
        apply("transport opened", Event::TransportOpened);
        pdus.iter().for_each(|pdu| apply(&pdu.pdu_type().to_string(), Event::Pdu(pdu.clone())));
        apply("invalid PDU", Event::Invalid(invalid()));
        apply("local release", Event::Release);
        apply("local release response", Event::ReleaseResponse);
        apply("local abort", Event::Abort);
        apply("ARTIM expired", Event::ArtimExpired);
        apply("silence", Event::IdleExpired);
        apply("transport closed", Event::TransportClosed);
        let (mut requestor, mut actions) = (requestor_in(state, &pdus[0]), Vec::new());
        let refused = requestor.send_command(3, &CommandSet::c_echo_rq(1), &mut actions).is_err();
        row(&mut table, if refused { "local data (refused)" } else { "local data" }, requestor.state(), &actions);
    }
    insta::assert_snapshot!("requestor", table);
}
