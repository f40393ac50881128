//! Orthanc, a foreign archive, as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::harness::free_port;
use crate::modality::Modality;
use crate::poll;

/// A running Orthanc; it is killed when this is dropped.
pub struct Orthanc {
    child: Child,
    /// Its DICOM address.
    pub dicom: SocketAddr,
    /// Its own AE title.
    pub ae_title: String,
    base: String,
    client: reqwest::Client,
}

impl Orthanc {
    /// Starts it with everything in `folder` and waits until its REST interface answers. Over the settings that a test needs
    /// (ports, folders, no authentication, no plugins) stand those given, by the names of Orthanc's own configuration.
    ///
    /// # Errors
    /// It cannot be started, or does not answer in time.
    pub async fn start(folder: &Path, settings: Value) -> anyhow::Result<Self> {
        Self::start_with(folder, settings, reqwest::Client::builder().no_proxy().build()?).await
    }

    /// The same, asked with this client: what an Orthanc needs that wants TLS (`SslEnabled`).
    ///
    /// # Errors
    /// As [`Orthanc::start`].
    pub async fn start_with(folder: &Path, settings: Value, client: reqwest::Client) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (dicom, http) = (free_port()?, free_port()?.port());
        let mut configuration = json!({
            "Name": "peer", "DicomAet": "ORTHANC", "DicomPort": dicom.port(), "HttpPort": http, "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false, "StorageDirectory": folder, "IndexDirectory": folder, "Plugins": [],
            "DicomAlwaysAllowStore": true, "DicomCheckCalledAet": false,
        });
        for (name, value) in settings.as_object().context("settings of Orthanc are an object")? {
            configuration[name] = value.clone();
        }
        let file = folder.join("orthanc.json");
        std::fs::write(&file, configuration.to_string())?;
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = Command::new(program());
        command.arg(file).env("TCP_NODELAY", "1").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let scheme = if configuration["SslEnabled"] == true { "https" } else { "http" };
        let ae_title = configuration["DicomAet"].as_str().context("an AE title")?.to_owned();
        let orthanc = Self {
            child: command.spawn()?,
            dicom: configured(&configuration, dicom),
            ae_title,
            base: format!("{scheme}://localhost:{http}"),
            client,
        };
        poll::until("Orthanc answers", poll::DEADLINE, || async { orthanc.get("/system").await.ok() }).await?;
        Ok(orthanc)
    }

    /// Address of its REST interface.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A modality that sends to it in plain.
    pub fn modality(&self) -> Modality {
        Modality { address: self.dicom, tls: None, calling: "MODALITY".to_owned(), called: self.ae_title.clone(), identity: None }
    }

    /// What a GET of this path answers.
    ///
    /// # Errors
    /// No answer, or one with a status of failure.
    pub async fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await?.error_for_status()?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// As [`Orthanc::get`], or it is no JSON.
    pub async fn get_json(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.get(path).await?)?)
    }

    /// What a POST to this path answers.
    ///
    /// # Errors
    /// As [`Orthanc::get_json`].
    pub async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let answer = self.client.post(format!("{}{path}", self.base)).body(body).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Instances that it holds by its index.
    ///
    /// # Errors
    /// As [`Orthanc::get_json`].
    pub async fn instances(&self) -> anyhow::Result<u64> {
        self.get_json("/statistics").await?["CountInstances"].as_u64().context("a number of instances")
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The port may be given by the settings, where others must know it before.
fn configured(configuration: &Value, dicom: SocketAddr) -> SocketAddr {
    let port = configuration["DicomPort"].as_u64().and_then(|port| u16::try_from(port).ok());
    SocketAddr::new(dicom.ip(), port.unwrap_or(dicom.port()))
}

fn program() -> PathBuf {
    let installed = Path::new("/usr/sbin/Orthanc");
    if installed.exists() { installed.to_owned() } else { "Orthanc".into() }
}
