//! `config show` and `config diff`: what is in force by the main file, and what of it is not as shipped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::config::Config;

/// A main file with nothing in it but what has no default.
const LEAST: &str = "environment = \"test\"\n[site]\nid = \"site-1\"\norganisation = \"1.2.246.10.90000011\"\norganisation_name = \"-\"\n\
                     source_oid = \"1.2.246.10.90000011.12.9\"\nrule_sets = [\"base\"]\n[storage]\npath = \"/var/lib/idr-site\"\n\
                     [dimse]\nlocal_ae_titles = [\"IDRSITE\"]\n";

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every key with its value, defaults too.
    Show {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// The keys whose value is not the default, or that have none.
    Diff {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// Values by dotted key.
type Keys = BTreeMap<String, Value>;

/// Does a command.
///
/// # Errors
/// None that a configuration that was read can have.
pub fn execute(config: &Config, command: ConfigCommand) -> anyhow::Result<ExitCode> {
    let own = keys(config)?;
    let (json, shown) = match command {
        ConfigCommand::Show { json } => (json, own),
        ConfigCommand::Diff { json } => (json, changed(&own, &keys(&Config::parse(LEAST, Path::new("/etc/idr-site/idr-site.toml"))?)?)),
    };
    if json {
        println!("{}", serde_json::to_string(&shown)?);
    } else {
        shown.iter().for_each(|(key, value)| println!("{key} = {value}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn keys(config: &Config) -> anyhow::Result<Keys> {
    let mut keys = Keys::new();
    flatten(String::new(), serde_json::to_value(&**config)?, &mut keys);
    Ok(keys)
}

fn flatten(at: String, value: Value, keys: &mut Keys) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.into_iter().for_each(|(name, value)| flatten(below(&name), value, keys)),
        // Rows are counted from 0, as messages about them do.
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.into_iter().enumerate().for_each(|(row, value)| flatten(format!("{at}[{row}]"), value, keys));
        }
        value => drop(keys.insert(at, value)),
    }
}

fn changed(own: &Keys, shipped: &Keys) -> Keys {
    // What stands beside the main file is as shipped wherever that is.
    let name = |value: &Value| value.as_str().and_then(|path| Some(Path::new(path).file_name()?.to_owned()));
    let same = |key: &str, value: &Value, other: &Value| value == other || key.starts_with("files.") && name(value) == name(other);
    let is_default = |key: &str, value: &Value| shipped.get(key).is_some_and(|other| same(key, value, other));
    own.iter().filter(|(key, value)| !is_default(key, value)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_shipped_is_told_and_nothing_else() {
        let at = Path::new("/srv/idr-site/idr-site.toml");
        let keys_of = |text: &str| keys(&Config::parse(text, at).expect("a configuration")).expect("keys");
        let shipped = keys(&Config::parse(LEAST, Path::new("/etc/idr-site/idr-site.toml")).expect("a configuration")).expect("keys");
        assert_eq!(changed(&keys_of(LEAST), &shipped), Keys::new());
        let text = format!(
            "{LEAST}idle_seconds = 60\n[scrub]\ninterval_days = 30\n[[inbound]]\nname = \"ct-1\"\nae_title = \"CT01\"\naddresses = [\"10.1.2.3\"]\n"
        );
        let found = changed(&keys_of(&text), &shipped);
        assert_eq!((&found["dimse.idle_seconds"], &found["inbound[0].name"]), (&60.into(), &"ct-1".into()));
        assert!(
            !found.contains_key("scrub.interval_days")
                && found.keys().all(|key| key.starts_with("inbound[0].") || key == "dimse.idle_seconds"),
            "{found:?}"
        );
        assert_eq!(shipped["scrub.interval_days"], 30);
    }
}
