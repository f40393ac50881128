//! strace watches the site: the object's file and its directory are synced before the C-STORE-RSP is written.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::shared::has_tool;
use idr_tests::story::{outgoing, send_all};

use crate::story;

#[test]
fn file_and_folder_are_synced_before_the_success_leaves() {
    if !has_tool("strace") {
        return;
    }
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let trace = world.folder().join("trace");
        let calls =
            "trace=openat,rename,renameat,renameat2,linkat,fdatasync,fsync,sync_file_range,write,writev,pwrite64,sendto,sendmsg,accept4";
        world.site_mut().program.wrapper =
            ["strace", "-f", "-yy", "-ttt", "-s", "0", "-e", calls, "-o", &trace.to_string_lossy()].map(str::to_owned).to_vec();
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(95), 5, 1).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        world.site_mut().program.stop().await?;
        let trace = std::fs::read_to_string(&trace)?;
        let answers = judge(&trace)?;
        anyhow::ensure!(
            answers == study.instances.len(),
            "{answers} answers with syncs before them; the trace has\n{}",
            interesting(&trace)
        );
        Ok(())
    });
}

/// The lines that say something.
fn interesting(trace: &str) -> String {
    trace
        .lines()
        .filter(|line| line.contains("/state/objects/") || line.contains("TCP") || line.contains("resumed"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// For each write to the DICOM socket after an object file was written: was that file synced after its last write, and its
/// folder after the file was made? Gives the answers for which both hold; fails at one for which they do not.
fn judge(trace: &str) -> anyhow::Result<usize> {
    /// What is known of the object file in flight.
    #[derive(Default)]
    struct File {
        file_synced: bool,
        folder_synced: bool,
    }
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    let mut answers = 0;
    for call in calls(trace) {
        let is_object = call.path.contains("/state/objects/");
        match call.name.as_str() {
            "write" | "pwrite64" | "writev" if is_object && call.begins => files.entry(call.path).or_default().file_synced = false,
            "fdatasync" | "fsync" if is_object && call.ends => {
                for (path, file) in &mut files {
                    file.file_synced |= *path == call.path;
                    file.folder_synced |= Path::new(path).parent() == Some(Path::new(&call.path));
                }
            }
            "sendto" | "sendmsg" | "write" | "writev" if call.path.contains("TCP") && call.begins && !files.is_empty() => {
                let durable = files.values().all(|file| file.file_synced && file.folder_synced);
                anyhow::ensure!(durable, "an answer left before file and folder were synced: {:?} {}", files.keys(), call.name);
                answers += 1;
                files.clear();
            }
            _ => {}
        }
    }
    Ok(answers)
}

/// A system call, or one half of it: strace shows a call that another thread interrupts as `<unfinished ...>` and later
/// `<... name resumed>`.
struct Call {
    name: String,
    path: String,
    begins: bool,
    ends: bool,
}

/// `1234  1764000000.000001 fdatasync(12</folder/file>) = 0`
fn calls(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(_time)) = (words.next(), words.next()) else { continue };
        let rest = words.collect::<Vec<_>>().join(" ");
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let name = resumed.split(' ').next().unwrap_or_default().to_owned();
            calls.extend(open.remove(thread).map(|path| Call { name, path, begins: false, ends: true }));
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let path = arguments.split_once('<').map_or("", |(_, after)| after.split(['>', '(']).next().unwrap_or_default()).to_owned();
        let ends = !rest.ends_with("<unfinished ...>");
        if !ends {
            open.insert(thread, path.clone());
        }
        calls.push(Call { name: name.to_owned(), path, begins: true, ends });
    }
    calls
}

/// What the judge must see, in the form of strace with `-yy`.
#[test]
fn an_answer_before_either_sync_is_found() {
    let line = |n: usize, call: &str| format!("100 1.{n} {call}");
    let write = "pwrite64(18</t/state/objects/d/00/0.dcm>, \"\"..., 4500, 0) = 4500";
    let folder = "fsync(19</t/state/objects/d/00>) = 0";
    let file = "fdatasync(18</t/state/objects/d/00/0.dcm>) = 0";
    let begun = "fdatasync(18</t/state/objects/d/00/0.dcm> <unfinished ...>";
    let answer = "sendto(17<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\"..., 100, MSG_NOSIGNAL, NULL, 0) = 100";
    let judged = |calls: &[&str]| judge(&calls.iter().enumerate().map(|(n, call)| line(n, call)).collect::<Vec<_>>().join("\n"));
    assert_eq!(judged(&[write, folder, file, answer]).expect("in order"), 1);
    for wrong in
        [&[write, file, answer][..], &[write, folder, answer], &[write, folder, file, write, answer], &[write, folder, begun, answer]]
    {
        assert!(judged(wrong).is_err(), "{wrong:?}");
    }
}
