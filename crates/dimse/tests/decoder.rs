//! Bytes to PDUs: the bounds of the profile (BD-03 to BD-06), what is malformed, what is tolerated, and that no input
//! panics or makes the decoder hold more than one PDU.

mod common;

use bytes::Bytes;
use common::{CT, IMPLICIT, application_context, association, bytes, context, item, pdu, pdv, policy, proposed, request};
use idr_dimse::association::acceptor::{Acceptor, Action, Answer, Event};
use idr_dimse::association::negotiation::{Acceptance, negotiate};
use idr_dimse::association::requestor::{self, Requestor};
use idr_dimse::association::{Cause, State};
use idr_dimse::codec::{DecodeError, FIRST_READ, HEADER_LENGTH, PduDecoder, READ_AHEAD, data_header, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::MessageError;
use idr_dimse::message::command_set::CommandSet;
use idr_dimse::pdu::{Abort, Fragment, Pdu, PduType, Pdv, Rejection};
use proptest::prelude::*;

fn decode(bytes: &[u8]) -> Result<Option<Pdu>, DecodeError> {
    let mut decoder = PduDecoder::new(Limits::default());
    decoder.feed(bytes);
    decoder.decode()
}

fn error(bytes: &[u8]) -> DecodeError {
    decode(bytes).expect_err("the bytes are not acceptable")
}

fn rq(items: &[Vec<u8>]) -> Vec<u8> {
    association(1, items)
}

fn is_bound(bytes: &[u8], id: &str) {
    let error = error(bytes);
    assert_eq!((error.bound(), error.abort()), (Some(id), Abort::INVALID_PARAMETER), "{error}");
}

#[test]
fn an_unknown_pdu_type_is_refused_at_its_header() {
    for pdu_type in [0, 8, 0x47, 0xFF] {
        let error = error(&[pdu_type, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!((error, error.abort()), (DecodeError::UnknownType { pdu_type }, Abort::UNRECOGNIZED_PDU));
    }
}

#[test]
fn a_length_above_the_maximum_is_refused_before_the_body_comes() {
    for (pdu_type, maximum, bound) in
        [(1, 262_144, "BD-03"), (2, 262_144, "BD-03"), (4, 131_072, "BD-04"), (5, 4, "BD-04"), (7, 4, "BD-04")]
    {
        for length in [maximum + 1, u32::MAX] {
            let mut header = vec![pdu_type, 0];
            header.extend(length.to_be_bytes());
            is_bound(&header, bound);
        }
        let mut header = vec![pdu_type, 0];
        header.extend(u32::to_be_bytes(maximum));
        assert_eq!(decode(&header), Ok(None), "a PDU of type {pdu_type} at its bound");
    }
}

#[test]
fn a_short_pdu_has_four_bytes() {
    for pdu_type in [3, 5, 6, 7] {
        assert_eq!(error(&pdu(pdu_type, &[0, 0])).abort(), Abort::INVALID_PARAMETER);
    }
}

#[test]
fn presentation_contexts_are_bounded_by_their_identifiers() {
    let many = |limit| {
        let mut decoder = PduDecoder::new(Limits { presentation_contexts_max: limit, ..Limits::default() });
        let contexts: Vec<_> = (1..=255).step_by(2).map(proposed).collect();
        decoder.feed(&rq(&[vec![application_context()], contexts].concat()));
        decoder.decode()
    };
    assert!(many(128).is_ok());
    assert_eq!(many(127).expect_err("one above the bound").bound(), Some("BD-03"));
}

#[test]
fn transfer_syntaxes_user_items_and_uids_are_bounded() {
    let transfer_syntaxes = |count| {
        let mut items = vec![item(0x30, CT.as_bytes())];
        items.extend(vec![item(0x40, IMPLICIT.as_bytes()); count]);
        rq(&[application_context(), context(0x20, 1, 0, &items)])
    };
    assert!(decode(&transfer_syntaxes(64)).is_ok());
    is_bound(&transfer_syntaxes(65), "BD-03");

    let user_items = |count| rq(&[application_context(), proposed(1), item(0x50, &vec![item(0x57, &[]); count].concat())]);
    assert!(decode(&user_items(256)).is_ok());
    is_bound(&user_items(257), "BD-03");

    let uid = |length| {
        let uid = [b'1'; 65];
        rq(&[application_context(), context(0x20, 1, 0, &[item(0x30, &uid[..length]), item(0x40, IMPLICIT.as_bytes())])])
    };
    assert!(decode(&uid(64)).is_ok());
    is_bound(&uid(65), "BD-03");
}

#[test]
fn presentation_data_values_are_bounded_in_number_and_emptiness() {
    let values = |count, data: &[u8]| pdu(4, &vec![pdv(1, 0, data); count].concat());
    assert!(decode(&values(256, b"ab")).is_ok());
    is_bound(&values(257, b"ab"), "BD-05");
    assert!(decode(&values(64, b"")).is_ok());
    is_bound(&values(65, b""), "BD-05");

    let mut over_several_pdus = PduDecoder::new(Limits::default());
    for _ in 0..64 {
        over_several_pdus.feed(&values(1, b""));
        assert!(over_several_pdus.decode().is_ok());
    }
    over_several_pdus.feed(&values(1, b""));
    assert_eq!(over_several_pdus.decode().expect_err("the 65th in a row").bound(), Some("BD-05"));
}

#[test]
fn a_pdu_that_contradicts_itself_is_malformed() {
    let data = |length: u32, rest: &[u8]| pdu(4, &[&length.to_be_bytes()[..], rest].concat());
    let user = |items: &[u8]| rq(&[application_context(), proposed(1), item(0x50, items)]);
    let no_transfer_syntax = context(0x21, 1, 0, &[]);
    let cases = [
        pdu(4, &[]),
        pdu(4, &[0, 0, 0, 2, 1]),
        data(1, &[1, 0]),
        data(3, &[1, 0]),
        data(u32::MAX, &[1, 0]),
        pdu(1, &[0; 67]),
        rq(&[]),
        rq(&[application_context()]),
        rq(&[proposed(1)]),
        rq(&[application_context(), application_context(), proposed(1)]),
        rq(&[application_context(), proposed(2)]),
        rq(&[application_context(), proposed(0)]),
        rq(&[application_context(), proposed(1), proposed(1)]),
        rq(&[application_context(), proposed(1), vec![0x50]]),
        rq(&[application_context(), proposed(1), vec![0x50, 0, 0xFF, 0xFF]]),
        rq(&[application_context(), item(0x20, &[1, 0, 0])]),
        rq(&[application_context(), context(0x20, 1, 0, &[item(0x40, IMPLICIT.as_bytes())])]),
        user(&item(0x51, &[0, 0, 1])),
        user(&[item(0x51, &[0, 0, 1, 0]), item(0x51, &[0, 0, 1, 0])].concat()),
        user(&item(0x54, &[0, 3, b'1', b'.', b'2', 1])),
        user(&item(0x54, &[0, 9, b'1', b'.', b'2', 1, 0])),
        user(&item(0x56, &[0, 9, b'1'])),
        user(&item(0x58, &[4, 1, 0, 9, b'x', 0, 0])),
        user(&item(0x58, &[4, 1, 0, 1, b'x', 0, 0, 7])),
        user(&[item(0x58, &[4, 1, 0, 0, 0, 0]), item(0x58, &[5, 1, 0, 0, 0, 0])].concat()),
        association(2, &[application_context(), no_transfer_syntax]),
        association(2, &[application_context(), context(0x21, 1, 5, &[])]),
    ];
    for case in cases {
        let error = error(&case);
        assert!(matches!(error, DecodeError::Malformed { .. }), "{error} for {case:02X?}");
        assert_eq!(error.abort(), Abort::INVALID_PARAMETER);
    }
}

#[test]
fn after_an_error_nothing_comes_any_more() {
    let mut decoder = PduDecoder::new(Limits::default());
    decoder.feed(&[0x47, 0x45, 0x54, 0x20, 0x2F, 0x20]);
    assert!(decoder.decode().is_err());
    decoder.feed(&bytes(&Pdu::ReleaseRq));
    assert_eq!((decoder.decode(), decoder.buffered()), (Ok(None), 0));
}

#[test]
fn items_of_unrecognized_types_are_skipped() {
    let plain = [application_context(), proposed(1), item(0x50, &item(0x51, &[0, 0, 1, 0]))];
    let strange = context(0x20, 1, 0, &[item(0x30, CT.as_bytes()), item(0x77, b"?"), item(0x40, IMPLICIT.as_bytes())]);
    let with_strangers = [item(0x99, b"???"), application_context(), strange, plain[2].clone(), item(0x21, b"")];
    assert_eq!(decode(&rq(&with_strangers)), decode(&rq(&plain)));
}

#[test]
fn padding_of_uids_and_ae_titles_is_not_significant() {
    let padded = context(0x20, 1, 0, &[item(0x30, format!("{CT}\0").as_bytes()), item(0x40, format!("{IMPLICIT} ").as_bytes())]);
    let mut bytes = rq(&[application_context(), padded]);
    for byte in &mut bytes[10..42] {
        if *byte == b' ' {
            *byte = 0;
        }
    }
    assert_eq!(decode(&bytes), decode(&rq(&[application_context(), proposed(1)])));
}

//= PS3.8 §9.3.2 to §9.3.8
//= type=test
#[test]
fn reserved_fields_are_not_tested() {
    let changed = |bytes: &[u8], reserved: &[usize]| {
        let mut bytes = bytes.to_vec();
        reserved.iter().for_each(|at| bytes[*at] = 0xFF);
        bytes
    };
    // Of the PDU; behind the protocol version; behind the AE titles; of the application context, a context and a sub-item.
    let items = 74 + application_context().len();
    let fixed: Vec<usize> = [1, 8, 9].into_iter().chain(42..74).chain([75, items + 1, items + 5, items + 9]).collect();
    let request = rq(&[application_context(), proposed(1)]);
    assert_eq!(decode(&changed(&request, &[&fixed[..], &[items + 6, items + 7]].concat())), decode(&request));

    let answer = association(2, &[application_context(), context(0x21, 1, 0, &[item(0x40, IMPLICIT.as_bytes())])]);
    assert_eq!(decode(&changed(&answer, &[&fixed[..], &[items + 7]].concat())), decode(&answer));
    // In an answer the AE titles are reserved too.
    let Ok(Some(Pdu::AssociateAc(ac))) = decode(&changed(&answer, &(10..42).collect::<Vec<_>>())) else { panic!("not tested") };
    assert_eq!(ac.presentation_contexts.len(), 1);

    for (short, reserved) in [
        (Pdu::AssociateRj(Rejection::LOCAL_LIMIT), &[1, 6][..]),
        (Pdu::ReleaseRq, &[1, 6, 7, 8, 9]),
        (Pdu::ReleaseRp, &[1, 6, 7, 8, 9]),
        (Pdu::Abort(Abort::UNEXPECTED_PDU), &[1, 6, 7]),
    ] {
        assert_eq!(decode(&changed(&bytes(&short), reserved)), Ok(Some(short)));
    }
}

//= PS3.8 §9.3.3, Table 9-17
//= type=test
#[test]
fn of_the_protocol_version_of_an_answer_only_bit_0_is_tested() {
    let mut answer = association(2, &[application_context(), context(0x21, 1, 0, &[item(0x40, IMPLICIT.as_bytes())])]);
    for (version, acceptable) in [([0, 1], true), ([0xFF, 0xFF], true), ([0, 0], false), ([0xFF, 0xFE], false)] {
        answer[6..8].copy_from_slice(&version);
        assert_eq!(decode(&answer).is_ok(), acceptable, "{version:?}");
    }
}

//= PS3.8 §E.2
//= type=test
#[test]
fn bits_0_and_1_of_the_message_control_header_count_and_no_others() {
    for (control, kind, last) in [
        (0, Fragment::Data, false),
        (1, Fragment::Command, false),
        (2, Fragment::Data, true),
        (3, Fragment::Command, true),
        (0xFC, Fragment::Data, false),
        (0xFF, Fragment::Command, true),
    ] {
        let expected = Pdv { context_id: 1, kind, last, data: "ab".into() };
        assert_eq!(decode(&pdu(4, &pdv(1, control, b"ab"))), Ok(Some(Pdu::Data(vec![expected.clone()]))));
        assert_eq!(bytes(&Pdu::Data(vec![expected]))[11], control & 3);
    }
}

#[test]
fn a_rejected_context_needs_no_transfer_syntax() {
    let rejected = |items: &[Vec<u8>]| association(2, &[application_context(), context(0x21, 1, 3, items)]);
    let Ok(Some(Pdu::AssociateAc(ac))) = decode(&rejected(&[])) else { panic!("the answer is acceptable") };
    assert_eq!((ac.presentation_contexts.len(), ac.presentation_contexts[0].id), (1, 1));
    assert_eq!(decode(&rejected(&[item(0x40, b"")])), Ok(Some(Pdu::AssociateAc(ac))));
}

#[test]
fn an_abort_and_a_rejection_keep_numbers_that_the_standard_reserves() {
    assert_eq!(decode(&pdu(7, &[0, 0, 9, 99])), Ok(Some(Pdu::Abort(Abort { source: 9, reason: 99 }))));
    assert_eq!(decode(&pdu(3, &[0, 1, 1, 10])), Ok(Some(Pdu::AssociateRj(Rejection::new(1, 1, 10)))));
}

#[test]
fn a_data_fragment_is_not_copied_out_of_the_received_bytes() {
    let mut decoder = PduDecoder::new(Limits::default());
    let buffer = decoder.buffer();
    buffer.extend_from_slice(&pdu(4, &[pdv(1, 3, b"command!"), pdv(1, 2, &[7; 1000])].concat()));
    let start = buffer.as_ptr() as usize;
    let Ok(Some(Pdu::Data(pdvs))) = decoder.decode() else { panic!("a P-DATA-TF was received") };
    let offsets: Vec<_> = pdvs.iter().map(|pdv| pdv.data.as_ptr() as usize - start).collect();
    assert_eq!(offsets, [12, 26]);
}

#[test]
fn the_header_before_a_borrowed_fragment_makes_the_same_pdu_as_encode() {
    let pdv = Pdv { context_id: 3, kind: Fragment::Command, last: true, data: "fragment".into() };
    let mut expected = data_header(&pdv).to_vec();
    expected.extend(&pdv.data[..]);
    assert_eq!(bytes(&Pdu::Data(vec![pdv])), expected);
}

#[test]
fn what_a_peer_could_not_read_is_not_written() {
    let mut wrong = vec![];
    let mut too_long = request();
    too_long.extended_negotiation = (0..2).map(|_| (CT.to_owned(), vec![0; 40_000])).collect();
    wrong.push(too_long);
    let mut title = request();
    title.called_ae_title = "SEVENTEEN LETTERS".to_owned();
    wrong.push(title);
    let mut uid = request();
    uid.propose(&"1".repeat(65), &[IMPLICIT]);
    wrong.push(uid);
    for request in wrong {
        let mut out = Vec::new();
        Requestor::new(request, Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
        let [requestor::Action::Send(rq)] = &out[..] else { panic!("the request is sent") };
        assert!(encode(rq, &mut Vec::new()).is_err());
    }
}

/// An established acceptor: Verification in context 1, CT in context 3, context 5 rejected.
fn established() -> Acceptor {
    let mut request = request();
    request.propose("1.2.3", &[IMPLICIT]);
    let mut out = Vec::new();
    Requestor::new(request.clone(), Limits::default(), Timeouts::default()).handle(requestor::Event::TransportOpened, &mut out);
    let Some(requestor::Action::Send(rq)) = out.pop() else { panic!("the request is sent") };
    let mut acceptor = Acceptor::new(common::implementation(), Limits::default(), Timeouts::default());
    let acceptance: Acceptance = negotiate(&request, &policy()).unwrap();
    for event in [Event::TransportOpened, Event::Pdu(rq), Event::Answer(Answer::Accept(acceptance))] {
        acceptor.handle(event, &mut Vec::new());
    }
    assert_eq!(acceptor.state(), State::Sta6);
    acceptor
}

#[test]
fn a_message_that_breaks_the_rules_aborts_the_association_with_its_reason() {
    let command = |context_id, data: Bytes| Pdv { context_id, kind: Fragment::Command, last: true, data };
    let data = |context_id| Pdv { context_id, kind: Fragment::Data, last: false, data: "ab".into() };
    let store = CommandSet::c_store_rq(1, CT, "1.2.3", Default::default()).encode();
    let cases = [
        (vec![command(5, store.clone())], Abort::INVALID_PARAMETER),
        (vec![command(2, store.clone())], Abort::INVALID_PARAMETER),
        (vec![data(3)], Abort::UNEXPECTED_PDU),
        (vec![command(3, store.clone()), command(3, store.clone())], Abort::UNEXPECTED_PDU),
        (vec![command(3, store.clone()), data(1)], Abort::UNEXPECTED_PDU),
        (vec![command(3, "not a command set".into())], Abort::USER),
        (vec![command(3, vec![0; 65_537].into())], Abort::USER),
    ];
    for (pdvs, abort) in cases {
        let (mut acceptor, mut actions) = (established(), Vec::new());
        acceptor.handle(Event::Pdu(Pdu::Data(pdvs.clone())), &mut actions);
        assert_eq!(acceptor.state(), State::Sta13);
        assert!(actions.contains(&Action::Send(Pdu::Abort(abort))), "{pdvs:?}: {actions:?}");
    }
}

#[test]
fn a_command_set_above_its_bound_is_counted_as_such() {
    let (mut acceptor, mut actions) = (established(), Vec::new());
    let half = Pdv { context_id: 1, kind: Fragment::Command, last: false, data: vec![0; 40_000].into() };
    acceptor.handle(Event::Pdu(Pdu::Data(vec![half.clone()])), &mut actions);
    acceptor.handle(Event::Pdu(Pdu::Data(vec![half])), &mut actions);
    let Some(Action::Aborted(Cause::Message(error))) = actions.last() else { panic!("aborted: {actions:?}") };
    assert_eq!((*error, error.bound()), (MessageError::CommandTooLong(65_536), Some("BD-06")));
}

#[test]
fn a_length_that_is_only_announced_makes_no_room() {
    let mut decoder = PduDecoder::new(Limits::default());
    let longest = Limits::default().associate_length_max;
    assert!(decoder.buffer().capacity() <= FIRST_READ, "a peer that only connects");
    let mut sent = 0;
    for byte in [1, 0].into_iter().chain(longest.to_be_bytes()).chain(std::iter::repeat_n(0, 20_000)) {
        decoder.feed(&[byte]);
        sent += 1;
        assert_eq!(decoder.decode(), Ok(None));
        let room = decoder.buffer().capacity();
        assert!(room <= 4 * sent + 2 * FIRST_READ, "{room} bytes for {sent}");
    }
    let mut decoder = PduDecoder::new(Limits::default());
    decoder.feed(&a_request());
    assert!(decoder.decode().is_ok_and(|pdu| pdu.is_some()));
    assert!(decoder.buffer().capacity() >= READ_AHEAD / 4, "after the first PDU the reads are long");
}

/// Feeds in pieces, decodes all, and checks at each step what the decoder holds.
fn feed_all(input: &[u8], pieces: &[usize]) -> Vec<Pdu> {
    let limits = Limits::default();
    let largest_pdu = HEADER_LENGTH + limits.associate_length_max as usize;
    let mut decoder = PduDecoder::new(limits);
    let mut pdus = Vec::new();
    let mut rest = input;
    for piece in pieces.iter().copied().cycle().map(|piece| piece.max(1)) {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(piece.min(rest.len()));
        decoder.feed(now);
        rest = later;
        while let Ok(Some(pdu)) = decoder.decode() {
            pdus.push(pdu);
        }
        assert!(decoder.buffered() < largest_pdu);
        assert!(decoder.buffer().capacity() <= 2 * (largest_pdu + READ_AHEAD));
    }
    pdus
}

fn a_request() -> Vec<u8> {
    let identity = item(0x58, &[4, 1, 0, 2, b'<', b'>', 0, 0]);
    let role = item(0x54, &[&[0, CT.len() as u8][..], CT.as_bytes(), &[1, 1]].concat());
    let user = [item(0x51, &[0, 2, 0, 0]), item(0x52, b"1.2.3"), role, item(0x55, b"TEST"), identity].concat();
    rq(&[application_context(), proposed(1), proposed(3), item(0x50, &user)])
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused_within_the_bounds(
        input in prop::collection::vec(any::<u8>(), 0..2000),
        pieces in prop::collection::vec(1..300_usize, 1..5),
    ) {
        feed_all(&input, &pieces);
    }

    #[test]
    fn any_body_behind_a_plausible_header_is_decoded_or_refused_within_the_bounds(
        pdu_type in 1..8_u8,
        body in prop::collection::vec(any::<u8>(), 0..600),
        pieces in prop::collection::vec(1..300_usize, 1..5),
    ) {
        feed_all(&pdu(pdu_type, &body), &pieces);
    }

    #[test]
    fn a_request_with_some_bytes_changed_is_decoded_or_refused_within_the_bounds(
        changes in prop::collection::vec((6..400_usize, any::<u8>()), 1..6),
        answer: bool,
    ) {
        let mut bytes = a_request();
        if answer {
            bytes[0] = 2;
        }
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        feed_all(&bytes, &[64]);
    }

    #[test]
    fn the_pdus_do_not_depend_on_how_the_bytes_arrive(
        fragments in prop::collection::vec((any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..50)), 1..20),
        pieces in prop::collection::vec(1..40_usize, 1..5),
    ) {
        let mut pdus = vec![decode(&a_request()).unwrap().unwrap()];
        pdus.extend(fragments.into_iter().map(|(command, last, data)| {
            let kind = if command { Fragment::Command } else { Fragment::Data };
            Pdu::Data(vec![Pdv { context_id: 1, kind, last, data: data.into() }])
        }));
        pdus.extend([Pdu::ReleaseRq, Pdu::ReleaseRp, Pdu::Abort(Abort::UNEXPECTED_PDU), Pdu::AssociateRj(Rejection::LOCAL_LIMIT)]);
        let wire: Vec<u8> = pdus.iter().flat_map(bytes).collect();
        prop_assert_eq!(feed_all(&wire, &pieces), pdus);
    }
}

#[test]
fn a_pdu_says_its_type() {
    assert_eq!(decode(&a_request()).unwrap().unwrap().pdu_type(), PduType::AssociateRq);
}
