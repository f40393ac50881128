//! What both programs need of the machine they run on. The other crates hold no IO and no clock; what the two programs would
//! otherwise write twice stands here.
//!
//! [`process`] (start, signals, exit status), [`config`] (reading the main file), [`files`] (keys, rule sets, trust), [`key_files`] (keys that a program makes),
//! [`places`] (how many connections, and whose), [`accept`] (listeners and TLS handshakes), [`inbound`] and [`outbound`] (associations that a peer opens, and ours), [`probe`] (looking at a peer step by step), [`pace`] (how slow an HTTP client may be), [`control`] (the operators' socket), [`monitor`] (health and metrics),
//! [`service_manager`] (systemd).

pub mod accept;
pub mod config;
pub mod control;
pub mod files;
pub mod inbound;
pub mod key_files;
pub mod monitor;
pub mod outbound;
pub mod pace;
pub mod places;
pub mod probe;
pub mod process;
pub mod service_manager;

/// The clock of a program.
#[expect(clippy::disallowed_methods, reason = "the one place where the programs read their clock")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
