//! What the two sides agree on (PS3.8 §7.1.1, §9.3.2, §9.3.3; PS3.7 Annex D.3).
//!
//! [`Request`] is what the requestor proposes, [`Acceptance`] what the acceptor answers; both stand for the PDU in either
//! direction. [`negotiate`] makes the answer from a request and a [`Policy`], which is data.
//!
//! # Standard
//! Asynchronous operations are never agreed: a proposed window is answered with 1/1 (PS3.7 D.3.3.3).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, PresentationContextProposed, PresentationContextResult, PresentationContextResultReason, RequestorRoles,
    UserVariableItem,
};

use super::Context;
use crate::pdu::{Pdu, Rejection};

pub use dicom_ul::pdu::UserIdentityType;

/// The DICOM application context name (PS3.7 Annex A.2.1).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Answer to the extended negotiation of a storage SOP class: level 2 (full), signature level 0, no coercion
/// (PS3.4 §B.3.1).
pub const STORAGE_EXTENDED_NEGOTIATION: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// Item type of the asynchronous operations window (PS3.7 D.3.3.3).
const ASYNCHRONOUS_OPERATIONS: u8 = 0x53;
/// Item type of the acceptor's user identity response (PS3.7 D.3.3.7.2).
const USER_IDENTITY_RESPONSE: u8 = 0x59;

/// Who wrote the software, as told to the peer (PS3.7 D.3.3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Implementation {
    /// Implementation Class UID.
    pub class_uid: String,
    /// Implementation Version Name, 1 to 16 characters; not sent when absent.
    pub version_name: Option<String>,
}

/// Roles of the requestor for one SOP class (PS3.7 D.3.3.4). Without negotiation it is SCU only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// The requestor may invoke operations.
    pub scu: bool,
    /// The requestor may perform operations.
    pub scp: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Roles { scu: true, scp: false }
    }
}

/// User identity of the requestor (PS3.7 D.3.3.7.1). `Debug` shows neither field.
#[derive(Clone, PartialEq, Eq)]
pub struct UserIdentity {
    /// What the fields hold.
    pub identity_type: UserIdentityType,
    /// The requestor wants to be told that the identity was accepted.
    pub positive_response_requested: bool,
    /// User name, ticket, assertion or token.
    pub primary: Vec<u8>,
    /// Passcode, with type 2 only.
    pub secondary: Vec<u8>,
}

impl fmt::Debug for UserIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserIdentity({:?}, {} bytes <redacted>)", self.identity_type, self.primary.len())
    }
}

/// A proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Odd, 1 to 255.
    pub id: u8,
    /// Abstract syntax UID.
    pub abstract_syntax: String,
    /// Transfer syntax UIDs in the order of the requestor's preference.
    pub transfer_syntaxes: Vec<String>,
}

/// The parameters of A-ASSOCIATE-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Bit 0 stands for version 1.
    pub protocol_version: u16,
    /// Without leading and trailing spaces.
    pub calling_ae_title: String,
    /// Without leading and trailing spaces.
    pub called_ae_title: String,
    /// [`APPLICATION_CONTEXT`].
    pub application_context: String,
    /// In the order proposed.
    pub contexts: Vec<Proposal>,
    /// Role selection by SOP class.
    pub roles: Vec<(String, Roles)>,
    /// Service class application information by SOP class (extended negotiation).
    pub extended_negotiation: Vec<(String, Vec<u8>)>,
    /// A window for asynchronous operations is proposed. We never propose one.
    pub asynchronous: bool,
    /// Identity of the user.
    pub user_identity: Option<UserIdentity>,
    /// Longest P-DATA-TF that the requestor accepts; 0 for unlimited.
    pub pdu_length_max: u32,
    /// The requestor's software.
    pub implementation: Implementation,
}

impl Request {
    /// A request to `called_ae_title`; fill in the contexts and what else is wanted.
    pub fn new(calling_ae_title: &str, called_ae_title: &str, implementation: Implementation) -> Self {
        Request {
            protocol_version: 1,
            calling_ae_title: calling_ae_title.to_owned(),
            called_ae_title: called_ae_title.to_owned(),
            application_context: APPLICATION_CONTEXT.to_owned(),
            contexts: Vec::new(),
            roles: Vec::new(),
            extended_negotiation: Vec::new(),
            asynchronous: false,
            user_identity: None,
            pdu_length_max: 0,
            implementation,
        }
    }

    /// Adds a presentation context with the next free identifier and gives the identifier; `None` when all 128 are used.
    pub fn propose(&mut self, abstract_syntax: &str, transfer_syntaxes: &[&str]) -> Option<u8> {
        let id = self.contexts.iter().map(|context| context.id).max().map_or(Some(1), |last| last.checked_add(2))?;
        self.contexts.push(Proposal {
            id,
            abstract_syntax: abstract_syntax.to_owned(),
            transfer_syntaxes: transfer_syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
        });
        Some(id)
    }

    pub(super) fn from_pdu(rq: AssociationRQ) -> Self {
        let user = UserInformation::from_items(rq.user_variables);
        Request {
            protocol_version: rq.protocol_version,
            calling_ae_title: rq.calling_ae_title,
            called_ae_title: rq.called_ae_title,
            application_context: rq.application_context_name,
            contexts: rq
                .presentation_contexts
                .into_iter()
                .map(|context| Proposal {
                    id: context.id,
                    abstract_syntax: context.abstract_syntax,
                    transfer_syntaxes: context.transfer_syntaxes,
                })
                .collect(),
            roles: user.roles,
            extended_negotiation: user.extended_negotiation,
            asynchronous: user.asynchronous,
            user_identity: user.identity,
            pdu_length_max: user.pdu_length_max,
            implementation: user.implementation,
        }
    }

    pub(super) fn to_pdu(&self) -> Pdu {
        let mut items = user_items(self.pdu_length_max, &self.implementation, false, &self.roles, &self.extended_negotiation);
        if let Some(identity) = &self.user_identity {
            items.push(UserVariableItem::UserIdentityItem(dicom_ul::pdu::UserIdentity::new(
                identity.positive_response_requested,
                identity.identity_type.clone(),
                identity.primary.clone(),
                identity.secondary.clone(),
            )));
        }
        let proposed = |context: &Proposal| PresentationContextProposed {
            id: context.id,
            abstract_syntax: context.abstract_syntax.clone(),
            transfer_syntaxes: context.transfer_syntaxes.clone(),
        };
        Pdu::AssociateRq(Box::new(AssociationRQ {
            protocol_version: self.protocol_version,
            calling_ae_title: self.calling_ae_title.clone(),
            called_ae_title: self.called_ae_title.clone(),
            application_context_name: self.application_context.clone(),
            presentation_contexts: self.contexts.iter().map(proposed).collect(),
            user_variables: items,
        }))
    }
}

/// Result of a presentation context (PS3.8 §9.3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ContextResult {
    /// 0: accepted.
    Acceptance = 0,
    /// 1: rejected by the user.
    UserRejection = 1,
    /// 2: rejected by the provider without a reason.
    NoReason = 2,
    /// 3: abstract syntax not supported.
    AbstractSyntaxNotSupported = 3,
    /// 4: no proposed transfer syntax is supported.
    TransferSyntaxesNotSupported = 4,
}

/// The answer to one proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Identifier of the proposal.
    pub id: u8,
    /// Abstract syntax of the proposal.
    pub abstract_syntax: String,
    /// The result.
    pub result: ContextResult,
    /// The agreed transfer syntax; empty unless accepted.
    pub transfer_syntax: String,
}

/// The parameters of A-ASSOCIATE-AC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// In the order proposed, one for each proposal.
    pub contexts: Vec<Answered>,
    /// Role selection by SOP class, for those that the requestor proposed.
    pub roles: Vec<(String, Roles)>,
    /// Extended negotiation by SOP class, for those that the requestor proposed.
    pub extended_negotiation: Vec<(String, Vec<u8>)>,
    /// The window for asynchronous operations is answered.
    pub asynchronous: bool,
    /// The server response of the user identity, when a positive response is given.
    pub user_identity_response: Option<Vec<u8>>,
    /// Longest P-DATA-TF that the acceptor accepts; 0 for unlimited. Read from the peer's answer; our own answer carries
    /// the limit of the acceptor.
    pub pdu_length_max: u32,
    /// The acceptor's software; read from the peer's answer, as above.
    pub implementation: Implementation,
}

impl Acceptance {
    /// The accepted presentation contexts with their roles.
    pub fn accepted(&self) -> Vec<Context> {
        self.contexts
            .iter()
            .filter(|context| context.result == ContextResult::Acceptance)
            .map(|context| Context {
                id: context.id,
                abstract_syntax: context.abstract_syntax.clone(),
                transfer_syntax: context.transfer_syntax.clone(),
                roles: find(&self.roles, &context.abstract_syntax).copied().unwrap_or_default(),
            })
            .collect()
    }

    /// Reads the peer's answer. A context that was not proposed is left out; one without an answer, or answered with a
    /// transfer syntax that was not proposed for it, counts as rejected without a reason. A role that was not proposed is
    /// not granted.
    pub(super) fn from_pdu(ac: AssociationAC, request: &Request) -> Self {
        let user = UserInformation::from_items(ac.user_variables);
        let answer = |proposal: &Proposal| {
            let answer = ac.presentation_contexts.iter().find(|answer| answer.id == proposal.id);
            let (result, transfer_syntax) = match answer {
                Some(answer) if answer.reason != PresentationContextResultReason::Acceptance => (result(&answer.reason), String::new()),
                Some(answer) if proposal.transfer_syntaxes.contains(&answer.transfer_syntax) => {
                    (ContextResult::Acceptance, answer.transfer_syntax.clone())
                }
                _ => (ContextResult::NoReason, String::new()),
            };
            Answered { id: proposal.id, abstract_syntax: proposal.abstract_syntax.clone(), result, transfer_syntax }
        };
        let granted = |(uid, answered): (String, Roles)| {
            let proposed = find(&request.roles, &uid)?;
            Some((uid, Roles { scu: answered.scu && proposed.scu, scp: answered.scp && proposed.scp }))
        };
        Acceptance {
            contexts: request.contexts.iter().map(answer).collect(),
            roles: user.roles.into_iter().filter_map(granted).collect(),
            extended_negotiation: user.extended_negotiation,
            asynchronous: user.asynchronous,
            user_identity_response: user.identity_response,
            pdu_length_max: user.pdu_length_max,
            implementation: user.implementation,
        }
    }
}

/// What is accepted of one abstract syntax.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Support {
    /// Acceptable transfer syntax UIDs; the order has no meaning.
    pub transfer_syntaxes: Vec<String>,
    /// Roles that the requestor may have.
    pub roles: Roles,
    /// Answer to a proposed extended negotiation, if there is one; see [`STORAGE_EXTENDED_NEGOTIATION`].
    pub extended_negotiation: Option<Vec<u8>>,
}

/// What an acceptor accepts.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// By abstract syntax UID. What is not here is not supported (result 3).
    pub abstract_syntaxes: Arc<BTreeMap<String, Support>>,
    /// If present, other abstract syntaxes are rejected by the user (result 1) although they are supported: for a peer that
    /// may do only some things.
    pub only: Option<BTreeSet<String>>,
    /// The user identity was verified: a positive response is given if it was asked for.
    pub identity_verified: bool,
}

/// Makes the answer to a request.
///
/// For each context: result 3 if the abstract syntax is not in the policy, 1 if [`Policy::only`] leaves it out or no role
/// remains, 4 if no proposed transfer syntax is acceptable, else 0 with the first acceptable one in the proposer's order.
///
/// # Errors
/// The application context is not DICOM's (PS3.7 Annex A).
pub fn negotiate(request: &Request, policy: &Policy) -> Result<Acceptance, Rejection> {
    if request.application_context != APPLICATION_CONTEXT {
        return Err(Rejection::APPLICATION_CONTEXT);
    }
    let mut acceptance = Acceptance { asynchronous: request.asynchronous, ..Acceptance::default() };
    if policy.identity_verified && request.user_identity.as_ref().is_some_and(|identity| identity.positive_response_requested) {
        // Only a Kerberos ticket has something to answer (PS3.7 Table D.3-15), and we accept none.
        acceptance.user_identity_response = Some(Vec::new());
    }
    for proposal in &request.contexts {
        let (result, transfer_syntax) = judge(proposal, request, policy);
        acceptance.contexts.push(Answered {
            id: proposal.id,
            abstract_syntax: proposal.abstract_syntax.clone(),
            result,
            transfer_syntax: transfer_syntax.unwrap_or_default(),
        });
    }
    let support = |uid: &String| {
        let accepted = |context: &Answered| context.result == ContextResult::Acceptance && context.abstract_syntax == *uid;
        if acceptance.contexts.iter().any(accepted) { policy.abstract_syntaxes.get(uid) } else { None }
    };
    let roles = |(uid, proposed): &(String, Roles)| Some((uid.clone(), granted(*proposed, support(uid)?.roles)));
    let extended = |(uid, _): &(String, Vec<u8>)| Some((uid.clone(), support(uid)?.extended_negotiation.clone()?));
    acceptance.roles = first_of_each(request.roles.iter().filter_map(roles));
    acceptance.extended_negotiation = first_of_each(request.extended_negotiation.iter().filter_map(extended));
    Ok(acceptance)
}

fn judge(proposal: &Proposal, request: &Request, policy: &Policy) -> (ContextResult, Option<String>) {
    let Some(support) = policy.abstract_syntaxes.get(&proposal.abstract_syntax) else {
        return (ContextResult::AbstractSyntaxNotSupported, None);
    };
    if policy.only.as_ref().is_some_and(|only| !only.contains(&proposal.abstract_syntax)) {
        return (ContextResult::UserRejection, None);
    }
    if let Some(proposed) = find(&request.roles, &proposal.abstract_syntax)
        && granted(*proposed, support.roles) == (Roles { scu: false, scp: false })
    {
        return (ContextResult::UserRejection, None);
    }
    match proposal.transfer_syntaxes.iter().find(|uid| support.transfer_syntaxes.contains(uid)) {
        Some(uid) => (ContextResult::Acceptance, Some(uid.clone())),
        None => (ContextResult::TransferSyntaxesNotSupported, None),
    }
}

fn granted(proposed: Roles, allowed: Roles) -> Roles {
    Roles { scu: proposed.scu && allowed.scu, scp: proposed.scp && allowed.scp }
}

fn find<'a, T>(list: &'a [(String, T)], uid: &str) -> Option<&'a T> {
    list.iter().find(|(key, _)| key == uid).map(|(_, value)| value)
}

/// A peer may name a SOP class twice; it is answered once.
fn first_of_each<T>(items: impl Iterator<Item = (String, T)>) -> Vec<(String, T)> {
    let mut seen = BTreeSet::new();
    items.filter(|(uid, _)| seen.insert(uid.clone())).collect()
}

fn result(reason: &PresentationContextResultReason) -> ContextResult {
    match reason {
        PresentationContextResultReason::Acceptance => ContextResult::Acceptance,
        PresentationContextResultReason::UserRejection => ContextResult::UserRejection,
        PresentationContextResultReason::NoReason => ContextResult::NoReason,
        PresentationContextResultReason::AbstractSyntaxNotSupported => ContextResult::AbstractSyntaxNotSupported,
        PresentationContextResultReason::TransferSyntaxesNotSupported => ContextResult::TransferSyntaxesNotSupported,
    }
}

fn reason(result: ContextResult) -> PresentationContextResultReason {
    match result {
        ContextResult::Acceptance => PresentationContextResultReason::Acceptance,
        ContextResult::UserRejection => PresentationContextResultReason::UserRejection,
        ContextResult::NoReason => PresentationContextResultReason::NoReason,
        ContextResult::AbstractSyntaxNotSupported => PresentationContextResultReason::AbstractSyntaxNotSupported,
        ContextResult::TransferSyntaxesNotSupported => PresentationContextResultReason::TransferSyntaxesNotSupported,
    }
}

/// The A-ASSOCIATE-AC that answers `request`.
//= PS3.8 §9.3.3, Table 9-17
//= type=exception
//= reason=The reserved fields repeat the AE titles without leading spaces and are otherwise zero, not the bytes of the request:
//=        a requestor shall not test them, and sends no others.
pub(super) fn accept_pdu(request: &Request, acceptance: &Acceptance, implementation: &Implementation, pdu_length_max: u32) -> Pdu {
    let Acceptance { asynchronous, roles, extended_negotiation, .. } = acceptance;
    let mut items = user_items(pdu_length_max, implementation, *asynchronous, roles, extended_negotiation);
    if let Some(response) = &acceptance.user_identity_response {
        let mut value = (response.len() as u16).to_be_bytes().to_vec();
        value.extend_from_slice(response);
        items.push(UserVariableItem::Unknown(USER_IDENTITY_RESPONSE, value));
    }
    let answered = |context: &Answered| PresentationContextResult {
        id: context.id,
        reason: reason(context.result),
        // Not significant unless accepted, but a sub-item has to stand there.
        transfer_syntax: match context.result {
            ContextResult::Acceptance => context.transfer_syntax.clone(),
            _ => dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        },
    };
    Pdu::AssociateAc(Box::new(AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: acceptance.contexts.iter().map(answered).collect(),
        user_variables: items,
    }))
}

/// Whether this is an AE title: 1 to 16 characters of ISO 646 without backslash and control characters, and not only
/// spaces (PS3.5 §6.2, VR AE).
pub fn is_ae_title(text: &str) -> bool {
    let printable = |byte: u8| (0x20..=0x7E).contains(&byte) && byte != b'\\';
    (1..=16).contains(&text.len()) && text.bytes().all(printable) && text.bytes().any(|byte| byte != b' ')
}

/// Sub-items in ascending order of their type (PS3.8 §9.3), as some older peers expect.
fn user_items(
    pdu_length_max: u32,
    implementation: &Implementation,
    asynchronous: bool,
    roles: &[(String, Roles)],
    extended: &[(String, Vec<u8>)],
) -> Vec<UserVariableItem> {
    let mut items =
        vec![UserVariableItem::MaxLength(pdu_length_max), UserVariableItem::ImplementationClassUID(implementation.class_uid.clone())];
    if asynchronous {
        items.push(UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS, vec![0, 1, 0, 1]));
    }
    let role = |(uid, roles): &(String, Roles)| {
        UserVariableItem::ScuScpRoleSelectionSubItem(uid.clone(), RequestorRoles { scu: roles.scu, scp: roles.scp })
    };
    items.extend(roles.iter().map(role));
    items.extend(implementation.version_name.clone().map(UserVariableItem::ImplementationVersionName));
    items.extend(
        extended.iter().map(|(uid, information)| UserVariableItem::SopClassExtendedNegotiationSubItem(uid.clone(), information.clone())),
    );
    items
}

#[derive(Default)]
struct UserInformation {
    pdu_length_max: u32,
    implementation: Implementation,
    roles: Vec<(String, Roles)>,
    extended_negotiation: Vec<(String, Vec<u8>)>,
    asynchronous: bool,
    identity: Option<UserIdentity>,
    identity_response: Option<Vec<u8>>,
}

impl UserInformation {
    fn from_items(items: Vec<UserVariableItem>) -> Self {
        let mut user = UserInformation::default();
        for item in items {
            match item {
                UserVariableItem::MaxLength(length) => user.pdu_length_max = length,
                UserVariableItem::ImplementationClassUID(uid) => user.implementation.class_uid = uid,
                UserVariableItem::ImplementationVersionName(name) => user.implementation.version_name = Some(name),
                UserVariableItem::ScuScpRoleSelectionSubItem(uid, roles) => {
                    user.roles.push((uid, Roles { scu: roles.scu, scp: roles.scp }));
                }
                UserVariableItem::SopClassExtendedNegotiationSubItem(uid, information) => {
                    user.extended_negotiation.push((uid, information))
                }
                UserVariableItem::UserIdentityItem(identity) => {
                    user.identity = Some(UserIdentity {
                        identity_type: identity.identity_type(),
                        positive_response_requested: identity.positive_response_requested(),
                        primary: identity.primary_field(),
                        secondary: identity.secondary_field(),
                    });
                }
                UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS, _) => user.asynchronous = true,
                // Two bytes of length, then the server response.
                UserVariableItem::Unknown(USER_IDENTITY_RESPONSE, value) => {
                    user.identity_response = value.split_first_chunk::<2>().map(|(_, response)| response.to_vec());
                }
                UserVariableItem::Unknown(..) => {}
            }
        }
        user
    }
}
