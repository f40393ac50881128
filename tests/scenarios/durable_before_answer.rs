//! strace watches the site: the object's file and its directory are synced before the C-STORE-RSP is written.

use std::collections::BTreeMap;

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
            ["strace", "-f", "-y", "-ttt", "-s", "0", "-e", calls, "-o", &trace.to_string_lossy()].map(str::to_owned).to_vec();
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(95), 5, 1).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        world.site_mut().program.stop().await?;
        let trace = std::fs::read_to_string(&trace)?;
        let answers = judge(&trace)?;
        // The A-ASSOCIATE-AC and A-RELEASE-RP are written to the socket too; the five between are the C-STORE-RSPs.
        anyhow::ensure!(answers.len() == study.instances.len(), "{} answers with a sync before them:\n{trace}", answers.len());
        Ok(())
    });
}

/// For each write to the DICOM socket after bytes came in for an object: the syncs since the write before. Fails when an
/// object file was written and an answer left without both syncs. Gives the answers that had them.
fn judge(trace: &str) -> anyhow::Result<Vec<String>> {
    let (mut file_synced, mut folder_synced) = (false, false);
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    let mut answers = Vec::new();
    for line in trace.lines() {
        let Some(call) = Call::read(line) else { continue };
        let is_object = |path: &str| path.contains("/state/objects/");
        match call.name {
            "write" | "pwrite64" | "writev" if is_object(call.path) => *written.entry(call.path.to_owned()).or_default() += 1,
            "fdatasync" | "fsync" if is_object(call.path) && std::path::Path::new(call.path).extension().is_some() => file_synced = true,
            "fdatasync" | "fsync" if is_object(call.path) => folder_synced = true,
            "sendto" | "sendmsg" | "write" | "writev" if call.path.contains("TCP") && !written.is_empty() => {
                anyhow::ensure!(
                    file_synced && folder_synced,
                    "an answer left before the syncs (file {file_synced}, folder {folder_synced}):\n{line}"
                );
                answers.push(line.to_owned());
                written.clear();
                (file_synced, folder_synced) = (false, false);
            }
            _ => {}
        }
    }
    Ok(answers)
}

/// `1234  1764000000.000001 fdatasync(12</folder/file>) = 0`
struct Call<'a> {
    name: &'a str,
    path: &'a str,
}

impl<'a> Call<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let call = line.split_whitespace().nth(2).and_then(|_| line.splitn(3, char::is_whitespace).nth(2))?.trim_start();
        let (name, rest) = call.split_once('(')?;
        let path = rest.split_once('<').map_or("", |(_, after)| after.split('>').next().unwrap_or_default());
        Some(Self { name: name.rsplit(' ').next()?, path })
    }
}
