//! What an acceptor agrees to: PS3.8 §9.3.2, §9.3.3 and PS3.7 Annex D, from the request to the answer on the wire.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{BIG_ENDIAN, COMMITMENT, CT, EXPLICIT, IMPLICIT, MR, VERIFICATION, bytes, implementation, policy, request};
use idr_dimse::association::acceptor::{Acceptor, Action, Answer, Event};
use idr_dimse::association::negotiation::{
    Acceptance, ContextResult, Implementation, Policy, Request, Roles, STORAGE_EXTENDED_NEGOTIATION, Support, UserIdentity,
    UserIdentityType, negotiate,
};
use idr_dimse::association::requestor::{self, Confirmation, Requestor};
use idr_dimse::association::{Cause, State};
use idr_dimse::codec::PduDecoder;
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::pdu::{Pdu, Rejection};

/// Sends the request through both codecs and machines; what the requestor is told, and the bytes of the answer.
fn agree(request: &Request, policy: &Policy) -> (Confirmation, Vec<u8>) {
    let mut requestor = Requestor::new(request.clone(), Limits::default(), Timeouts::default());
    let mut out = Vec::new();
    requestor.handle(requestor::Event::TransportOpened, &mut out);
    let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
    let (mut acceptor, mut actions) = accepting(through_the_wire(rq));
    let indicated = actions.iter().find_map(|action| if let Action::Associate(request) = action { Some(request.clone()) } else { None });
    let answer = match negotiate(&indicated.expect("the request is told"), policy) {
        Ok(acceptance) => Answer::Accept(acceptance),
        Err(rejection) => Answer::Reject(rejection),
    };
    actions.clear();
    acceptor.handle(Event::Answer(answer), &mut actions);
    let Action::Send(answer) = &actions[0] else { panic!("the answer is sent") };
    let mut out = Vec::new();
    requestor.handle(requestor::Event::Pdu(through_the_wire(answer)), &mut out);
    match out.swap_remove(0) {
        requestor::Action::Associate(confirmation) => (confirmation, bytes(answer)),
        other => panic!("the requestor is told, not {other:?}"),
    }
}

fn through_the_wire(pdu: &Pdu) -> Pdu {
    decoded(&bytes(pdu))
}

fn decoded(bytes: &[u8]) -> Pdu {
    let mut decoder = PduDecoder::new(Limits::default());
    decoder.feed(bytes);
    decoder.decode().unwrap().unwrap()
}

fn accepting(rq: Pdu) -> (Acceptor, Vec<Action>) {
    let mut acceptor = Acceptor::new(implementation(), Limits::default(), Timeouts::default());
    let mut actions = Vec::new();
    acceptor.handle(Event::TransportOpened, &mut actions);
    actions.clear();
    acceptor.handle(Event::Pdu(rq), &mut actions);
    (acceptor, actions)
}

fn accepted(request: &Request, policy: &Policy) -> Acceptance {
    match agree(request, policy).0 {
        Confirmation::Accepted(acceptance) => acceptance,
        Confirmation::Rejected(rejection) => panic!("rejected: {rejection}"),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn each_context_has_the_result_that_its_proposal_earns() {
    use ContextResult::{AbstractSyntaxNotSupported, Acceptance, TransferSyntaxesNotSupported};
    let cases: [(&str, &[&str], ContextResult, &str); 7] = [
        (VERIFICATION, &[IMPLICIT], Acceptance, IMPLICIT),
        (CT, &[EXPLICIT, IMPLICIT], Acceptance, EXPLICIT),
        (CT, &[IMPLICIT, EXPLICIT], Acceptance, IMPLICIT),
        (CT, &[BIG_ENDIAN, IMPLICIT], Acceptance, IMPLICIT),
        (CT, &[BIG_ENDIAN], TransferSyntaxesNotSupported, ""),
        // A list for each SOP class: what CT may use is not what Verification may use.
        (VERIFICATION, &[EXPLICIT], TransferSyntaxesNotSupported, ""),
        (MR, &[IMPLICIT], AbstractSyntaxNotSupported, ""),
    ];
    let mut request = Request::new("CT01", "IDRSITE", implementation());
    for (abstract_syntax, transfer_syntaxes, ..) in cases {
        request.propose(abstract_syntax, transfer_syntaxes).unwrap();
    }
    let acceptance = accepted(&request, &policy());
    for (index, (abstract_syntax, _, result, transfer_syntax)) in cases.into_iter().enumerate() {
        let answered = &acceptance.contexts[index];
        assert_eq!(usize::from(answered.id), 2 * index + 1);
        assert_eq!((&answered.abstract_syntax[..], answered.result), (abstract_syntax, result), "case {index}");
        assert_eq!(answered.transfer_syntax, transfer_syntax, "case {index}");
    }
}

#[test]
fn all_128_contexts_can_be_proposed_and_no_more() {
    let mut request = Request::new("CT01", "IDRSITE", implementation());
    let ids: Vec<_> = std::iter::from_fn(|| request.propose(CT, &[IMPLICIT])).collect();
    assert_eq!(ids, (1..=255).step_by(2).collect::<Vec<u8>>());
    assert_eq!(accepted(&request, &policy()).accepted().len(), 128);
}

#[test]
fn what_the_peer_may_not_do_is_rejected_by_the_user_although_it_is_supported() {
    let policy = Policy { only: Some(BTreeSet::from([VERIFICATION.to_owned()])), ..policy() };
    let results: Vec<_> = accepted(&request(), &policy).contexts.iter().map(|context| context.result).collect();
    assert_eq!(results, [ContextResult::Acceptance, ContextResult::UserRejection]);
}

#[test]
fn an_association_without_an_accepted_context_is_still_an_answer() {
    let mut request = Request::new("CT01", "IDRSITE", implementation());
    request.propose(MR, &[IMPLICIT]);
    assert_eq!(accepted(&request, &policy()).accepted(), []);
}

#[test]
fn another_application_context_is_rejected() {
    let request = Request { application_context: "1.2.840.10008.3.1.1.2".to_owned(), ..request() };
    assert_eq!(agree(&request, &policy()).0, Confirmation::Rejected(Rejection::APPLICATION_CONTEXT));
}

#[test]
fn the_provider_rejects_what_it_cannot_serve_before_anybody_is_asked() {
    let cases = [
        (Request { protocol_version: 2, ..request() }, Rejection::PROTOCOL_VERSION),
        (Request { calling_ae_title: "A\\B".to_owned(), ..request() }, Rejection::CALLING_AE_TITLE),
        (Request { called_ae_title: "A\tB".to_owned(), ..request() }, Rejection::CALLED_AE_TITLE),
    ];
    for (request, rejection) in cases {
        let mut out = Vec::new();
        Requestor::new(request, Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
        let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
        assert_rejected(through_the_wire(rq), rejection);
    }
}

//= PS3.8 §9.3.2, Table 9-11
//= type=test
#[test]
fn of_the_protocol_version_of_a_request_only_bit_0_is_tested() {
    for (protocol_version, told) in [(1, true), (3, true), (0xFFFF, true), (0, false), (0xFFFE, false)] {
        let (acceptor, _) = accepting(rq_with(|bytes| bytes[6..8].copy_from_slice(&u16::to_be_bytes(protocol_version))));
        assert_eq!(acceptor.state() == State::Sta3, told, "{protocol_version:04X}");
    }
}

//= PS3.8 §9.3.2, Table 9-11
//= type=test
#[test]
fn spaces_around_an_ae_title_are_not_significant_and_nothing_but_spaces_is_none() {
    let (_, actions) = accepting(rq_with(|bytes| bytes[10..42].copy_from_slice(b"  IDRSITE         CT 01         ")));
    let Some(Action::Associate(told)) = actions.last() else { panic!("the request is told, not {actions:?}") };
    assert_eq!((&told.called_ae_title[..], &told.calling_ae_title[..]), ("IDRSITE", "CT 01"));

    assert_rejected(rq_with(|bytes| bytes[26..42].fill(b' ')), Rejection::CALLING_AE_TITLE);
    assert_rejected(rq_with(|bytes| bytes[10..26].fill(b' ')), Rejection::CALLED_AE_TITLE);
    assert_rejected(rq_with(|bytes| bytes[10..26].fill(0)), Rejection::CALLED_AE_TITLE);
}

/// The request with its bytes changed.
fn rq_with(change: impl FnOnce(&mut [u8])) -> Pdu {
    let mut out = Vec::new();
    Requestor::new(request(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
    let mut bytes = bytes(rq);
    change(&mut bytes);
    decoded(&bytes)
}

#[test]
fn a_peer_that_takes_only_tiny_pdus_is_rejected() {
    let limits = Limits { pdu_length_max: 127, ..Limits::default() };
    let mut out = Vec::new();
    Requestor::new(request(), limits, Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
    assert_rejected(through_the_wire(rq), Rejection::PROVIDER_NO_REASON);
}

fn assert_rejected(rq: Pdu, rejection: Rejection) {
    let (acceptor, actions) = accepting(rq);
    assert_eq!(acceptor.state(), State::Sta13);
    assert_eq!(
        actions,
        [
            Action::StopArtim,
            Action::Send(Pdu::AssociateRj(rejection)),
            Action::StartArtim(Timeouts::default().artim),
            Action::Aborted(Cause::Rejected(rejection)),
        ]
    );
}

fn with_roles(sop_class: &str, proposed: Roles, allowed: Roles) -> Acceptance {
    let mut request = Request::new("IDRCENTRE", "IDRSITE", implementation());
    request.propose(sop_class, &[IMPLICIT]);
    request.roles.push((sop_class.to_owned(), proposed));
    let support = Support { transfer_syntaxes: vec![IMPLICIT.to_owned()], roles: allowed, extended_negotiation: None };
    let policy = Policy { abstract_syntaxes: Arc::new(BTreeMap::from([(sop_class.to_owned(), support)])), ..Policy::default() };
    accepted(&request, &policy)
}

#[test]
fn a_role_is_granted_only_if_it_is_proposed_and_allowed() {
    let roles = |scu, scp| Roles { scu, scp };
    let cases = [
        (roles(false, true), roles(false, true), Some(roles(false, true))),
        (roles(true, true), roles(true, false), Some(roles(true, false))),
        (roles(true, true), roles(true, true), Some(roles(true, true))),
        (roles(true, false), roles(true, true), Some(roles(true, false))),
        // Nothing remains: the context itself is rejected.
        (roles(false, true), roles(true, false), None),
    ];
    for (proposed, allowed, granted) in cases {
        let acceptance = with_roles(COMMITMENT, proposed, allowed);
        match granted {
            Some(granted) => {
                assert_eq!(acceptance.roles, [(COMMITMENT.to_owned(), granted)]);
                assert_eq!(acceptance.accepted()[0].roles, granted);
            }
            None => {
                assert_eq!(acceptance.contexts[0].result, ContextResult::UserRejection);
                assert_eq!(acceptance.roles, []);
            }
        }
    }
}

#[test]
fn without_role_selection_the_requestor_is_scu() {
    assert!(accepted(&request(), &policy()).accepted().iter().all(|context| context.roles == Roles { scu: true, scp: false }));
}

#[test]
fn extended_negotiation_of_storage_is_answered_with_level_2_and_only_when_proposed() {
    let support = Support {
        transfer_syntaxes: vec![IMPLICIT.to_owned()],
        extended_negotiation: Some(STORAGE_EXTENDED_NEGOTIATION.to_vec()),
        ..Support::default()
    };
    let syntaxes = BTreeMap::from([(CT.to_owned(), support.clone()), (MR.to_owned(), support)]);
    let policy = Policy { abstract_syntaxes: Arc::new(syntaxes), ..Policy::default() };
    let mut request = Request::new("CT01", "IDRSITE", implementation());
    request.propose(CT, &[IMPLICIT]);
    request.propose(MR, &[IMPLICIT]);
    request.extended_negotiation.push((CT.to_owned(), vec![2, 0, 3, 0, 1, 0]));
    assert_eq!(accepted(&request, &policy).extended_negotiation, [(CT.to_owned(), vec![2, 0, 0, 0, 0, 0])]);
}

#[test]
fn a_window_for_asynchronous_operations_is_answered_with_one_each_way_and_only_when_proposed() {
    let window = [0x53, 0, 0, 4, 0, 1, 0, 1];
    let mut acceptance = negotiate(&request(), &policy()).unwrap();
    assert!(!contains(&answer_bytes(&acceptance), &window));
    acceptance = negotiate(&Request { asynchronous: true, ..request() }, &policy()).unwrap();
    assert!(contains(&answer_bytes(&acceptance), &window));
}

/// The answer on the wire, for an acceptance made elsewhere.
fn answer_bytes(acceptance: &Acceptance) -> Vec<u8> {
    let mut out = Vec::new();
    Requestor::new(request(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
    let (mut acceptor, mut actions) = accepting(rq.clone());
    actions.clear();
    acceptor.handle(Event::Answer(Answer::Accept(acceptance.clone())), &mut actions);
    let Action::Send(answer) = &actions[0] else { panic!("the answer is sent") };
    bytes(answer)
}

#[test]
fn the_answer_announces_our_maximum_and_repeats_the_ae_titles() {
    let answer = answer_bytes(&negotiate(&request(), &policy()).unwrap());
    assert_eq!(&answer[10..42], b"IDRSITE         CT01            ");
    assert!(contains(&answer, &[0x51, 0, 0, 4, 0, 2, 0, 0]));
}

//= PS3.8 §9.3
//= type=test
#[test]
fn the_items_of_a_request_and_of_its_answer_are_in_ascending_order_of_their_types() {
    let support = Support {
        transfer_syntaxes: vec![IMPLICIT.to_owned()],
        roles: Roles { scu: true, scp: true },
        extended_negotiation: Some(STORAGE_EXTENDED_NEGOTIATION.to_vec()),
    };
    let policy = Policy { abstract_syntaxes: Arc::new(BTreeMap::from([(CT.to_owned(), support)])), only: None, identity_verified: true };
    let named = Implementation { version_name: Some("TEST".to_owned()), ..implementation() };
    let mut request = Request::new("CT01", "IDRSITE", named.clone());
    request.propose(CT, &[IMPLICIT]);
    request.roles.push((CT.to_owned(), Roles { scu: true, scp: true }));
    request.extended_negotiation.push((CT.to_owned(), vec![2]));
    request.user_identity = Some(UserIdentity {
        identity_type: UserIdentityType::SamlAssertion,
        positive_response_requested: true,
        primary: b"<Assertion/>".to_vec(),
        secondary: vec![],
    });
    let mut out = Vec::new();
    Requestor::new(request.clone(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
    let rq = bytes(rq);
    assert_eq!(item_types(&rq[74..]), [0x10, 0x20, 0x50]);
    assert_eq!(item_types(user_information(&rq)), [0x51, 0x52, 0x54, 0x55, 0x56, 0x58]);

    let mut acceptor = Acceptor::new(named, Limits::default(), Timeouts::default());
    let mut actions = Vec::new();
    acceptor.handle(Event::TransportOpened, &mut actions);
    acceptor.handle(Event::Pdu(decoded(&rq)), &mut actions);
    actions.clear();
    // Our requestor proposes no window; others do.
    let acceptance = negotiate(&Request { asynchronous: true, ..request }, &policy).unwrap();
    acceptor.handle(Event::Answer(Answer::Accept(acceptance)), &mut actions);
    let [Action::Send(answer)] = &actions[..] else { panic!("the answer is sent") };
    let answer = bytes(answer);
    assert_eq!(item_types(&answer[74..]), [0x10, 0x21, 0x50]);
    assert_eq!(item_types(user_information(&answer)), [0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x59]);
}

/// The types of items that follow one another.
fn item_types(mut items: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [item_type, _, high, low, rest @ ..] = items {
        types.push(*item_type);
        items = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    types
}

/// The sub-items of the last item of an association PDU.
fn user_information(pdu: &[u8]) -> &[u8] {
    let mut items = &pdu[74..];
    while let [item_type, _, high, low, rest @ ..] = items {
        if *item_type == 0x50 {
            return rest;
        }
        items = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    panic!("there is no user information")
}

#[test]
fn a_verified_user_identity_is_confirmed_when_a_positive_response_was_asked_for() {
    let identity = |positive_response_requested| UserIdentity {
        identity_type: UserIdentityType::SamlAssertion,
        positive_response_requested,
        primary: b"<Assertion/>".to_vec(),
        secondary: vec![],
    };
    for (asked, verified, confirmed) in [(true, true, true), (true, false, false), (false, true, false)] {
        let request = Request { user_identity: Some(identity(asked)), ..request() };
        let (confirmation, answer) = agree(&request, &Policy { identity_verified: verified, ..policy() });
        let Confirmation::Accepted(acceptance) = confirmation else { panic!("accepted") };
        assert_eq!(acceptance.user_identity_response, confirmed.then(Vec::new), "asked {asked}, verified {verified}");
        assert_eq!(contains(&answer, &[0x59, 0, 0, 2, 0, 0]), confirmed);
    }
}

#[test]
fn debug_output_of_a_request_does_not_show_the_assertion() {
    let identity = UserIdentity {
        identity_type: UserIdentityType::Jwt,
        positive_response_requested: true,
        primary: b"secret".to_vec(),
        secondary: b"secret".to_vec(),
    };
    let request = Request { user_identity: Some(identity), ..request() };
    let mut out = Vec::new();
    Requestor::new(request.clone(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    let shown = format!("{request:?} {out:?}");
    assert!(!shown.contains("secret") && !shown.contains(&format!("{:?}", b"secret")), "{shown}");
}

#[test]
fn an_answer_with_a_transfer_syntax_that_was_not_proposed_is_not_an_accepted_context() {
    let (mut acceptor, mut actions) = {
        let mut out = Vec::new();
        Requestor::new(request(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
        let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
        accepting(rq.clone())
    };
    let mut acceptance = negotiate(&request(), &policy()).unwrap();
    acceptance.contexts[1].transfer_syntax = BIG_ENDIAN.to_owned();
    actions.clear();
    acceptor.handle(Event::Answer(Answer::Accept(acceptance)), &mut actions);
    let Action::Send(answer) = actions.swap_remove(0) else { panic!("the answer is sent") };
    let mut requestor = Requestor::new(request(), Limits::default(), Timeouts::default());
    requestor.handle(requestor::Event::TransportOpened, &mut Vec::new());
    requestor.handle(requestor::Event::Pdu(answer), &mut Vec::new());
    assert_eq!(requestor.contexts().iter().map(|context| context.id).collect::<Vec<_>>(), [1]);
}
