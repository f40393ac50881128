//! A second centre beside the first: another community, which lets the first centre speak for its clients.

use anyhow::Context as _;
use toml::{Table, Value};

use super::files::{edit, list, path, shipped, trust};
use super::ports;
use super::world::{Central, ORGANISATION_CENTRE, World, central_table, peer, prepare_program};
use crate::consumer::{Consumer, Requester};
use crate::fixtures::pki::{Identity, Usage};
use crate::modality::Modality;

/// homeCommunityId of the neighbour, without `urn:oid:`.
pub const NEIGHBOUR: &str = "1.2.246.10.90000099.12.1";
/// Its repositoryUniqueId.
pub const NEIGHBOUR_REPOSITORY: &str = "1.2.246.10.90000099.12.100";
/// Its name as an audience of assertions: its endpoint.
pub const NEIGHBOUR_AUDIENCE: &str = "https://neighbour.idr.example/ihe/gateway";

impl World {
    /// Prepares another centre with the same parties, and the first one to ask it by what `row` says besides (neither is started).
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn neighbour(&self, row: impl FnOnce(&mut Table)) -> anyhow::Result<Central> {
        let (address, dimse) = (ports::free()?, ports::free()?);
        let server = self.pki.issue("neighbour", "1.2.246.10.90000099", Usage::Server)?;
        let gateway = self.pki.issue("gateway", ORGANISATION_CENTRE, Usage::Client)?;
        let parties = [&self.hospital, &self.other];
        let mut trusted = trust(&self.pki, &parties, ORGANISATION_CENTRE, &[])?;
        for issuer in trusted["issuer"].as_array_mut().into_iter().flatten().filter_map(Value::as_table_mut) {
            let own = issuer["organisation"].as_str().unwrap_or_default().to_owned();
            edit(issuer, [("tls_organisations", list([own.as_str(), ORGANISATION_CENTRE]))]);
        }
        let mut table = shipped("idr-central.toml")?;
        central_table(&mut table, &server, (address, dimse));
        let mut asking = peer("gateway", &self.hospital, "C1", &gateway, &["ITI-38", "ITI-39", "RAD-75"]);
        if let Some(row) = asking.as_table_mut() {
            edit(row, [("organisation", ORGANISATION_CENTRE.into())]);
        }
        let peers = vec![
            asking,
            peer("hospital-viewer", &self.hospital, "C4", &self.hospital.viewer, &["ITI-18", "ITI-43", "RAD-69"]),
            peer("hospital-pacs", &self.hospital, "C4", &self.pacs, &["ITI-18", "ITI-41", "ITI-43", "C-STORE", "N-ACTION"]),
        ];
        edit(
            &mut table,
            [
                ("central.home_community", NEIGHBOUR.into()),
                ("central.repository_unique_id", NEIGHBOUR_REPOSITORY.into()),
                ("https.public_url", "https://neighbour.idr.example".into()),
                ("peer", Value::Array(peers)),
            ],
        );
        let rules = shipped("site-rules.toml")?;
        let program = prepare_program(self.folder(), "neighbour", "idr-central", &table, &trusted, &rules)?;

        let pin = idr_profile::tls::pin(&server.der.clone().into()).context("a certificate of ours")?;
        let mut community = Table::new();
        edit(
            &mut community,
            [
                ("home", NEIGHBOUR.into()),
                ("endpoint", format!("https://localhost:{}/ihe/gateway", address.port()).into()),
                ("pins", list([pin])),
                ("audience", NEIGHBOUR_AUDIENCE.into()),
                ("transactions", list(["ITI-38", "ITI-39", "RAD-75"])),
            ],
        );
        row(&mut community);
        let own = self.central.program.config();
        let mut table: Table = toml::from_str(&std::fs::read_to_string(own)?)?;
        edit(
            &mut table,
            [
                ("federation.certificate", path(&gateway.certificate)),
                ("federation.key", path(&gateway.key)),
                ("community", Value::Array(vec![Value::Table(community)])),
            ],
        );
        super::files::write(own, &table)?;
        Ok(Central { program, address, dimse })
    }

    /// Somebody who connects with this TLS certificate to another centre.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn consumer_of(&self, centre: &Central, requester: Requester, tls: &Identity) -> anyhow::Result<Consumer> {
        let config = super::world::tls_client(tls, &self.pki.tls_anchor(), &[b"h2", b"http/1.1"])?;
        Consumer::new(centre.address, config, requester, tls)
    }

    /// The hospital's PACS, which sends objects of a patient to another centre.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn pacs_of(&self, centre: &Central, patient: &idr_ihe::metadata::PatientId) -> anyhow::Result<Modality> {
        Ok(Modality { address: centre.dimse, ..self.pacs_modality(Some(self.pacs_identity(patient)?))? })
    }
}
