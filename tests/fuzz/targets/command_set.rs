//! One command set (PS3.7 §6.3, §9.3, Annex E): read, written, read again; and message assembly over its fragments.
#![no_main]

use bytes::Bytes;
use idr_dimse::message::assembler::Assembler;
use idr_dimse::message::command_set::{CommandSet, Element, Priority};
use idr_dimse::pdu::{Fragment, Pdv};
use idr_dimse::status::Status;
use idr_fuzz::dicom::CT;
use idr_fuzz::{pieces, seed, seeds, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (length, data) = split(data);
    let decoded = CommandSet::decode(Bytes::copy_from_slice(data));

    let mut assembler = Assembler::new(65_536);
    let count = pieces(data, length).count();
    let mut assembled = Ok(None);
    for (number, piece) in pieces(data, length).enumerate() {
        assembled = assembler.push(Pdv { context_id: 1, kind: Fragment::Command, last: number + 1 == count, data: Bytes::copy_from_slice(piece) });
        if assembled.is_err() {
            break;
        }
    }
    if count > 0 && data.len() <= 65_536 {
        assert_eq!(assembled.is_ok(), decoded.is_ok(), "fragments change what a command set is");
    }

    let Ok(command) = decoded else { return };
    let again = CommandSet::decode(command.encode()).expect("what is written can be read");
    assert!(again == command, "a command set that changes when it is written");
    for element in [Element::AFFECTED_SOP_CLASS_UID, Element::AFFECTED_SOP_INSTANCE_UID, Element::ERROR_COMMENT, Element::MOVE_DESTINATION] {
        let _ = (command.uid(element), command.text(element), command.value(element), command.unsigned(element));
    }
    let _ = (command.tags(Element::OFFENDING_ELEMENT), command.tags(Element::ATTRIBUTE_IDENTIFIER_LIST));
    let _ = (command.status(), command.command_field(), command.message_id(), command.is_final_response());
    if command.awaits_response() {
        let response = CommandSet::response(&command, Status::SUCCESS);
        assert!(CommandSet::decode(response.encode()).expect("ours") == response);
    }
});

fn all() -> Vec<Vec<u8>> {
    let store = CommandSet::c_store_rq(1, CT, "1.2.3", Priority::Medium);
    let mut refused = CommandSet::response(&store, Status(0xa900));
    refused.set_text(Element::ERROR_COMMENT, "D101 Data set is empty");
    refused.set_tags(Element::OFFENDING_ELEMENT, &[]);
    [store, refused, CommandSet::c_echo_rq(7), CommandSet::c_cancel_rq(7)].iter().map(|command| seed(&[16], command.encode())).collect()
}
