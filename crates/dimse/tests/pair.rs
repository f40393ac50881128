//! An acceptor and a requestor against each other over a wire that delays, splits and drops, with a clock moved by hand.
//!
//! The session: associate, C-ECHO, C-STORE with a data set of some kilobytes, release.

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use common::{CT, EXPLICIT, VERIFICATION, bytes, implementation, policy, request};
use idr_dimse::association::acceptor::{self, Acceptor, Answer};
use idr_dimse::association::negotiation::negotiate;
use idr_dimse::association::requestor::{self, Confirmation, Requestor};
use idr_dimse::association::{Action, Cause, State};
use idr_dimse::codec::PduDecoder;
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::{CommandField, CommandSet, Priority};
use idr_dimse::pdu::{Abort, Rejection};
use idr_dimse::service::{Dispatched, Dispatcher, storage, verification};
use idr_dimse::status::Status;

const INSTANCE: &str = "1.2.246.10.1.2.3";

fn data_set() -> Bytes {
    (0..5000_u32).map(|n| n as u8).collect()
}

/// What a driver keeps beside the machine.
struct Link {
    decoder: PduDecoder,
    wire: VecDeque<u8>,
    artim: Option<Duration>,
    /// When a byte last moved.
    heard: Duration,
    open: bool,
}

impl Link {
    fn new(limits: Limits) -> Self {
        Link { decoder: PduDecoder::new(limits), wire: VecDeque::new(), artim: None, heard: Duration::ZERO, open: true }
    }

    /// Does what needs no user; gives back the rest.
    fn perform<I>(&mut self, actions: Vec<Action<I>>, now: Duration) -> Vec<Action<I>> {
        let mut rest = Vec::new();
        for action in actions {
            match action {
                Action::Send(pdu) if self.open => self.wire.extend(bytes(&pdu)),
                Action::Send(_) => panic!("sent after closing"),
                Action::StartArtim(wait) => self.artim = Some(now + wait),
                Action::StopArtim => self.artim = None,
                Action::CloseTransport => {
                    self.open = false;
                    self.artim = None;
                }
                other => rest.push(other),
            }
        }
        rest
    }
}

/// How a session ended, as the users of both sides see it.
#[derive(Default)]
struct Seen {
    rejected: Option<Rejection>,
    echoed: bool,
    stored: Option<Vec<u8>>,
    store_status: Option<Status>,
    acceptor_released: bool,
    requestor_released: bool,
    acceptor_aborted: Option<Cause>,
    requestor_aborted: Option<Cause>,
}

struct Pair {
    now: Duration,
    acceptor: Acceptor,
    acceptor_link: Link,
    dispatcher: Dispatcher,
    receiving: Option<(CommandSet, Vec<u8>)>,
    requestor: Requestor,
    requestor_link: Link,
    refuse: Option<Rejection>,
    seen: Seen,
}

impl Pair {
    fn new(acceptor_limits: Limits, requestor_limits: Limits) -> Self {
        let mut pair = Pair {
            now: Duration::ZERO,
            acceptor: Acceptor::new(implementation(), acceptor_limits, Timeouts::default()),
            acceptor_link: Link::new(acceptor_limits),
            dispatcher: Dispatcher::new(&[CommandField::C_ECHO_RQ, CommandField::C_STORE_RQ]),
            receiving: None,
            requestor: Requestor::new(request(), requestor_limits, Timeouts::default()),
            requestor_link: Link::new(requestor_limits),
            refuse: None,
            seen: Seen::default(),
        };
        pair.accept(acceptor::Event::TransportOpened);
        pair.request(requestor::Event::TransportOpened);
        pair
    }

    /// The accepting program: an event, then the answers of its user until nothing is left.
    fn accept(&mut self, event: acceptor::Event) {
        let mut actions = Vec::new();
        self.acceptor.handle(event, &mut actions);
        let mut todo: VecDeque<_> = self.acceptor_link.perform(actions, self.now).into();
        while let Some(action) = todo.pop_front() {
            let mut actions = Vec::new();
            match action {
                Action::Associate(request) => {
                    let answer = match self.refuse {
                        Some(rejection) => Answer::Reject(rejection),
                        None => Answer::Accept(negotiate(&request, &policy()).unwrap()),
                    };
                    self.acceptor.handle(acceptor::Event::Answer(answer), &mut actions);
                }
                Action::Command { context_id, command } => {
                    assert_eq!(self.dispatcher.dispatch(&command), Dispatched::Perform);
                    if command.has_data_set() {
                        self.receiving = Some((command, Vec::new()));
                    } else {
                        self.dispatcher.answered(command.message_id());
                        let response = verification::response(&command);
                        self.acceptor.send_command(context_id, &response, &mut actions).unwrap();
                    }
                }
                Action::Data { context_id, fragment, last } => {
                    self.receiving.as_mut().unwrap().1.extend_from_slice(&fragment);
                    if last {
                        let (command, data) = self.receiving.take().unwrap();
                        self.dispatcher.answered(command.message_id());
                        self.seen.stored = Some(data);
                        let response = storage::response(&command, &storage::Outcome::new(Status::SUCCESS));
                        self.acceptor.send_command(context_id, &response, &mut actions).unwrap();
                    }
                }
                Action::ReleaseRequested => self.acceptor.handle(acceptor::Event::ReleaseResponse, &mut actions),
                Action::Released => self.seen.acceptor_released = true,
                Action::Aborted(cause) => assert_eq!(self.seen.acceptor_aborted.replace(cause), None, "told twice"),
                _ => unreachable!("the link did the others"),
            }
            todo.extend(self.acceptor_link.perform(actions, self.now));
        }
    }

    /// The requesting program: sends the next request when the last is answered.
    fn request(&mut self, event: requestor::Event) {
        let mut actions = Vec::new();
        self.requestor.handle(event, &mut actions);
        let mut todo: VecDeque<_> = self.requestor_link.perform(actions, self.now).into();
        while let Some(action) = todo.pop_front() {
            let mut actions = Vec::new();
            let id = self.requestor.next_message_id();
            match action {
                Action::Associate(Confirmation::Accepted(_)) => {
                    let context = self.requestor.contexts().iter().find(|context| context.abstract_syntax == VERIFICATION).unwrap().id;
                    self.requestor.send_command(context, &verification::request(id), &mut actions).unwrap();
                }
                Action::Associate(Confirmation::Rejected(rejection)) => self.seen.rejected = Some(rejection),
                Action::Command { command, .. } if command.command_field() == CommandField::C_ECHO_RSP => {
                    self.seen.echoed = true;
                    let context = self.requestor.context_for(CT, EXPLICIT).unwrap().id;
                    let command = CommandSet::c_store_rq(id, CT, INSTANCE, Priority::Medium);
                    self.requestor.send_command(context, &command, &mut actions).unwrap();
                    let (first, second) = (data_set().slice(..3000), data_set().slice(3000..));
                    self.requestor.send_data(context, first, false, &mut actions).unwrap();
                    self.requestor.send_data(context, second, true, &mut actions).unwrap();
                }
                Action::Command { command, .. } => {
                    self.seen.store_status = command.status();
                    self.requestor.handle(requestor::Event::Release, &mut actions);
                }
                Action::Data { .. } => panic!("no response has a data set"),
                Action::ReleaseRequested => self.requestor.handle(requestor::Event::ReleaseResponse, &mut actions),
                Action::Released => self.seen.requestor_released = true,
                Action::Aborted(cause) => assert_eq!(self.seen.requestor_aborted.replace(cause), None, "told twice"),
                _ => unreachable!("the link did the others"),
            }
            todo.extend(self.requestor_link.perform(actions, self.now));
        }
    }

    /// Delivers at most `split` bytes in one direction, or the end of the connection. False when there is nothing to do.
    fn step(&mut self, split: usize) -> bool {
        if self.acceptor_link.open && !self.requestor_link.wire.is_empty() {
            let length = self.requestor_link.wire.len().min(split);
            let chunk: Vec<u8> = self.requestor_link.wire.drain(..length).collect();
            (self.acceptor_link.heard, self.requestor_link.heard) = (self.now, self.now);
            self.acceptor_link.decoder.feed(&chunk);
            loop {
                match self.acceptor_link.decoder.decode() {
                    Ok(Some(pdu)) => self.accept(acceptor::Event::Pdu(pdu)),
                    Ok(None) => return true,
                    Err(error) => self.accept(acceptor::Event::Invalid(error)),
                }
            }
        }
        if self.requestor_link.open && !self.acceptor_link.wire.is_empty() {
            let length = self.acceptor_link.wire.len().min(split);
            let chunk: Vec<u8> = self.acceptor_link.wire.drain(..length).collect();
            (self.acceptor_link.heard, self.requestor_link.heard) = (self.now, self.now);
            self.requestor_link.decoder.feed(&chunk);
            loop {
                match self.requestor_link.decoder.decode() {
                    Ok(Some(pdu)) => self.request(requestor::Event::Pdu(pdu)),
                    Ok(None) => return true,
                    Err(error) => self.request(requestor::Event::Invalid(error)),
                }
            }
        }
        if !self.requestor_link.open && self.acceptor_link.open {
            self.acceptor_link.open = false;
            self.accept(acceptor::Event::TransportClosed);
            return true;
        }
        if !self.acceptor_link.open && self.requestor_link.open {
            self.requestor_link.open = false;
            self.request(requestor::Event::TransportClosed);
            return true;
        }
        false
    }

    fn run(&mut self, split: usize) {
        while self.step(split) {}
    }

    /// Moves the clock, and does what the timers of both programs ask for at that moment.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.acceptor_link.open && self.acceptor_link.artim.is_some_and(|at| at <= self.now) {
            self.acceptor_link.artim = None;
            self.accept(acceptor::Event::ArtimExpired);
        }
        if self.requestor_link.open && self.requestor_link.artim.is_some_and(|at| at <= self.now) {
            self.requestor_link.artim = None;
            self.request(requestor::Event::ArtimExpired);
        }
        let silence = self.now - self.acceptor_link.heard;
        if self.acceptor_link.open && self.acceptor.idle_limit().is_some_and(|limit| silence >= limit) {
            self.accept(acceptor::Event::IdleExpired);
        }
        let silence = self.now - self.requestor_link.heard;
        if self.requestor_link.open && self.requestor.idle_limit().is_some_and(|limit| silence >= limit) {
            self.request(requestor::Event::IdleExpired);
        }
    }

    /// The connection breaks; what is under way is lost.
    fn break_transport(&mut self) {
        self.acceptor_link.wire.clear();
        self.requestor_link.wire.clear();
        for accepting in [true, false] {
            let link = if accepting { &mut self.acceptor_link } else { &mut self.requestor_link };
            if std::mem::replace(&mut link.open, false) {
                match accepting {
                    true => self.accept(acceptor::Event::TransportClosed),
                    false => self.request(requestor::Event::TransportClosed),
                }
            }
        }
    }

    fn assert_finished(&self) {
        assert_eq!(self.acceptor.state(), State::Sta1);
        assert_eq!(self.requestor.state(), State::Sta1);
        assert!(!self.acceptor_link.open && !self.requestor_link.open);
    }

    fn assert_complete(&self) {
        self.assert_finished();
        assert_eq!((&self.seen.acceptor_aborted, &self.seen.requestor_aborted), (&None, &None));
        assert!(self.seen.echoed && self.seen.acceptor_released && self.seen.requestor_released);
        assert_eq!(self.seen.store_status, Some(Status::SUCCESS));
        self.assert_no_false_success();
    }

    /// Whatever happened, the requestor believes in a store only if every byte arrived.
    fn assert_no_false_success(&self) {
        if self.seen.store_status.is_some() {
            assert!(self.seen.stored.as_deref() == Some(&data_set()[..]), "the data set did not arrive as it was sent");
        }
    }
}

fn pair() -> Pair {
    // A small announced maximum, so that the data set takes many PDUs.
    let acceptor_limits = Limits { pdu_length_max: 1000, ..Limits::default() };
    Pair::new(acceptor_limits, Limits::default())
}

/// Deliveries until the session is complete.
fn steps(split: usize) -> usize {
    let mut pair = pair();
    let mut steps = 0;
    while pair.step(split) {
        steps += 1;
    }
    steps
}

#[test]
fn a_session_completes_however_the_bytes_are_split() {
    for split in [1, 2, 3, 5, 7, 11, 100, 999, 1006, usize::MAX] {
        let mut pair = pair();
        pair.run(split);
        pair.assert_complete();
    }
}

#[test]
fn a_session_completes_with_delays_below_the_limits() {
    let mut pair = pair();
    // ARTIM bounds the request as a whole, so the first delivery comes in one piece.
    pair.step(usize::MAX);
    while pair.step(500) {
        pair.wait(Duration::from_secs(29));
    }
    pair.assert_complete();
}

#[test]
fn neither_side_sends_a_pdu_longer_than_the_other_announced() {
    // The decoders enforce it: they were given what their side announces.
    for (acceptor, requestor) in [(128, 128), (1000, 131_072), (131_072, 1001), (131_072, 131_072)] {
        let limits = |pdu_length_max| Limits { pdu_length_max, ..Limits::default() };
        let mut pair = Pair::new(limits(acceptor), limits(requestor));
        pair.run(usize::MAX);
        pair.assert_complete();
    }
}

#[test]
fn a_peer_without_a_maximum_gets_pdus_of_our_own_maximum() {
    let acceptor_limits = Limits { pdu_length_max: 0, ..Limits::default() };
    let requestor_limits = Limits { send_length_max: 600, ..Limits::default() };
    let mut pair = Pair::new(acceptor_limits, requestor_limits);
    pair.acceptor_link.decoder = PduDecoder::new(Limits { pdu_length_max: 600, ..Limits::default() });
    pair.run(usize::MAX);
    pair.assert_complete();
}

#[test]
fn an_abort_of_the_requestor_at_any_step_ends_both_sides() {
    for at in 0..steps(61) {
        let mut pair = pair();
        (0..at).for_each(|_| assert!(pair.step(61)));
        pair.request(requestor::Event::Abort);
        pair.run(61);
        pair.wait(Duration::from_secs(30));
        pair.run(61);
        pair.assert_finished();
        pair.assert_no_false_success();
        assert!(pair.receiving.is_none() || pair.seen.acceptor_aborted.is_some(), "step {at}: an instance was left without an end");
    }
}

#[test]
fn an_abort_of_the_acceptor_at_any_step_ends_both_sides() {
    for at in 0..steps(61) {
        let mut pair = pair();
        (0..at).for_each(|_| assert!(pair.step(61)));
        let before = pair.acceptor.state();
        pair.accept(acceptor::Event::Abort);
        if before != State::Sta2 && before != State::Sta13 && before != State::Sta1 {
            assert_eq!(pair.seen.acceptor_aborted, Some(Cause::Local));
        }
        pair.run(61);
        pair.wait(Duration::from_secs(30));
        pair.run(61);
        pair.assert_finished();
        pair.assert_no_false_success();
    }
}

#[test]
fn a_broken_connection_at_any_byte_ends_both_sides() {
    for at in (0..steps(1)).step_by(13) {
        let mut pair = pair();
        (0..at).for_each(|_| assert!(pair.step(1)));
        pair.break_transport();
        pair.assert_finished();
        pair.assert_no_false_success();
        assert!(pair.receiving.is_none() || pair.seen.acceptor_aborted == Some(Cause::TransportClosed));
    }
}

#[test]
fn a_peer_that_falls_silent_at_any_step_is_given_up_within_the_limits() {
    for at in 0..steps(61) {
        let mut pair = pair();
        (0..at).for_each(|_| assert!(pair.step(61)));
        // From here on no byte arrives anywhere, and nobody closes.
        pair.acceptor_link.wire.clear();
        pair.requestor_link.wire.clear();
        pair.wait(Duration::from_secs(900));
        pair.acceptor_link.wire.clear();
        pair.requestor_link.wire.clear();
        pair.wait(Duration::from_secs(30));
        assert_eq!((pair.acceptor.state(), pair.requestor.state()), (State::Sta1, State::Sta1), "step {at}");
        pair.assert_no_false_success();
    }
}

#[test]
fn a_transfer_that_stops_inside_a_data_set_is_aborted_after_the_receive_limit() {
    let mut pair = pair();
    while pair.receiving.as_ref().is_none_or(|(_, data)| data.len() < 2000) {
        assert!(pair.step(500));
    }
    pair.requestor_link.wire.clear();
    pair.wait(Duration::from_secs(59));
    assert_eq!(pair.acceptor.state(), State::Sta6);
    pair.wait(Duration::from_secs(1));
    assert_eq!(pair.seen.acceptor_aborted, Some(Cause::Idle));
    pair.run(500);
    assert_eq!(pair.seen.requestor_aborted, Some(Cause::Peer(Abort::USER)));
}

#[test]
fn a_connection_without_a_request_is_closed_when_artim_ends() {
    let mut pair = pair();
    assert!(pair.step(10));
    pair.wait(Duration::from_secs(29));
    assert_eq!(pair.acceptor.state(), State::Sta2);
    pair.wait(Duration::from_secs(1));
    assert_eq!(pair.acceptor.state(), State::Sta1);
    assert!(!pair.acceptor_link.open);
}

#[test]
fn a_peer_that_does_not_close_after_an_abort_is_closed_when_artim_ends() {
    let mut pair = pair();
    while !pair.seen.echoed {
        assert!(pair.step(usize::MAX));
    }
    pair.accept(acceptor::Event::Abort);
    pair.acceptor_link.wire.clear();
    // What the peer still sends is ignored (AA-6).
    while !pair.requestor_link.wire.is_empty() {
        pair.step(500);
    }
    assert_eq!(pair.acceptor.state(), State::Sta13);
    pair.wait(Duration::from_secs(30));
    assert_eq!((pair.acceptor.state(), pair.acceptor_link.open), (State::Sta1, false));
}

#[test]
fn a_rejection_reaches_the_requestor_with_its_numbers() {
    for rejection in [Rejection::CALLING_AE_TITLE, Rejection::LOCAL_LIMIT, Rejection::CONGESTION, Rejection::PROVIDER_NO_REASON] {
        let mut pair = pair();
        pair.refuse = Some(rejection);
        pair.run(usize::MAX);
        pair.assert_finished();
        assert_eq!(pair.seen.rejected, Some(rejection));
    }
}

#[test]
fn a_requestor_gives_up_an_acceptor_that_does_not_answer_the_request() {
    let mut pair = pair();
    pair.requestor_link.wire.clear();
    pair.wait(Duration::from_secs(30));
    assert_eq!(pair.seen.requestor_aborted, Some(Cause::Idle));
    assert_eq!(pair.acceptor.state(), State::Sta1);
}

#[test]
fn a_release_collision_ends_in_good_order_for_both() {
    let mut pair = pair();
    while !pair.seen.echoed {
        assert!(pair.step(usize::MAX));
    }
    // Both ask at the same moment: neither request has arrived yet.
    while pair.seen.store_status.is_none() {
        assert!(pair.step(usize::MAX));
    }
    assert_eq!((pair.requestor.state(), pair.acceptor.state()), (State::Sta7, State::Sta6));
    pair.accept(acceptor::Event::Release);
    pair.run(usize::MAX);
    pair.wait(Duration::from_secs(30));
    pair.run(usize::MAX);
    pair.assert_complete();
}
