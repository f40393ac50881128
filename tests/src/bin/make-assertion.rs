//! Prints a fresh assertion of a world's professional or technical user, for the scripts of foreign peers and for curl.
//!
//! `make-assertion --world target/demo --patient '010190-900P^^^&1.2.246.21&ISO'`

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use idr_ihe::metadata::PatientId;
use idr_tests::consumer::{Requester, security};
use idr_tests::harness::Party;

#[derive(Parser)]
struct Arguments {
    /// Folder of the world: it holds `keys/`.
    #[arg(long)]
    world: PathBuf,
    /// Whose key signs.
    #[arg(long, value_enum, default_value_t = Whose::Hospital)]
    of: Whose,
    /// Kind of subject.
    #[arg(long, value_enum, default_value_t = Kind::Professional)]
    kind: Kind,
    /// Patient, HL7 CX.
    #[arg(long)]
    patient: Option<String>,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Form::Saml)]
    form: Form,
    /// TLS client certificate to which a JWT is bound, PEM.
    #[arg(long)]
    tls: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    Hospital,
    Other,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Professional,
    Technical,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// The assertion.
    Saml,
    /// `wsse:Security` around it.
    Security,
    /// A JWT.
    Jwt,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let party = match arguments.of {
        Whose::Hospital => Party::hospital(&arguments.world)?,
        Whose::Other => Party::other(&arguments.world)?,
    };
    let requester = match arguments.kind {
        Kind::Professional => Requester::professional(&party)?,
        Kind::Technical => Requester::technical(&party)?,
    };
    let patient = arguments.patient.as_deref().map(PatientId::parse_cx).transpose()?;
    let text = match arguments.form {
        Form::Saml => requester.saml(patient.as_ref())?,
        Form::Security => security(&requester.saml(patient.as_ref())?),
        Form::Jwt => {
            let tls = arguments.tls.ok_or_else(|| anyhow::anyhow!("--tls is needed for a JWT"))?;
            let certificates = idr_profile::tls::certificates(&std::fs::read(&tls)?, "tls")?;
            requester.jwt(patient.as_ref(), &certificates[0])?
        }
    };
    println!("{text}");
    Ok(())
}
