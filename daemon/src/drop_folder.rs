//! Drop folders: files that people and programs put into a folder, taken in as the objects of an inbound row.
//!
//! One task per folder ([`run`]): it looks ([`folder`]) when inotify says that something came, when a growing file should be
//! quiet, and every `rescan_seconds`; claims what is complete by renaming it; reads each claim through
//! [`crate::reception`] as a Part 10 stream, and removes it when its object is in the spool.
//!
//! # Failure
//! A claim is removed only after the commit, so that a stop or a crash at any moment leaves the object in the spool, its
//! file among the claims, or both; claims are taken again at the next start, and the same bytes handed over twice are one
//! object (profile 11 §2). Events that are lost, a folder that is not mounted, an index or disk that fails: the next look
//! goes on. While the spool refuses, nothing is claimed. What cannot be kept, judged or read by a fault of ours is tried again after
//! `rescan_seconds`, and after twice as long each time up to `retry_max_seconds`; at a start at once.
//!
//! # Media
//! A ZIP archive is unpacked while it is read (`archive`). A DICOMDIR is no object: it is removed, the files beside it are taken.
//!
//! # What is not taken
//! There is nobody to answer, so every REJECT is quarantine (profile 01 §1.2): what stage I rejects is quarantined in the
//! spool. What stage S rejects is no object that could be read again: such a file, and one that is too large, goes to
//! `refused/` with a note and is never removed by us.
//!
//! # Bounds
//! `[drop_folders]`; [`folder::CLAIMS_MAX`] claims; a reader holds one buffer and what a reception holds.
//!
//! # Standard
//! PS3.10 §7.1; profile 01 §1.2, D101–D103.

mod archive;
pub mod folder;
mod folders;
mod later;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use idr_profile::rules::Finding;
use jiff::Timestamp;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Ingress;
use crate::config::Inbound;
use crate::reception::{Carried, Fate, Origin, Reception};
use archive::{Refused, Unpacked, Why};
pub use folders::Folders;
use later::Later;

use folder::{CLAIMS_MAX, Claim, FolderError, Looked, Passed, Places, Watch};

/// Between an event and the look that it causes: events of one copy come in hundreds.
const SETTLE: Duration = Duration::from_millis(500);
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Media Storage Directory Storage (PS3.3 §F.2): a DICOMDIR.
const DICOMDIR: &str = "1.2.840.10008.1.3.10";

/// Takes in what comes into the drop folder of a row, until `stop`.
pub async fn run(ingress: Arc<Ingress>, row: Arc<Inbound>, root: PathBuf, stop: CancellationToken) {
    let bounds = ingress.config().drop_folders.clone();
    let rescan = Duration::from_secs(bounds.rescan_seconds);
    let quiet = Duration::from_secs(bounds.quiet_seconds);
    let wake = Arc::new(Notify::new());
    let mut folder = Some(Looker { root, state: ingress.config().storage.path.clone(), watch: Watch::new(bounds.clone()), events: None });
    let mut told = Told::default();
    let mut open: Option<Open> = None;
    let mut claims: VecDeque<Claim> = VecDeque::new();
    let mut later = Later::new(rescan, Duration::from_secs(bounds.retry_max_seconds));
    let mut next_look = Instant::now();
    let mut readers: JoinSet<(Claim, Taken)> = JoinSet::new();
    // Claims of the last run come first.
    let mut fresh = true;
    loop {
        while readers.len() < bounds.files_at_once
            && let Some(open) = &open
            && let Some(claim) = claims.pop_front()
        {
            readers.spawn(take(ingress.clone(), open.clone(), claim, bounds.file_bytes_max, stop.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = readers.join_next() => match done {
                Ok((claim, Taken::Done)) => later.done(&claim),
                Ok((claim, Taken::Later)) => later.again(claim, Instant::now()),
                Ok((claim, Taken::Failed)) => later.failed(&row.name, claim, Instant::now()),
                // Its claim is found again at the next start.
                Err(error) => tracing::error!(inbound = row.name, %error, "taking in a file ended by a fault"),
            },
            () = wake.notified(), if claims.is_empty() => next_look = next_look.min(Instant::now() + SETTLE),
            () = tokio::time::sleep_until(next_look), if claims.is_empty() => {
                let now = Instant::now();
                next_look = now + rescan;
                let origin = match ingress.origin(&row) {
                    Ok(origin) => Arc::new(origin),
                    Err(not_now) => {
                        told.waiting(&row, &not_now.to_string());
                        continue;
                    }
                };
                let Some(mut looker) = folder.take() else { return };
                let (wake, room) = (wake.clone(), CLAIMS_MAX.saturating_sub(later.len() + readers.len()));
                let looked = tokio::task::spawn_blocking(move || {
                    let looked = looker.look(&wake, now, room, fresh);
                    (looker, looked)
                });
                let Ok((looker, looked)) = looked.await else {
                    tracing::error!(inbound = row.name, "looking into the drop folder ended by a fault; it is looked into again at the next start");
                    return;
                };
                folder = Some(looker);
                match looked {
                    Ok((places, left, looked)) => {
                        told.looked(&row, looked.passed);
                        fresh = false;
                        claims.extend(left);
                        claims.extend(looked.claims);
                        claims.extend(later.due(now));
                        if looked.more && !claims.is_empty() {
                            next_look = now;
                        } else if looked.growing {
                            next_look = next_look.min(now + quiet);
                        }
                        open = Some(Open { origin, places: Arc::new(places) });
                    }
                    Err(error) => told.unusable(&row, &error),
                }
            }
        }
    }
    // A commit that has begun is waited for; what is only read stays claimed.
    while readers.join_next().await.is_some() {}
}

/// What the readers of a look share.
#[derive(Clone)]
struct Open {
    origin: Arc<Origin>,
    places: Arc<Places>,
}

/// What stays from look to look.
struct Looker {
    root: PathBuf,
    state: PathBuf,
    watch: Watch,
    events: Option<RecommendedWatcher>,
}

impl Looker {
    /// Opens the folder, watches it, and looks through it; gives the claims of an earlier run too if `fresh`.
    fn look(&mut self, wake: &Arc<Notify>, now: Instant, room: usize, fresh: bool) -> Result<(Places, Vec<Claim>, Looked), FolderError> {
        let places = Places::open(&self.root, &self.state)?;
        if self.events.is_none() {
            // Watched before it is looked through: what comes in between is told.
            self.events = events(&self.root, wake.clone())
                .inspect_err(|error| {
                    tracing::warn!(cause = cause(error), "no events of a drop folder: it is looked into every rescan_seconds alone")
                })
                .ok();
        }
        let left = if fresh { places.left()? } else { Vec::new() };
        let looked = self.watch.look(&places, now, room.saturating_sub(left.len()))?;
        Ok((places, left, looked))
    }
}

/// Why there are no events. What the error says itself names folders, and with them perhaps a patient.
fn cause(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) => error.kind().to_string(),
        notify::ErrorKind::MaxFilesWatch => "the limit of inotify watches is reached (fs.inotify.max_user_watches)".to_owned(),
        _ => "inotify does not work here".to_owned(),
    }
}

/// inotify over the folder and its sub-folders. A file written right after its new sub-folder was made is missed, and all
/// events are when the queue overflows: the looks find both.
fn events(root: &Path, wake: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let root = root.canonicalize()?;
    let ours = root.clone();
    let heard = move |event: notify::Result<notify::Event>| {
        let news = event.is_ok_and(|event| {
            let complete = matches!(
                event.kind,
                EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Access(AccessKind::Close(AccessMode::Write))
            );
            event.need_rescan() || complete && !event.paths.iter().all(|path| folder::is_ours(&ours, path))
        });
        if news {
            wake.notify_one();
        }
    };
    let mut watcher = RecommendedWatcher::new(heard, notify::Config::default().with_follow_symlinks(false))?;
    watcher.watch(&root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// What became of a claim.
enum Taken {
    /// It is in the spool or in `refused/`.
    Done,
    /// It stays claimed and is tried again: it was still being written, or the site stops.
    Later,
    /// It stays claimed and is tried again, later each time: it could not be kept, judged or read here.
    Failed,
}

/// Reads one claim through the reception.
async fn take(ingress: Arc<Ingress>, open: Open, claim: Claim, bytes_max: u64, stop: CancellationToken) -> (Claim, Taken) {
    let taken = match read(&ingress, &open.origin, &open.places, &claim, bytes_max, &stop).await {
        Ok(End::Kept(mark)) => disk(&open.places, &claim, move |places, claim| places.remove(claim, mark)).await,
        Ok(End::Refused(reason)) => {
            let text = note(&claim, &open.origin, &reason, (ingress.clock)());
            let done = disk(&open.places, &claim, move |places, claim| places.refuse(claim, &text)).await;
            if done.is_ok() {
                tracing::warn!(
                    inbound = open.origin.row.name,
                    file = claim.id,
                    "a file of the drop folder was not taken; it lies in refused/ with a note"
                );
            }
            done
        }
        Ok(End::Later) => return (claim, Taken::Later),
        Ok(End::Failed) => return (claim, Taken::Failed),
        Err(error) => Err(error),
    };
    match taken {
        Ok(()) => (claim, Taken::Done),
        Err(error) => {
            tracing::warn!(inbound = open.origin.row.name, file = claim.id, %error, "a file of the drop folder cannot be read or moved; it is tried again");
            (claim, Taken::Failed)
        }
    }
}

enum End {
    /// As it was with this mark.
    Kept(folder::Mark),
    Refused(Reason),
    Later,
    Failed,
}

/// Why a file lies in `refused/`.
enum Reason {
    Rules(Vec<Finding>),
    TooLarge { bytes: u64, bytes_max: u64 },
    NoFile,
    Archive(Unpacked),
    NoArchive(&'static str),
}

async fn read(
    ingress: &Arc<Ingress>,
    origin: &Arc<Origin>,
    places: &Arc<Places>,
    claim: &Claim,
    bytes_max: u64,
    stop: &CancellationToken,
) -> io::Result<End> {
    let opened = disk(places, claim, |places, claim| {
        let file = places.read(claim)?;
        file.map(|file| Ok((folder::mark(&file)?, file))).transpose()
    });
    let Some((mark, file)) = opened.await? else { return Ok(End::Refused(Reason::NoFile)) };
    if mark.0 > bytes_max {
        return Ok(End::Refused(Reason::TooLarge { bytes: mark.0, bytes_max }));
    }
    let mut file = tokio::fs::File::from_std(file);
    let mut reception = Reception::begin_part10(ingress.clone(), origin, Carried::DropFolder);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0_u64;
    let mut directory = false;
    let grown = loop {
        let read = if stop.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { file.read(&mut buffer).await };
        match read {
            Ok(0) => break bytes != mark.0,
            Ok(read) if bytes == 0 && archive::is_zip(&buffer[..read]) => {
                reception.give_back().await;
                return unpack(ingress, origin, places, claim, file.into_std().await, mark, bytes_max, stop).await;
            }
            // A file that grows under the reader is given back before it is larger than allowed.
            Ok(read) if bytes + read as u64 > mark.0 => break true,
            Ok(read) => {
                bytes += read as u64;
                reception.feed(&buffer[..read]).await;
                directory = reception.sop_class() == DICOMDIR;
                if directory {
                    break false;
                }
            }
            Err(error) => {
                reception.give_back().await;
                return if stop.is_cancelled() { Ok(End::Later) } else { Err(error) };
            }
        }
    };
    let file = file.into_std().await;
    if grown || disk(places, claim, move |_, _| folder::mark(&file)).await? != mark {
        tracing::info!(inbound = origin.row.name, file = claim.id, "a file changed while it was read; it is read again");
        reception.give_back().await;
        return Ok(End::Later);
    }
    if directory {
        reception.give_back().await;
        return Ok(End::Kept(mark));
    }
    Ok(match Box::new(reception).conclude().await.fate {
        Fate::Kept { .. } => End::Kept(mark),
        Fate::Refused(findings) => End::Refused(Reason::Rules(findings)),
        Fate::Failed => End::Failed,
    })
}

/// Reads an archive, entry by entry.
#[expect(clippy::too_many_arguments, reason = "what a reader has, and the file")]
async fn unpack(
    ingress: &Arc<Ingress>,
    origin: &Arc<Origin>,
    places: &Arc<Places>,
    claim: &Claim,
    mut file: std::fs::File,
    mark: folder::Mark,
    bytes_max: u64,
    stop: &CancellationToken,
) -> io::Result<End> {
    let (ingress, shared, stopped, handle) = (ingress.clone(), origin.clone(), stop.clone(), Handle::current());
    let (unpacked, now) = disk(places, claim, move |_, _| {
        let own = file.try_clone()?;
        file.rewind()?;
        let receive =
            || Entry { reception: Reception::begin_part10(ingress.clone(), &shared, Carried::DropFolder), handle: handle.clone() };
        Ok((archive::take(BufReader::new(file), receive, bytes_max, || stopped.is_cancelled()), folder::mark(&own)?))
    })
    .await?;
    if now != mark {
        tracing::info!(inbound = origin.row.name, file = claim.id, "an archive changed while it was read; it is read again");
        return Ok(End::Later);
    }
    Ok(match unpacked {
        Err(why) => End::Refused(Reason::NoArchive(why)),
        Ok(unpacked) => {
            let Unpacked { kept, passed, refused, unfinished, .. } = unpacked;
            tracing::info!(inbound = origin.row.name, file = claim.id, kept, passed, refused, unfinished, "an archive was read");
            match unfinished {
                true if stop.is_cancelled() => End::Later,
                true => End::Failed,
                false if refused == 0 && kept > 0 => End::Kept(mark),
                false => End::Refused(Reason::Archive(unpacked)),
            }
        }
    })
}

/// An entry of an archive on its way in, on a thread that may block.
struct Entry {
    reception: Reception,
    handle: Handle,
}

impl archive::Object for Entry {
    fn feed(&mut self, bytes: &[u8]) -> bool {
        self.handle.block_on(self.reception.feed(bytes));
        self.reception.sop_class() == DICOMDIR
    }

    fn give_back(self) {
        self.handle.block_on(self.reception.give_back());
    }

    fn conclude(self) -> Result<bool, Vec<Finding>> {
        match self.handle.block_on(Box::new(self.reception).conclude()).fate {
            Fate::Kept { .. } => Ok(true),
            Fate::Refused(findings) => Err(findings),
            Fate::Failed => Ok(false),
        }
    }
}

/// Does something that blocks.
async fn disk<T: Send + 'static>(
    places: &Arc<Places>,
    claim: &Claim,
    work: impl FnOnce(&Places, &Claim) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (places, claim) = (places.clone(), claim.clone());
    tokio::task::spawn_blocking(move || work(&places, &claim)).await.map_err(io::Error::other)?
}

/// What people read beside a refused file.
fn note(claim: &Claim, origin: &Origin, reason: &Reason, now: Timestamp) -> String {
    let mut text = format!(
        "idr-site did not take this file. It lies beside this note as {}, unchanged, and nowhere else.\n\nFile: {}\nInbound row: {}\nTime: {}\n",
        claim.id,
        claim.found,
        origin.row.name,
        now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    );
    match reason {
        Reason::Rules(findings) => {
            text.push('\n');
            note_rules(&mut text, findings);
        }
        Reason::Archive(Unpacked { kept, passed, refused, reasons, .. }) => {
            _ = write!(
                text,
                "\nAn archive: {kept} objects of it are held, {refused} were refused, {passed} files are no DICOM objects.\nWhat is held need not come again.\n"
            );
            for Refused { name, why } in reasons {
                _ = writeln!(text, "\nIn the archive: {}", folder::readable(name));
                match why {
                    Why::Rules(findings) => note_rules(&mut text, findings),
                    Why::Unpacking(why) => _ = write!(text, "Reason: {why}\nWhat to do: Put the file itself into the folder.\n"),
                }
            }
            if *refused > reasons.len() as u64 {
                _ = writeln!(text, "\nThe others are not listed.");
            }
        }
        Reason::NoArchive(why) => {
            _ = write!(text, "\nReason: {why}\nWhat to do: Make the archive again, or put its files into the folder.\n");
        }
        Reason::TooLarge { bytes, bytes_max } => {
            _ = write!(
                text,
                "\nReason: the file has {bytes} bytes; drop_folders.file_bytes_max allows {bytes_max}\nWhat to do: Raise the limit, or export the object in parts.\n"
            );
        }
        Reason::NoFile => {
            text.push_str("\nReason: a link or a special file is not followed\nWhat to do: Copy the file itself into the folder.\n")
        }
    }
    text.push_str("\nWhen the cause is gone, move the file back into the drop folder.\n");
    text
}

fn note_rules(text: &mut String, findings: &[Finding]) {
    for Finding { rule_set, comment, tags, remedy, .. } in findings.iter().filter(|finding| finding.level.rejects()) {
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let tags = if tags.is_empty() { "none named".to_owned() } else { tags.join(" ") };
        _ = write!(text, "Rule: {comment} (rule set {rule_set})\nElements: {tags}\nWhat to do: {remedy}\n");
    }
}

/// What was told of a folder: each trouble is told once until it changes.
#[derive(Default)]
struct Told {
    trouble: Option<String>,
    passed: Passed,
}

impl Told {
    fn waiting(&mut self, row: &Inbound, why: &str) {
        if self.trouble.as_deref() != Some(why) {
            tracing::warn!(inbound = row.name, "no file is taken from the drop folder now, they wait there: {why}");
            self.trouble = Some(why.to_owned());
        }
    }

    fn unusable(&mut self, row: &Inbound, error: &FolderError) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let trouble = format!("{error}{cause}");
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!(inbound = row.name, cause, "drop folder: {error}");
            self.trouble = Some(trouble);
        }
    }

    fn looked(&mut self, row: &Inbound, passed: Passed) {
        if self.trouble.take().is_some() {
            tracing::info!(inbound = row.name, "files are taken from the drop folder again");
        }
        if passed != self.passed && passed != Passed::default() {
            let Passed { special, elsewhere, deep, forbidden, cut } = passed;
            tracing::warn!(
                inbound = row.name,
                special,
                elsewhere,
                deep,
                forbidden,
                cut,
                "entries of the drop folder are passed over: links and special files, folders on another file system or too deep, what may \
                 not be read or renamed, or more entries than entries_max; put plain files there, and give this program the right to rename"
            );
        }
        self.passed = passed;
    }
}
