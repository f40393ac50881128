//! `--watch`: a command that reads shows again and again, until somebody ends it.
//!
//! SIGINT and SIGTERM end it between two pictures with exit status 0, and so does a reader that goes away; an appliance that does not
//! answer ends it with its error. With `--json` each picture is one line.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

/// How a command that reads shows what it reads.
#[derive(Debug, Clone, Copy, Args)]
pub struct Shown {
    /// Machine-readable; with `--watch` one document a line.
    #[arg(long)]
    pub json: bool,
    /// Again every so many seconds, 2 if none are given, until it is ended.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
}

/// Shows what `look` gives, once or again and again; `lines` says it to people.
///
/// # Errors
/// Those of `look`; an output that cannot be written.
pub fn show(
    shown: Shown,
    mut look: impl FnMut() -> anyhow::Result<Value>,
    lines: impl Fn(&Value) -> Vec<String>,
) -> anyhow::Result<ExitCode> {
    let clears = shown.watch.is_some() && !shown.json && io::stdout().is_terminal();
    let mut picture = move || -> anyhow::Result<bool> {
        let answer = look()?;
        let text = if shown.json { format!("{answer}\n") } else { lines(&answer).iter().map(|line| format!("{line}\n")).collect() };
        let head = match (clears, shown.watch.is_some() && !shown.json) {
            (true, _) => format!("\x1b[H\x1b[2J{:.0}\n", idr_host::now()),
            (false, true) => format!("{:.0}\n", idr_host::now()),
            (false, false) => String::new(),
        };
        match write(&(head + &text)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true).map_err(Into::into),
        }
    };
    let Some(seconds) = shown.watch else {
        picture()?;
        return Ok(ExitCode::SUCCESS);
    };
    idr_host::process::run(async |stop| {
        while !stop.is_cancelled() && picture()? {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            }
        }
        Ok(())
    })
}

/// The whole of a picture, or an error.
fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
