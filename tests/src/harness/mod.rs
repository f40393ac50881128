//! One folder with everything a test needs: keys, one centre, its sites, as a real test environment would have them.
//!
//! ```no_run
//! # async fn story() -> anyhow::Result<()> {
//! use idr_tests::harness::{Plan, World};
//! let mut world = World::start(Plan::default()).await?;
//! let modality = world.site().modality_tls();
//! // … send, wait, ask with world.viewer() …
//! world.site_mut().program.kill().await?;
//! world.site_mut().program.start().await?;
//! # Ok(()) }
//! ```
//!
//! Configuration is the shipped files of `configs/` with the few keys changed that an operator must decide, and the waits
//! shortened to seconds. Nothing is shared between worlds: own folder, own keys, own ports.

mod enrolment;
mod files;
mod memory;
mod neighbour;
mod ports;
mod program;
mod relay;
mod world;

pub use files::{Party, edit};
pub use memory::{PeakMeter, pss_bytes};
pub use neighbour::{NEIGHBOUR, NEIGHBOUR_AUDIENCE, NEIGHBOUR_REPOSITORY};
pub use ports::free as free_port;
pub use program::{Listening, Program, binary};
pub use relay::{Exchange, Message, Relay};
pub use world::{Central, Plan, Site, World, identity};
