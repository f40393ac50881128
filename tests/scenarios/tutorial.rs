//! `docs/tutorial.md` is what a new user sees: its commands are run, and what they print is compared.
//!
//! In blocks of ```console a line that begins with `$ ` is a command (it goes on in lines that begin with `> `), the lines after it what it
//! prints. `…` stands for any text in a line, a line of `…` alone for any lines. `<NAME>` stands for what stands there when it comes first,
//! and for the same later on, also in commands.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context as _;
use idr_tests::harness::{Plan, World, binary};
use idr_tests::shared::workspace;

use crate::story;

/// Longest wait for one command.
const LONGEST: Duration = Duration::from_secs(600);
/// Ends what a command prints.
const MARK: &str = "-- end of the command --";

/// A command and what it prints.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    command: String,
    printed: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let (mut steps, mut inside): (Vec<Step>, bool) = (Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), line.strip_prefix("> "), steps.last_mut()) {
                (Some(command), ..) => steps.push(Step { line: at + 1, command: command.to_owned(), printed: Vec::new() }),
                (None, Some(more), Some(step)) if step.printed.is_empty() => step.command = format!("{}\n{more}", step.command),
                (None, _, Some(step)) => step.printed.push(line.to_owned()),
                (None, _, None) => panic!("line {}: nothing was commanded", at + 1),
            },
        }
    }
    steps
}

/// Names that have been given a value.
type Names = BTreeMap<String, String>;

/// Values in place of names.
fn filled(text: &str, names: &Names) -> String {
    names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
}

/// Whether a line is as it is written; gives names their values.
fn line_is(written: &str, printed: &str, names: &mut Names) -> bool {
    let written = filled(written, names);
    text_is(written.trim_end(), printed.trim_end(), names)
}

/// From the left: what is written up to the next sign stands there, and the rest fits somewhere behind it.
fn text_is(written: &str, printed: &str, names: &mut Names) -> bool {
    if let Some(rest) = written.strip_prefix('…') {
        let ends = printed.char_indices().map(|(at, _)| at).chain([printed.len()]);
        return ends.into_iter().any(|at| text_is(rest, &printed[at..], names));
    }
    if let Some((name, rest)) = written.strip_prefix('<').and_then(|from| from.split_once('>')).filter(|(name, _)| is_name(name)) {
        let word = printed.find(' ').unwrap_or(printed.len());
        return (1..=word).rev().filter(|at| printed.is_char_boundary(*at)).any(|at| {
            let mut tried = names.clone();
            tried.insert(name.to_owned(), printed[..at].to_owned());
            let fits = text_is(&filled(rest, &tried), &printed[at..], &mut tried);
            if fits {
                *names = tried;
            }
            fits
        });
    }
    match (written.chars().next(), printed.chars().next()) {
        (None, None) => true,
        (Some(one), Some(other)) if one == other => text_is(&written[one.len_utf8()..], &printed[other.len_utf8()..], names),
        _ => false,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// Whether lines are as they are written.
fn lines_are(written: &[String], printed: &[String], names: &mut Names) -> bool {
    match written.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any == "…" => (0..=printed.len()).any(|from| {
            let mut tried = names.clone();
            let fits = lines_are(rest, &printed[from..], &mut tried);
            if fits {
                *names = tried;
            }
            fits
        }),
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, lines)| line_is(first, line, names) && lines_are(rest, lines, names))
        }
    }
}

/// A shell that is told one command after the other. All that it started ends with it.
struct Shell {
    child: Child,
    lines: Receiver<String>,
}

impl Shell {
    fn open(environment: &[(&str, String)], folder: &std::path::Path) -> anyhow::Result<Self> {
        let mut command = Command::new("bash");
        command.args(["--norc", "--noprofile"]).current_dir(folder).process_group(0).env("LC_ALL", "C.UTF-8");
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("bash")?;
        let (sender, lines) = channel();
        let out = child.stdout.take().context("a pipe")?;
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines })
    }

    fn run(&mut self, command: &str) -> anyhow::Result<Vec<String>> {
        let input = self.child.stdin.as_mut().context("a pipe")?;
        writeln!(input, "{{ {command}\n}} 2>&1 </dev/null\necho '{MARK}'")?;
        input.flush()?;
        let mut printed = Vec::new();
        loop {
            match self.lines.recv_timeout(LONGEST).with_context(|| format!("no end of {command}"))? {
                line if line == MARK => return Ok(printed),
                line => printed.push(line),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}

#[test]
fn what_the_tutorial_shows_is_what_happens() {
    story(async {
        let text = std::fs::read_to_string(workspace().join("docs/tutorial.md"))?;
        let mut world = World::prepare(Plan::default())?;
        world.open_enrolment()?;
        world.central.program.start().await?;
        let join = world.invite("issue")?;
        let folder = world.folder().join("tutorial");
        std::fs::create_dir(&folder)?;
        let binaries = binary("idr-site")?.parent().context("a folder")?.to_owned();
        let environment = [
            ("PATH", format!("{}:{}", binaries.display(), std::env::var("PATH")?)),
            ("SHIPPED", workspace().join("configs").display().to_string()),
            ("JOIN", join.display().to_string()),
        ];
        let mut shell = Shell::open(&environment, &folder)?;
        let (mut names, mut wrong) = (Names::new(), Vec::new());
        for step in steps(&text) {
            let printed = shell.run(&filled(&step.command, &names))?;
            if std::env::var_os("IDR_TUTORIAL_PRINT").is_some() {
                println!("$ {}\n{}", step.command, printed.join("\n"));
            }
            if !lines_are(&step.printed, &printed, &mut names) {
                wrong.push(format!("line {}: $ {}\nprints:\n{}\n", step.line, step.command, printed.join("\n")));
            }
        }
        anyhow::ensure!(wrong.is_empty(), "docs/tutorial.md is not what happens:\n{}", wrong.join("\n"));
        drop(shell);
        world.stop_centre_and_check().await
    });
}

#[test]
fn a_line_that_is_printed_otherwise_is_seen() {
    let text = "a\n```console\n$ one\n> two\nstudy <UID>: … bytes\n…\nend\n```\n$ none\n";
    let [step] = &steps(text)[..] else { panic!("one step") };
    assert_eq!((step.command.as_str(), step.line), ("one\ntwo", 3));
    let printed = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let mut names = Names::new();
    assert!(lines_are(&step.printed, &printed(&["study 1.2.3: 17 bytes", "x", "y", "end"]), &mut names));
    assert_eq!(names["UID"], "1.2.3");
    for wrong in [&["study 1.2.4: 17 bytes", "end"][..], &["study 1.2.3: 17 octets", "end"], &["study 1.2.3: 17 bytes", "end", "more"], &[]]
    {
        assert!(!lines_are(&step.printed, &printed(wrong), &mut names.clone()), "{wrong:?}");
    }
}
