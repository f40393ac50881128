//! What happens to requests: fronts that last for minutes to hours, each away, throttling, rough, late with receipts or clear.
//!
//! A front answers only what ends by itself: rows of the outcome table that lead to a person (hold(study), quarantine) are
//! left out here, and injected by [`super::world`] where it expects them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use idr_profile::outcome::{Context, Event, InstanceResult, Outcome, Outcomes, Severity, Signal, Soap, Stow, StowBody};
use idr_profile::outcome::{Decided, Decider, Response};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::forward::clock::Clock as _;
use crate::forward::peer::Failure;
use crate::forward::tests::centre::{Call, Fate, Weather};
use crate::forward::tests::rig::HandClock;

static OUTCOMES: LazyLock<Outcomes> = LazyLock::new(Outcomes::base);

/// How requests end that have no answer.
const EVENTS: [Event; 17] = [
    Event::NameUnknown,
    Event::NameFailure,
    Event::ConnectionRefused,
    Event::ConnectTimeout,
    Event::Unreachable,
    Event::ConnectionReset,
    Event::NotPermitted,
    Event::SocketError,
    Event::TlsTimeout,
    Event::CertificateExpired,
    Event::CertificateChain,
    Event::CertificateName,
    Event::CertificateRevoked,
    Event::RevocationUnknown,
    Event::HttpTimeout,
    Event::HttpCut,
    Event::HttpMediaType,
];
/// Of those, which a request may end with that has arrived.
const CUTS: [Event; 3] = [Event::ConnectionReset, Event::HttpTimeout, Event::HttpCut];
const RETRY_AFTER: [Option<&str>; 7] = [None, None, Some("1"), Some("120"), Some("3600"), Some("1000000000"), Some("soon")];
/// Codes of RAD-68 and ITI-18.
const CODES: [&str; 14] = [
    "XDSRegistryBusy",
    "XDSRepositoryOutOfResources",
    "XDSRegistryNotAvailable",
    "XDSRegistryError",
    "XDSRepositoryError",
    "XDSUnknownPatientId",
    "XDSPatientIDReconciliationError",
    "XDSDuplicateUniqueIdInRegistry",
    "XDSReplaceFailed",
    "XDSRegistryDeprecatedDocumentError",
    "DocumentQueued",
    "XDSUnknownRepositoryId",
    "XDSDocumentUniqueIdError",
    "XDSSomethingElse",
];

/// What lasts for a while.
#[derive(Debug, Clone, Copy)]
enum Front {
    Clear,
    /// Nothing arrives, or all of it and no answer.
    Away(Event, bool),
    /// 429 or 503.
    Throttling(u16, Option<&'static str>),
    /// Each request may meet anything.
    Rough,
    /// No receipts are given.
    WithoutReceipts,
}

/// Whether nobody has to do anything about it.
fn ends_by_itself(decided: &Decided) -> bool {
    !matches!(decided.outcome, Outcome::Hold(Decider::Study) | Outcome::Quarantine)
}

fn random_status(random: &mut StdRng, call: Call) -> u16 {
    loop {
        let status = random.random_range(100..700);
        let stow = OUTCOMES.stow(status, StowBody::None, 1, &Context::default());
        let fine = match call {
            Call::Register | Call::Query | Call::Withdraw => {
                ends_by_itself(&OUTCOMES.decide(Signal::Soap(Soap::Status { status, other_type: false }), &Context::default()))
            }
            _ => match stow {
                Stow::All(decided) => ends_by_itself(&decided),
                _ => true,
            },
        };
        if fine {
            return status;
        }
    }
}

fn random_reason(random: &mut StdRng) -> u16 {
    loop {
        let reason = random.random();
        let failed = [InstanceResult::Failed(reason)];
        if let Stow::Each { instances, .. } = OUTCOMES.stow(202, StowBody::Results(&failed), 1, &Context::default())
            && instances.iter().all(ends_by_itself)
        {
            return reason;
        }
    }
}

fn random_code(random: &mut StdRng) -> &'static str {
    loop {
        let code = *CODES.choose(random).expect("some");
        let errors = [(code, Severity::Error)];
        let response = Response { status: "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure", errors: &errors };
        let alone = |query| {
            let context = Context { query, ..Context::default() };
            ends_by_itself(&OUTCOMES.decide(Signal::Soap(Soap::Response { status: 200, response }), &context))
        };
        if alone(true) && alone(false) {
            return code;
        }
    }
}

fn failure(event: Event) -> Failure {
    Failure::Event(event)
}

fn rough(random: &mut StdRng, call: Call) -> Option<Fate> {
    let cut = |random: &mut StdRng| failure(*CUTS.choose(random).expect("some"));
    match random.random_range(0..12) {
        0..=3 => None,
        4 => Some(Fate::Lost(failure(*EVENTS.choose(random).expect("some")))),
        5 => Some(Fate::Lost(Failure::TlsAlert(random.random()))),
        6 | 7 => Some(Fate::Unheard(cut(random))),
        8 => Some(Fate::Status(random_status(random, call), *RETRY_AFTER.choose(random).expect("some"))),
        _ => match call {
            Call::Store if random.random() => Some(Fate::Partly(random.random_range(0..4), cut(random))),
            Call::Store => Some(Fate::Refused(random_reason(random))),
            Call::Receipts => Some(Fate::Only(random.random_range(1..4))),
            Call::Register if random.random() => Some(Fate::WithoutReceipt),
            // It answers nothing that is not so: what it has registered it shows.
            Call::Query if random.random() => None,
            Call::Register | Call::Query => Some(Fate::Code(random_code(random))),
            _ => None,
        },
    }
}

/// The weather of a seed; `worst` 0.0 to 1.0 says how seldom it is clear. With `IDR_TELL` set each request is told.
pub fn weather(seed: u64, worst: f64, clock: Arc<HandClock>) -> Weather {
    let tells = std::env::var_os("IDR_TELL").is_some();
    let mut random = StdRng::seed_from_u64(seed);
    let (mut front, mut until) = (Front::Clear, Duration::ZERO);
    Box::new(move |call| {
        // An answer takes its time.
        clock.advance(match random.random_range(0..20) {
            0 => Duration::from_secs(random.random_range(1..200)),
            _ => Duration::from_millis(random.random_range(0..1_000)),
        });
        if clock.monotonic() >= until {
            until = clock.monotonic() + Duration::from_secs(random.random_range(60..14_400));
            front = match random.random_range(0..8) {
                _ if !random.random_bool(worst) => Front::Clear,
                0 | 1 => Front::Away(*EVENTS.choose(&mut random).expect("some"), false),
                2 => Front::Away(*CUTS.choose(&mut random).expect("some"), true),
                3 => Front::Throttling(*[429, 503].choose(&mut random).expect("some"), *RETRY_AFTER.choose(&mut random).expect("some")),
                4 => Front::WithoutReceipts,
                _ => Front::Rough,
            };
        }
        let fate = match front {
            Front::Clear => None,
            Front::Away(event, false) => Some(Fate::Lost(failure(event))),
            Front::Away(event, true) => Some(Fate::Unheard(failure(event))),
            Front::Throttling(status, retry_after) => Some(Fate::Status(status, retry_after)),
            Front::WithoutReceipts => match call {
                Call::Receipts => Some(Fate::Status(404, None)),
                Call::Register => Some(Fate::WithoutReceipt),
                _ => None,
            },
            Front::Rough => rough(&mut random, call),
        };
        if tells {
            eprintln!("{:?} {call:?}: {fate:?} ({front:?})", clock.monotonic());
        }
        fate
    })
}
