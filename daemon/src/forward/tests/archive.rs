//! A destination over real sockets that answers as it is told to: SCP of storage and of storage commitment.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use idr_dimse::association::acceptor::Answer;
use idr_dimse::association::negotiation::{ContextResult, Implementation, Policy, Request, Roles, Support, negotiate};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::pdu::Rejection;
use idr_dimse::service::storage::{self, Outcome, StoreRequest};
use idr_dimse::service::storage_commitment::{self as service, ActionInformation, EventInformation};
use idr_dimse::service::verification;
use idr_dimse::status::Status;
use idr_host::inbound::{Channel, Indication};
use tokio::net::{TcpListener, TcpStream};

use crate::config;
use crate::forward::Archive;
use crate::outbound::Waits;

/// What happens to one association, instead of its being accepted.
#[derive(Debug, Clone, Copy)]
pub enum OnAssociate {
    Accept,
    Reject(u8, u8, u8),
    /// Every context but that of storage commitment has this result.
    Refuse(ContextResult),
    Silence,
}

/// What happens to one C-STORE instead of success.
#[derive(Debug, Clone, Copy)]
pub enum OnStore {
    Answer(u16),
    /// A-ABORT before its data set is through.
    Abort,
    /// It is taken, and the answer does not come.
    Silence,
    /// The connection ends in the middle of the answer.
    CloseInPdu,
}

/// What happens to one N-ACTION instead of success and a report that commits all.
#[derive(Clone)]
pub enum OnAsk {
    /// This status and no report.
    Answer(u16),
    /// Success; what is said of each instance: committed, with a reason, or nothing. Event type by the lists, or another.
    Report(Vec<Said>, Option<u16>),
    /// Success, and the association ends.
    Later,
}

/// What a report says of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Committed,
    OtherClass,
    Failed(u16),
    Both,
    Nothing,
}

#[derive(Default)]
struct State {
    associate: VecDeque<OnAssociate>,
    store: VecDeque<OnStore>,
    ask: VecDeque<OnAsk>,
    /// What came, by SOP Instance UID.
    stored: BTreeMap<String, Vec<Vec<u8>>>,
    associations: Vec<Request>,
    asked: Vec<ActionInformation>,
    /// Answers to the reports.
    answers: Vec<Status>,
    /// Status and Error Comment of each C-STORE that nothing else is said of.
    refuses_all: Option<(u16, String)>,
}

/// The destination.
#[derive(Clone)]
pub struct Scripted {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let scripted = Self { state: Arc::default(), port: listener.local_addr().expect("bound").port() };
        let of_task = scripted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let scripted = of_task.clone();
                // How a connection ends is what the tests look at from the other side.
                tokio::spawn(async move { scripted.serve(stream).await.ok() });
            }
        });
        scripted
    }

    /// As the forwarder is configured for it.
    pub fn archive(&self, receipts: bool, response: Duration) -> Arc<Archive> {
        let text = format!(
            "address = \"127.0.0.1:{}\"\nae_title = \"PACS\"\ntls = false\nidentity = \"none\"\nreceipts = {receipts}\nreferences_max = 3\n",
            self.port
        );
        let row: config::Archive = toml::from_str(&text).expect("an archive");
        let long = Duration::from_secs(60);
        let waits = Waits { connect: long, handshake: long, associate: response, response, progress: long };
        Arc::new(Archive::for_tests(&row, waits, if response < long { Duration::ZERO } else { long }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    pub fn on_associate(&self, fates: impl IntoIterator<Item = OnAssociate>) {
        self.state().associate.extend(fates);
    }

    pub fn on_store(&self, fates: impl IntoIterator<Item = OnStore>) {
        self.state().store.extend(fates);
    }

    /// From now on each C-STORE is answered so; none: with success.
    pub fn refuse_all(&self, with: Option<(u16, &str)>) {
        self.state().refuses_all = with.map(|(status, comment)| (status, comment.to_owned()));
    }

    pub fn on_ask(&self, fates: impl IntoIterator<Item = OnAsk>) {
        self.state().ask.extend(fates);
    }

    /// The bytes of an instance, each time that it came.
    pub fn bytes_of(&self, sop_instance_uid: &str) -> Vec<Vec<u8>> {
        self.state().stored.get(sop_instance_uid).cloned().unwrap_or_default()
    }

    pub fn requests(&self) -> Vec<ActionInformation> {
        self.state().asked.clone()
    }

    pub fn answers(&self) -> Vec<Status> {
        self.state().answers.clone()
    }

    pub fn associations(&self) -> Vec<Request> {
        self.state().associations.clone()
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let stream = stream.into_std()?;
        let mut raw = stream.try_clone()?;
        let stream = TcpStream::from_std(stream)?;
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let implementation = Implementation { class_uid: "1.2.3".to_owned(), version_name: None };
        let mut channel = Channel::new((stream, peer), implementation, Limits::default(), Timeouts::default(), Duration::from_secs(3600));
        let (mut coming, mut data) = (None::<CommandSet>, Vec::new());
        loop {
            while let Some(indication) = channel.indication().await? {
                match indication {
                    Indication::Associate(request) => {
                        let fate = self.state().associate.pop_front().unwrap_or(OnAssociate::Accept);
                        self.state().associations.push((*request).clone());
                        match fate {
                            OnAssociate::Reject(result, source, reason) => {
                                channel.answer(Answer::Reject(Rejection::new(result, source, reason)));
                            }
                            OnAssociate::Silence => std::future::pending::<()>().await,
                            fate => channel.answer(Answer::Accept(accept(&request, fate))),
                        }
                    }
                    Indication::Command { context_id, command } if command.command_field() == CommandField::C_ECHO_RQ => {
                        channel.send_command(context_id, &verification::response(&command)).ok();
                    }
                    Indication::Command { command, .. } if command.command_field().is_response() => {
                        self.state().answers.push(command.status().expect("a status"));
                    }
                    Indication::Command { command, .. } => (coming, data) = (Some(command), Vec::new()),
                    Indication::Data { context_id, fragment, last } => {
                        data.extend_from_slice(&fragment);
                        let Some(command) = coming.take_if(|_| last) else { continue };
                        if command.command_field() == CommandField::N_ACTION_RQ {
                            self.action(&mut channel, context_id, &command, &data);
                            continue;
                        }
                        let (refused, fate) = {
                            let mut state = self.state();
                            let (status, comment) = state.refuses_all.clone().unwrap_or_default();
                            (comment, state.store.pop_front().unwrap_or(OnStore::Answer(status)))
                        };
                        let uid = StoreRequest::read(&command).and_then(|request| request.sop_instance_uid).expect("a C-STORE-RQ");
                        if !matches!(fate, OnStore::Abort) {
                            self.state().stored.entry(uid).or_default().push(std::mem::take(&mut data));
                        }
                        match fate {
                            OnStore::Answer(status) => {
                                let outcome = Outcome { error_comment: refused, ..Outcome::new(Status(status)) };
                                let response = storage::response(&command, &outcome);
                                channel.send_command(context_id, &response).ok();
                            }
                            OnStore::Abort => channel.abort(),
                            OnStore::Silence => std::future::pending::<()>().await,
                            OnStore::CloseInPdu => {
                                raw.write_all(&[4, 0, 0, 0, 0, 80, 0])?;
                                raw.shutdown(Shutdown::Both)?;
                                return Ok(());
                            }
                        }
                    }
                    Indication::Ended(_) => {}
                }
            }
            if channel.is_over() {
                return Ok(());
            }
            channel.wait(None).await?;
        }
    }

    fn action(&self, channel: &mut Channel<TcpStream>, context_id: u8, command: &CommandSet, data: &[u8]) {
        let syntax = channel.context(context_id).expect("accepted").transfer_syntax.clone();
        let asked = ActionInformation::read(&syntax, data, 100).expect("a request");
        let fate = self.state().ask.pop_front().unwrap_or(OnAsk::Report(vec![Said::Committed; asked.references.len()], None));
        self.state().asked.push(asked.clone());
        let status = if let OnAsk::Answer(status) = fate { Status(status) } else { Status::SUCCESS };
        channel.send_command(context_id, &service::action_response(command, status)).ok();
        match fate {
            OnAsk::Answer(_) => {}
            OnAsk::Later => channel.abort(),
            OnAsk::Report(said, event_type) => {
                let report = report_of(&asked, &said);
                let event_type = event_type.unwrap_or(report.event_type());
                channel.send_command(context_id, &service::event_report_request(1, event_type)).ok();
                channel.send_data(context_id, report.encode(&syntax).expect("encoded"), true).ok();
            }
        }
    }
}

/// The report to a request that says this of its instances.
pub fn report_of(asked: &ActionInformation, said: &[Said]) -> EventInformation {
    let mut report = EventInformation { transaction_uid: asked.transaction_uid.clone(), committed: Vec::new(), failed: Vec::new() };
    for (reference, said) in asked.references.iter().zip(said) {
        let mut committed = reference.clone();
        if *said == Said::OtherClass {
            committed.sop_class_uid = "1.2.840.10008.5.1.4.1.1.4".to_owned();
        }
        if matches!(said, Said::Committed | Said::OtherClass | Said::Both) {
            report.committed.push(committed);
        }
        if let Said::Failed(reason) = said {
            report.failed.push((reference.clone(), service::FailureReason(*reason)));
        }
        if *said == Said::Both {
            report.failed.push((reference.clone(), service::FailureReason::PROCESSING_FAILURE));
        }
    }
    report
}

fn accept(request: &Request, fate: OnAssociate) -> idr_dimse::association::negotiation::Acceptance {
    let mut supported: BTreeMap<String, Support> = BTreeMap::new();
    for context in &request.contexts {
        let support = supported.entry(context.abstract_syntax.clone()).or_default();
        support.transfer_syntaxes.extend(context.transfer_syntaxes.iter().cloned());
        support.roles = Roles::default();
    }
    let policy = Policy { abstract_syntaxes: Arc::new(supported), only: None, identity_verified: false };
    let mut acceptance = negotiate(request, &policy).expect("DICOM");
    if let OnAssociate::Refuse(result) = fate {
        let storage = acceptance.contexts.iter_mut().filter(|context| context.abstract_syntax != service::SOP_CLASS_UID);
        storage.for_each(|context| context.result = result);
    }
    acceptance
}
