//! The operators' socket: one JSON object a line each way, on a Unix socket of mode 0600; the peer must be the same user or root.
//!
//! # Bounds
//! A request is at most [`REQUEST_BYTES_MAX`] and must come within 10 s; it is answered within 30 s or not at all.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Largest request line, bytes.
pub const REQUEST_BYTES_MAX: u64 = 65_536;
/// Longest wait for a request line.
const REQUEST: Duration = Duration::from_secs(10);
/// Longest work on a request, with the wait for it.
const ANSWER: Duration = Duration::from_secs(30);

/// The listening socket; its file goes with it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Socket {
    /// Binds the socket, replacing one that a crash left: the caller has locked the state folder, so nobody else listens there.
    ///
    /// # Errors
    /// The path.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).with_context(|| format!("control socket: {} cannot be bound", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until stopped. `perform` gets the request and the user who gives it.
    pub async fn serve<R: DeserializeOwned, F: Future<Output = anyhow::Result<Value>>>(
        self,
        perform: impl Fn(R, u32) -> F,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // One after the other: an operator's command is short, and stopping waits for it.
            match tokio::time::timeout(ANSWER, answer(stream, &perform)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::info!(cause = %error, "operator request not answered"),
                Err(_) => tracing::info!(seconds = ANSWER.as_secs(), "operator request not answered in time"),
            }
        }
    }
}

async fn answer<R: DeserializeOwned, F: Future<Output = anyhow::Result<Value>>>(
    stream: UnixStream,
    perform: &impl Fn(R, u32) -> F,
) -> anyhow::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    anyhow::ensure!(peer == own || peer == 0, "user {peer} is not the service user");
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut lines = tokio::io::BufReader::new(read.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST, lines.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<R>(&line) {
        Err(error) => json!({"error": format!("request not understood: {error}")}),
        Ok(request) => perform(request, peer).await.unwrap_or_else(|error| json!({"error": format!("{error:#}")})),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await?;
    Ok(())
}

/// Asks the running program; `None` if nobody listens.
///
/// # Errors
/// What the program answers instead of a result, or that it gives no answer.
pub fn ask(path: &Path, request: &impl Serialize) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(path) else { return Ok(None) };
    stream.set_read_timeout(Some(2 * ANSWER))?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).context("the running program gave no answer; see its journal")?;
    if let Some(error) = answer["error"].as_str() {
        anyhow::bail!("{error}");
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize)]
    #[serde(tag = "command", rename_all = "kebab-case")]
    enum Request {
        Status,
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_is_answered_with_one_line_and_an_unknown_one_with_its_error() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("control.sock");
        assert!(ask(&path, &Request::Status).expect("nobody listens").is_none());
        let stop = CancellationToken::new();
        let perform = |Request::Status, uid: u32| async move { Ok(json!({"uid": uid})) };
        let serving = tokio::spawn(Socket::bind(&path).expect("bound").serve(perform, stop.clone()));
        let (known, unknown) = tokio::task::spawn_blocking({
            let path = path.clone();
            move || (ask(&path, &Request::Status), ask(&path, &json!({"command": "shut-down"})))
        })
        .await
        .expect("asked");
        assert_eq!(known.expect("answered").expect("listens")["uid"], rustix::process::geteuid().as_raw());
        assert!(unknown.expect_err("refused").to_string().contains("not understood"));
        stop.cancel();
        serving.await.expect("ended");
        assert!(!path.exists(), "the socket goes with its program");
    }
}
