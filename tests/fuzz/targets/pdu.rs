//! A TCP stream as the peer's end of an association: PDU decoder, both state machines, message assembly (PS3.8 §9, PS3.7).
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use idr_dimse::association::Action;
use idr_dimse::association::acceptor::{self, Acceptor, Answer};
use idr_dimse::association::negotiation::{Implementation, Policy, Request, Support, negotiate};
use idr_dimse::association::requestor::{self, Requestor};
use idr_dimse::codec::{PduDecoder, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::{CommandSet, Priority};
use idr_dimse::pdu::{Fragment, Pdu, Pdv};
use idr_dimse::status::Status;
use idr_fuzz::dicom::{CT, EXPLICIT, IMPLICIT, image};
use idr_fuzz::{pieces, seed, seeds, split};
use libfuzzer_sys::fuzz_target;

const VERIFICATION: &str = "1.2.840.10008.1.1";

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (choices, data) = split(data);
    let mut decoder = PduDecoder::new(Limits::default());
    let mut peer = if choices & 1 == 0 { Ours::acceptor() } else { Ours::requestor() };
    for piece in pieces(data, choices >> 1) {
        decoder.feed(piece);
        loop {
            match decoder.decode() {
                Ok(Some(pdu)) => {
                    is_written_as_read(&pdu);
                    peer.pdu(pdu);
                }
                Ok(None) => break,
                Err(error) => peer.invalid(error),
            }
        }
        // Between two reads: less than one PDU.
        assert!(decoder.buffered() < 6 + 262_144 + piece.len());
    }
    peer.closed();
});

/// What can be written reads back as itself. AE titles and UIDs that a peer may send, but we may not, cannot be written.
fn is_written_as_read(pdu: &Pdu) {
    let mut out = Vec::new();
    if encode(pdu, &mut out).is_err() {
        return;
    }
    let mut decoder = PduDecoder::new(Limits::default());
    decoder.feed(&out);
    if let Ok(Some(again)) = decoder.decode() {
        assert!(again == *pdu, "a PDU that changes when it is written");
    }
}

/// One of the two machines, with a driver that answers everything.
enum Ours {
    Acceptor(Acceptor),
    Requestor(Requestor),
}

impl Ours {
    fn acceptor() -> Self {
        let mut machine = Acceptor::new(implementation(), Limits::default(), Timeouts::default());
        machine.handle(acceptor::Event::TransportOpened, &mut Vec::new());
        Self::Acceptor(machine)
    }

    fn requestor() -> Self {
        let mut machine = Requestor::new(request(), Limits::default(), Timeouts::default());
        machine.handle(requestor::Event::TransportOpened, &mut Vec::new());
        Self::Requestor(machine)
    }

    fn pdu(&mut self, pdu: Pdu) {
        match self {
            Self::Acceptor(machine) => accept(machine, acceptor::Event::Pdu(pdu)),
            Self::Requestor(machine) => ask(machine, requestor::Event::Pdu(pdu)),
        }
    }

    fn invalid(&mut self, error: idr_dimse::codec::DecodeError) {
        match self {
            Self::Acceptor(machine) => accept(machine, acceptor::Event::Invalid(error)),
            Self::Requestor(machine) => ask(machine, requestor::Event::Invalid(error)),
        }
    }

    fn closed(&mut self) {
        match self {
            Self::Acceptor(machine) => accept(machine, acceptor::Event::TransportClosed),
            Self::Requestor(machine) => ask(machine, requestor::Event::TransportClosed),
        }
    }
}

fn accept(machine: &mut Acceptor, event: acceptor::Event) {
    let mut actions = Vec::new();
    machine.handle(event, &mut actions);
    while !actions.is_empty() {
        match actions.remove(0) {
            Action::Associate(request) => {
                let answer = negotiate(&request, &policy()).map_or_else(Answer::Reject, Answer::Accept);
                machine.handle(acceptor::Event::Answer(answer), &mut actions);
            }
            Action::Command { context_id, command } if command.awaits_response() => {
                assert!(machine.context(context_id).is_some(), "a message on a context that was not accepted");
                let _ = machine.send_command(context_id, &CommandSet::response(&command, Status::SUCCESS), &mut actions);
            }
            Action::ReleaseRequested => machine.handle(acceptor::Event::ReleaseResponse, &mut actions),
            Action::Send(pdu) => encode(&pdu, &mut Vec::new()).expect("of our making"),
            _ => {}
        }
    }
}

fn ask(machine: &mut Requestor, event: requestor::Event) {
    let mut actions = Vec::new();
    machine.handle(event, &mut actions);
    while !actions.is_empty() {
        match actions.remove(0) {
            Action::Associate(requestor::Confirmation::Accepted(_)) => {
                if let Some(context) = machine.context_for(CT, EXPLICIT).map(|context| context.id) {
                    let command = CommandSet::c_store_rq(machine.next_message_id(), CT, "1.2.3", Priority::Medium);
                    let sent = machine.send_command(context, &command, &mut actions);
                    if sent.is_ok() {
                        let _ = machine.send_data(context, Bytes::from_static(&[0; 16]), true, &mut actions);
                    }
                }
            }
            Action::ReleaseRequested => machine.handle(requestor::Event::ReleaseResponse, &mut actions),
            Action::Send(pdu) => encode(&pdu, &mut Vec::new()).expect("of our making"),
            _ => {}
        }
    }
}

fn implementation() -> Implementation {
    Implementation { class_uid: "1.2.246.10.1.1".to_owned(), version_name: Some("IDR".to_owned()) }
}

fn request() -> Request {
    let mut request = Request::new("CT01", "IDRSITE", implementation());
    request.propose(VERIFICATION, &[IMPLICIT]);
    request.propose(CT, &[EXPLICIT, IMPLICIT]);
    request
}

fn policy() -> Policy {
    let support =
        |syntaxes: &[&str]| Support { transfer_syntaxes: syntaxes.iter().map(|uid| (*uid).to_owned()).collect(), ..Support::default() };
    let supported = [(VERIFICATION.to_owned(), support(&[IMPLICIT])), (CT.to_owned(), support(&[IMPLICIT, EXPLICIT]))];
    Policy { abstract_syntaxes: Arc::new(BTreeMap::from(supported)), ..Policy::default() }
}

/// A whole store, from both sides, and the short PDUs.
fn all() -> Vec<Vec<u8>> {
    let bytes = |pdus: &[Pdu]| {
        let mut out = Vec::new();
        pdus.iter().for_each(|pdu| encode(pdu, &mut out).expect("of our making"));
        out
    };
    let sent = |actions: Vec<requestor::Action>| actions.into_iter().find_map(|a| if let Action::Send(pdu) = a { Some(pdu) } else { None });
    let mut actions = Vec::new();
    Requestor::new(request(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut actions);
    let asked = sent(actions).expect("A-ASSOCIATE-RQ");
    let pdv = |kind, last, data: Vec<u8>| Pdv { context_id: 3, kind, last, data: data.into() };
    let store = CommandSet::c_store_rq(1, CT, "1.2.3", Priority::Medium);
    let data = [
        Pdu::Data(vec![pdv(Fragment::Command, true, store.encode().to_vec())]),
        Pdu::Data(vec![pdv(Fragment::Data, false, image()), pdv(Fragment::Data, true, vec![])]),
    ];
    let echo = Pdu::Data(vec![Pdv { context_id: 1, kind: Fragment::Command, last: true, data: CommandSet::c_echo_rq(2).encode() }]);
    let answer = |status| CommandSet::response(&store, status).encode().to_vec();

    let mut machine = Acceptor::new(implementation(), Limits::default(), Timeouts::default());
    let mut out = Vec::new();
    machine.handle(acceptor::Event::TransportOpened, &mut out);
    machine.handle(acceptor::Event::Pdu(asked.clone()), &mut out);
    let acceptance = negotiate(&request(), &policy()).expect("acceptable");
    machine.handle(acceptor::Event::Answer(Answer::Accept(acceptance)), &mut out);
    let accepted = out.into_iter().find_map(|a| if let Action::Send(pdu) = a { Some(pdu) } else { None }).expect("A-ASSOCIATE-AC");

    let mut whole = vec![asked.clone()];
    whole.extend(data);
    whole.extend([echo, Pdu::ReleaseRq]);
    vec![
        seed(&[0], bytes(&whole)),
        seed(&[2 * 7], bytes(&whole)),
        seed(&[0], bytes(&[asked, Pdu::Abort(idr_dimse::pdu::Abort::USER)])),
        seed(&[1], bytes(&[accepted.clone(), Pdu::Data(vec![pdv(Fragment::Command, true, answer(Status::SUCCESS))]), Pdu::ReleaseRq])),
        seed(&[1], bytes(&[accepted, Pdu::Data(vec![pdv(Fragment::Command, true, answer(Status(0xa900)))]), Pdu::ReleaseRp])),
        seed(&[1], bytes(&[Pdu::AssociateRj(idr_dimse::pdu::Rejection::CONGESTION)])),
    ]
}
