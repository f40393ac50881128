//! strace watches the site: the object's file, its name and the folders made for it are synced before its C-STORE-RSP is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context as _, ensure};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World};
use idr_tests::shared::has_tool;
use idr_tests::story::{outgoing, send_all};

use crate::story;

#[test]
fn file_name_and_folders_are_synced_before_the_success_leaves() {
    if !has_tool("strace") {
        return;
    }
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let trace = world.folder().join("trace");
        // What a machine does not have is left out of the trace: `?`.
        let calls = "trace=openat,?mkdir,mkdirat,fdatasync,fsync,write,writev,pwrite64,pwritev,?pwritev2,sendto,sendmsg";
        world.site_mut().program.wrapper =
            ["strace", "-f", "-yy", "-ttt", "-s", "512", "-e", calls, "-o", &trace.to_string_lossy()].map(str::to_owned).to_vec();
        world.site_mut().program.start().await?;
        // 8 KiB, 128 KiB and 512 KiB: written in one go; with the file made early; with bytes written before the last have come.
        let studies: Vec<Study> = (1..)
            .zip([64, 256, 512])
            .map(|(seed, matrix)| Recipe { matrix, ..Recipe::small(Kind::Ct, Person::numbered(95), 5, seed) }.make())
            .collect();
        send_all(&world.site().modality(), &outgoing(&studies), 3).await?;
        world.site_mut().program.stop().await?;
        let trace = std::fs::read_to_string(&trace)?;
        let sent: BTreeSet<&str> =
            studies.iter().flat_map(|study| &study.instances).map(|instance| instance.sop_instance.as_str()).collect();
        let judged = judge(&trace, &sent).with_context(|| format!("the trace has\n{}", interesting(&trace)))?;
        ensure!(judged.answered == sent, "only {:?} were answered; the trace has\n{}", judged.answered, interesting(&trace));
        ensure!(judged.folders > 0, "no folder was made; the trace has\n{}", interesting(&trace));
        Ok(())
    });
}

/// The lines that say something, without their data.
fn interesting(trace: &str) -> String {
    let lines = trace.lines().filter(|line| line.contains("/state/objects") || line.contains("TCP") || line.contains("resumed"));
    lines.map(|line| line.chars().take(300).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// What is proved.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged<'a> {
    /// Instances whose answer left after everything was synced.
    answered: BTreeSet<&'a str>,
    /// Folders made in the trace, above one of their files.
    folders: usize,
}

/// For each answer, a write to a socket that names an instance: was the file that names it synced after its last write, its folder
/// after the file was made, and the folder around each folder above it after that was made? Only a sync that began afterwards and
/// succeeded before the answer began counts. Fails at an answer for which this does not hold.
fn judge<'a>(trace: &str, sent: &BTreeSet<&'a str>) -> anyhow::Result<Judged<'a>> {
    let calls = calls(trace);
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.writes() && call.path.contains("/state/objects/")) {
        if let Some(uid) = call.named(sent) {
            files.entry(uid).or_insert(&call.path);
        }
    }
    let mut judged = Judged::default();
    let mut folders = BTreeSet::new();
    for answer in calls.iter().filter(|call| call.writes() && call.path.contains("TCP")) {
        let Some(uid) = answer.named(sent) else { continue };
        let file = files.get(uid).with_context(|| format!("{uid} was answered, and no file has it"))?;
        let before = || calls.iter().filter(|call| call.begin < answer.begin);
        let synced = |path: &Path, after: usize| {
            let is_sync = |call: &Call| call.syncs() && Path::new(&call.path) == path && call.succeeded();
            before().any(|call| is_sync(call) && call.begin > after && call.end.is_some_and(|end| end < answer.begin))
        };
        // What has not come back has no end: no sync can have begun after it.
        let end = |call: &Call| call.end.unwrap_or(usize::MAX);
        let written = before().filter(|call| call.writes() && call.path == *file).map(end).max().unwrap_or(usize::MAX);
        ensure!(synced(Path::new(file), written), "{uid} was answered before {file} was synced");
        let made = before().find(|call| call.creates() && call.path == *file).map_or(usize::MAX, end);
        let folder = Path::new(file).parent().context("a file is in a folder")?;
        ensure!(synced(folder, made), "{uid} was answered before the name of {file} was synced");
        for folder in folder.ancestors() {
            let Some(made) = before().find(|call| call.makes_folder() && Path::new(&call.path) == folder) else { continue };
            let around = folder.parent().context("a folder that is made is in a folder")?;
            ensure!(synced(around, end(made)), "{uid} was answered before the name of {} was synced", folder.display());
            folders.insert(folder);
        }
        judged.answered.insert(uid);
    }
    judged.folders = folders.len();
    Ok(judged)
}

/// A system call. strace shows one that another thread interrupts as `<unfinished ...>` and later `<... name resumed>`.
struct Call {
    name: String,
    /// File, folder or socket.
    path: String,
    arguments: String,
    /// Line in which it begins,
    begin: usize,
    /// and ends.
    end: Option<usize>,
    result: String,
}

impl Call {
    fn writes(&self) -> bool {
        matches!(self.name.as_str(), "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendto" | "sendmsg")
    }

    fn syncs(&self) -> bool {
        matches!(self.name.as_str(), "fdatasync" | "fsync")
    }

    fn creates(&self) -> bool {
        self.name == "openat" && self.arguments.contains("O_CREAT") && !self.result.starts_with('-')
    }

    fn makes_folder(&self) -> bool {
        self.name.starts_with("mkdir") && !self.result.starts_with('-')
    }

    fn succeeded(&self) -> bool {
        self.result == "0"
    }

    /// The instance whose UID stands in what it writes, whole.
    fn named<'a>(&self, sent: &BTreeSet<&'a str>) -> Option<&'a str> {
        let whole = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit() || next == '.');
        sent.iter().find(|uid| self.arguments.match_indices(**uid).any(|(at, uid)| whole(&self.arguments[at + uid.len()..]))).copied()
    }
}

/// `1234  1764000000.000001 fdatasync(12</folder/file>) = 0`
fn calls(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, usize> = HashMap::new();
    let mut calls: Vec<Call> = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(_time)) = (words.next(), words.next()) else { continue };
        let rest = words.collect::<Vec<_>>().join(" ");
        let result = || rest.rsplit_once(" = ").map(|(_, result)| result.to_owned()).unwrap_or_default();
        if rest.starts_with("<... ") {
            if let Some(call) = open.remove(thread).and_then(|at| calls.get_mut(at)) {
                (call.end, call.result) = (Some(number), result());
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        // Of what has no descriptor yet the path is an argument.
        let path = match name {
            "openat" | "mkdir" | "mkdirat" => arguments.split('"').nth(1).unwrap_or_default(),
            _ => arguments.split_once('<').map_or("", |(_, after)| after.split(['>', '(']).next().unwrap_or_default()),
        };
        let (path, ends) = (path.to_owned(), !rest.ends_with("<unfinished ...>"));
        if !ends {
            open.insert(thread, calls.len());
        }
        let (end, result) = if ends { (Some(number), result()) } else { (None, String::new()) };
        calls.push(Call { name: name.to_owned(), path, arguments: arguments.to_owned(), begin: number, end, result });
    }
    calls
}

/// What the judge must see, in the form of strace with `-yy`.
#[test]
fn an_answer_before_any_of_the_syncs_is_found() {
    let uid = "1.2.246.1";
    let judged = |calls: &[&str]| {
        let lines: Vec<String> = calls.iter().enumerate().map(|(n, call)| format!("{} 1.{n} {call}", call.len())).collect();
        judge(&lines.join("\n"), &BTreeSet::from([uid])).map(|judged| (judged.answered.len(), judged.folders)).ok()
    };
    let mkdir = r#"mkdir("/t/state/objects/d/00", 0700) = 0"#;
    let around = "fsync(19</t/state/objects/d>) = 0";
    let open =
        r#"openat(AT_FDCWD</>, "/t/state/objects/d/00/0.dcm", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 18</t/state/objects/d/00/0.dcm>"#;
    let write = r#"pwrite64(18</t/state/objects/d/00/0.dcm>, "UI\t\0001.2.246.1\0"..., 4500, 0) = 4500"#;
    let folder = "fsync(19</t/state/objects/d/00>) = 0";
    let file = "fdatasync(18</t/state/objects/d/00/0.dcm>) = 0";
    let answer = r#"sendto(17<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\0001.2.246.1\0"..., 100, MSG_NOSIGNAL, NULL, 0) = 100"#;
    let other = r#"sendto(17<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\0001.2.246.12"..., 100, MSG_NOSIGNAL, NULL, 0) = 100"#;
    assert_eq!(judged(&[mkdir, around, open, write, folder, file, answer]), Some((1, 1)));
    assert_eq!(judged(&[open, folder, write, file, answer]), Some((1, 0)), "a name may be synced early, and a folder may be there");
    assert_eq!(judged(&[open, other, write, folder, file, answer]), Some((1, 0)), "the answer to another instance is no matter");

    let failed_file = "fdatasync(18</t/state/objects/d/00/0.dcm>) = -1 EIO (Input/output error)";
    let failed_folder = "fsync(19</t/state/objects/d/00>) = -1 EIO (Input/output error)";
    let begun = "fdatasync(18</t/state/objects/d/00/0.dcm> <unfinished ...>";
    for wrong in [
        &[open, write, file, answer][..],
        &[open, write, folder, answer],
        &[folder, open, write, file, answer],
        &[open, write, folder, file, write, answer],
        &[open, write, folder, begun, answer],
        &[open, write, folder, failed_file, answer],
        &[open, write, failed_folder, file, answer],
        &[mkdir, open, write, folder, file, answer],
        &[around, mkdir, open, write, folder, file, answer],
        &[answer],
    ] {
        assert_eq!(judged(wrong), None, "{wrong:?}");
    }
    // A sync that began before the last write was done proves nothing of it, though it ends later.
    let resumed = [
        format!("1 1.0 {open}"),
        format!("2 1.1 {begun}"),
        format!("1 1.2 {write}"),
        "2 1.3 <... fdatasync resumed>) = 0".to_owned(),
        format!("1 1.4 {folder}"),
        format!("1 1.5 {answer}"),
    ];
    assert!(judge(&resumed.join("\n"), &BTreeSet::from([uid])).is_err());
}
