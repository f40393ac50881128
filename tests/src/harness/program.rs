//! One of the two programs as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::poll;

/// Addresses that a program bound, from its `listening.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Listening {
    /// Plain DICOM.
    pub dimse: Vec<SocketAddr>,
    /// DICOM over TLS.
    pub dimse_tls: Vec<SocketAddr>,
    /// STOW-RS at a site, plain.
    pub stow: Vec<SocketAddr>,
    /// STOW-RS at a site, over TLS.
    pub stow_tls: Vec<SocketAddr>,
    /// HTTPS.
    pub https: Vec<SocketAddr>,
    /// Health and metrics.
    pub health: Vec<SocketAddr>,
    /// ADT messages at the centre, over TLS.
    pub mllp: Vec<SocketAddr>,
    /// ADT messages at the centre, plain.
    pub mllp_plain: Vec<SocketAddr>,
}

/// A program with its configuration file. It is killed when this is dropped, unless [`Program::detach`] was called; with
/// `IDR_TESTS_LOGS` set, its log is then printed.
pub struct Program {
    name: &'static str,
    config: PathBuf,
    state: PathBuf,
    log: PathBuf,
    /// Command that runs the program, for example strace with its arguments.
    pub wrapper: Vec<String>,
    child: Option<std::process::Child>,
    pid: Option<u32>,
}

impl Program {
    /// `name` of the binary; `state` is `storage.path`. Standard output and error go to `log`, over all starts.
    pub fn new(name: &'static str, config: PathBuf, state: PathBuf, log: PathBuf) -> Self {
        Self { name, config, state, log, wrapper: Vec::new(), child: None, pid: None }
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Changes the configuration file, for the next start.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn configure(&self, change: impl FnOnce(&mut toml::Table)) -> anyhow::Result<()> {
        let mut table = toml::from_str(&std::fs::read_to_string(&self.config)?)?;
        change(&mut table);
        Ok(std::fs::write(&self.config, toml::to_string_pretty(&table)?)?)
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What it printed so far, over all starts.
    pub fn printed(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It was not built, it ended, or it was not ready in time; the end of its log is in the error.
    pub async fn start(&mut self) -> anyhow::Result<Listening> {
        anyhow::ensure!(self.child.is_none(), "{} runs already", self.name);
        let listening = self.state.join("listening.json");
        match std::fs::remove_file(&listening) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut words = self.wrapper.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
        words.push(binary(self.name)?.into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("run").arg("--config").arg(&self.config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{:?} cannot be started", words[0]))?;
        self.pid = Some(child.id());
        self.child = Some(child);
        let what = format!("{} listens", self.name);
        let bound = poll::until(&what, poll::DEADLINE, || {
            let answer = match self.exited() {
                Some(status) => Some(Err(anyhow::anyhow!("{} ended with {status} instead of listening", self.name))),
                None => std::fs::read(&listening).ok().and_then(|bytes| serde_json::from_slice::<Listening>(&bytes).ok()).map(Ok),
            };
            async move { answer }
        });
        let bound = bound.await.and_then(|bound| bound);
        if self.exited().is_some() {
            self.child = None;
        }
        let bound = bound.with_context(|| format!("log of the program:\n{}", self.tail()))?;
        if !self.wrapper.is_empty() {
            self.pid = self.pid.and_then(child_of);
        }
        Ok(bound)
    }

    /// Address of its health port.
    ///
    /// # Errors
    /// It does not run.
    pub fn health(&self) -> anyhow::Result<SocketAddr> {
        let listening: Listening = serde_json::from_slice(&std::fs::read(self.state.join("listening.json"))?)?;
        listening.health.first().copied().context("no health port is bound")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    /// Its process id.
    ///
    /// # Panics
    /// It does not run.
    pub fn pid(&self) -> u32 {
        self.pid.expect("the program runs")
    }

    /// SIGKILL: as a power cut is for the process, though not for the disk's cache.
    ///
    /// # Errors
    /// It did not run, or cannot be waited for.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// It did not run, did not end in time, or ended with another status than 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait().await?;
        anyhow::ensure!(status.success(), "{} ended with {status} after SIGTERM; its log:\n{}", self.name, self.tail());
        Ok(())
    }

    /// Leaves it running when this is dropped.
    pub fn detach(mut self) {
        self.child = None;
    }

    /// Runs a subcommand with `--config`; its standard output.
    ///
    /// # Errors
    /// It ended with another status than 0; the error holds what it printed.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(binary(self.name)?);
        let output = command.args(words).arg("--config").arg(&self.config).stdin(Stdio::null()).output()?;
        let printed = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "{command:?} ended with {}:\n{}", output.status, printed());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The last lines of the log.
    pub fn tail(&self) -> String {
        let printed = self.printed();
        let lines: Vec<&str> = printed.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid.filter(|_| self.child.is_some()).context("the program does not run")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id is not 0")?;
        kill_process(pid, signal).with_context(|| format!("{} cannot be signalled; its log:\n{}", self.name, self.tail()))
    }

    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let status = poll::until(&what, Duration::from_secs(60), || {
            let answer = self.exited();
            async move { answer }
        });
        let status = status.await.with_context(|| format!("log of the program:\n{}", self.tail()))?;
        (self.child, self.pid) = (None, None);
        Ok(status)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::env::var_os("IDR_TESTS_LOGS").is_some() {
            eprintln!("---- {} of {}\n{}", self.name, self.config.display(), self.printed());
        }
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = self.pid.and_then(|pid| Pid::from_raw(pid as i32)) {
                kill_process(pid, Signal::KILL).ok();
            }
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A binary of the workspace: beside the running test, demo or soak.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: cargo build -p idr-site -p idr-central -p idr-tests --bins"))
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
