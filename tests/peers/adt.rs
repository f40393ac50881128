//! python-hl7 sends ADT messages, hl7apy judges the answers.

use std::process::Command;

use anyhow::ensure;
use idr_tests::harness::{Plan, World, edit};
use idr_tests::shared::run;
use toml::Table;

use crate::{here, python, story};

const SOURCES: &str = r#"
[[receiver]]
application = "IDR"
facility = "CENTRAL"
[[source]]
application = "HIS"
facility = "A-SAIRAALA"
organisation = "1.2.246.10.90000011"
roots = ["1.2.246.21", "1.2.246.10.90000011"]
may_merge = true
"#;

/// The examples of profile 06 §11 and messages that are refused, in four versions; and the answer to each.
const MESSAGES: [(&str, &str); 9] = [
    (
        "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250615120000+0300||ADT^A28^ADT_A05|A1-0001|T|2.5.1||||||UNICODE UTF-8\r\
         EVN||20250615115958+0300\rPID|1||150625-9T01^^^&1.2.246.10.90000011.22.2025&ISO||TUNTEMATON^PÖTILAS||||||||||||||||||||||||||Y\rPV1|1|N\r",
        "AA",
    ),
    (
        "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250615143000+0300||ADT^A40^ADT_A39|A1-0002|T|2.5.1||||||UNICODE UTF-8\r\
         EVN||20250615142955+0300\rPID|1||010190-900P^^^&1.2.246.21&ISO^NNFIN||TESTINEN^TAINA||19900101|F\r\
         MRG|150625-9T01^^^&1.2.246.10.90000011.22.2025&ISO\r",
        "AA",
    ),
    (
        "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250616080000||ADT^A04|A1-0003|T|2.3||||||8859/1\rEVN|A04|20250616075900\r\
         PID|1||010190-900P^^^&1.2.246.21&ISO||TESTINEN^TAINA||19900101|F\r\
         PV1|1|O|RTG^^^A||||||||||||||||1.2.246.10.90000011.14.2025.100\r",
        "AA",
    ),
    (
        "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250616090000||ADT^A47^ADT_A30|A1-0004|T|2.5||||||8859/15\rEVN||20250616085900\r\
         PID|1||150625-9T02^^^&1.2.246.10.90000011.22.2025&ISO||TUNTEMATON^POTILAS\rMRG|150625-9T99^^^&1.2.246.10.90000011.22.2025&ISO\r",
        "AE IDR-H-10",
    ),
    (
        "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250617100000||ADT^A24^ADT_A24|A1-0005|T|2.5.1\rEVN||20250617095900\r\
         PID|1||150625-9T02^^^&1.2.246.10.90000011.22.2025&ISO\rPID|2||010190Y900P^^^&1.2.246.21&ISO\r",
        "AA",
    ),
    (
        "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250617100000||ADT^A31^ADT_A05|A1-0006|T|2.5.1\rEVN||20250614095900\r\
         PID|1||150625-9T01^^^&1.2.246.10.90000011.22.2025&ISO||VANHA^NIMI\r",
        "AA W-12 W-11",
    ),
    ("MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250617100000||ADT^A23|A1-0007|T|2.4\rEVN||20250614095900\r", "AR"),
    (
        "MSH|$~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250617100000||ADT$A28$ADT_A05|A1-0008|T|2.5.1\rEVN||20250614095900\r\
         PID|1||010190-900R$$$&1.2.246.21&ISO||T$T\r",
        "AE IDR-H-08",
    ),
    ("MSH|^~\\&|X|Y|IDR|CENTRAL|20250617100000||ADT^A28|A1-0009|T|2.5.1\rEVN||20250614095900\r", "AR IDR-H-14"),
];

#[test]
fn python_hl7_sends_and_hl7apy_reads_the_answers() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let central = Box::new(|table: &mut Table| edit(table, [("mllp.plain_listen", toml::Value::from(vec!["127.0.0.1:0".to_owned()]))]));
        let mut world = World::prepare(Plan { central, ..Plan::default() })?;
        std::fs::write(world.central.program.config().with_file_name("hl7-sources.toml"), SOURCES)?;
        let listening = world.central.program.start().await?;
        let mut files = Vec::new();
        for (n, (message, _)) in MESSAGES.iter().enumerate() {
            let path = world.folder().join(format!("message-{n}.hl7"));
            std::fs::write(&path, message)?;
            files.push(path);
        }
        let mut command = Command::new(python);
        command.arg(here().join("adt.py")).arg("127.0.0.1").arg(listening.mllp_plain[0].port().to_string()).args(&files);
        let told = run(&mut command)?;
        let expected: Vec<&str> = MESSAGES.iter().map(|(_, answer)| *answer).collect();
        ensure!(told.lines().collect::<Vec<_>>() == expected, "{told}");
        world.central.program.stop().await
    });
}
