//! What of a changed main file a running site takes, and what waits for its next start.

use std::collections::{BTreeMap, BTreeSet};

use idr_host::config::ConfigError;
use serde_json::Value;

use super::{Config, ConfigFile};
use crate::spool::Tenant;

/// A running configuration after a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// What is in force now.
    pub config: Config,
    /// Keys that differ from the file and wait for a restart, dotted; tenants that no loop looks after yet as `inbound[n].tenant`.
    pub restart: Vec<String>,
}

impl Config {
    /// This configuration with what a reload takes of `next`. A row of a tenant that is none of `tenants`, which the site has
    /// since its start, stays out until the next one: nobody would forward its objects.
    ///
    /// # Errors
    /// [`ConfigError`] if the mixture is not valid, such as a listener that runs and has no AE title any more.
    pub fn reloaded(&self, next: &Self, tenants: &[Tenant]) -> Result<Reloaded, ConfigError> {
        let mut file = self.file.clone();
        let of = &next.file;
        file.site.rule_sets.clone_from(&of.site.rule_sets);
        file.dimse.local_ae_titles.clone_from(&of.dimse.local_ae_titles);
        file.dimse.handshake_seconds = of.dimse.handshake_seconds;
        file.dimse.artim_seconds = of.dimse.artim_seconds;
        file.dimse.idle_seconds = of.dimse.idle_seconds;
        file.dimse.association_seconds = of.dimse.association_seconds;
        file.dimse.pace_bytes_per_second = of.dimse.pace_bytes_per_second;
        file.dimse.pace_seconds = of.dimse.pace_seconds;
        file.dimse.pdu_length_max = of.dimse.pdu_length_max;
        file.dimse.certificate.clone_from(&of.dimse.certificate);
        file.dimse.key.clone_from(&of.dimse.key);
        file.stow.certificate.clone_from(&of.stow.certificate);
        file.stow.key.clone_from(&of.stow.key);
        file.wan.clone_from(&of.wan);
        if let (Some(centre), Some(of)) = (&mut file.centre, &of.centre) {
            centre.certificate.clone_from(&of.certificate);
            centre.key.clone_from(&of.key);
            centre.pins.clone_from(&of.pins);
        }
        if let (Some(assertion), Some(of)) = (&mut file.assertion, &of.assertion) {
            assertion.clone_from(of);
        }
        let known = |tenant: &str| tenants.iter().any(|of_site| of_site.as_str() == tenant);
        file.inbound = of.inbound.iter().filter(|row| known(&row.tenant)).cloned().collect();
        let strangers = of.inbound.iter().enumerate().filter(|(_, row)| !known(&row.tenant));
        let strangers: Vec<String> = strangers.map(|(at, _)| format!("inbound[{at}].tenant")).collect();
        let fault = |(key, problem)| ConfigError::Value { file: next.path.clone(), key, problem };
        file.check().map_err(fault)?;

        let mut restart: Vec<String> = differing(&file, of).into_iter().filter(|key| !is_or_below(key, "inbound")).collect();
        restart.extend(strangers);
        Ok(Reloaded { config: Self { file, path: self.path.clone() }, restart })
    }
}

/// Dotted keys whose values differ. A list is one value.
fn differing(one: &ConfigFile, other: &ConfigFile) -> BTreeSet<String> {
    let (one, other) = (flat(one), flat(other));
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

fn flat(file: &ConfigFile) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let mut open = vec![(String::new(), serde_json::to_value(file).unwrap_or_default())];
    while let Some((key, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                let below = |name: String| if key.is_empty() { name } else { format!("{key}.{name}") };
                open.extend(fields.into_iter().map(|(name, value)| (below(name), value)));
            }
            Value::Null => {}
            value => drop(flat.insert(key, value)),
        }
    }
    flat
}

fn is_or_below(key: &str, of: &str) -> bool {
    key.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Keys that a reload takes; each with all that is below it. The rest is bound, opened or counted once, at the start.
    const TAKEN: [&str; 19] = [
        "site.rule_sets",
        "dimse.local_ae_titles",
        "dimse.handshake_seconds",
        "dimse.artim_seconds",
        "dimse.idle_seconds",
        "dimse.association_seconds",
        "dimse.pace_bytes_per_second",
        "dimse.pace_seconds",
        "dimse.pdu_length_max",
        "dimse.certificate",
        "dimse.key",
        "stow.certificate",
        "stow.key",
        "inbound",
        "wan",
        "centre.certificate",
        "centre.key",
        "centre.pins",
        "assertion",
    ];

    const ROWS: &str = "[[inbound]]\nname = \"ct\"\nae_title = \"CT01\"\naddresses = [\"10.0.0.1\"]\n\
        [centre]\nurl = \"https://centre.example\"\ncertificate = \"c.pem\"\nkey = \"c.key\"\n\
        [assertion]\nissuer = \"i\"\ntechnical_user = \"1.2\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";

    fn text() -> String {
        let shipped = include_str!("../../../configs/idr-site.toml").replace("# environment = \"production\"", "environment = \"test\"");
        let shipped = ["dimse", "stow"].iter().fold(shipped, |text, name| {
            let text = text.replace(&format!("# certificate = \"tls/{name}"), &format!("certificate = \"tls/{name}"));
            text.replace(&format!("# key = \"tls/{name}"), &format!("key = \"tls/{name}"))
        });
        shipped + ROWS
    }

    fn tenants() -> Vec<Tenant> {
        vec!["default".parse().expect("a tenant")]
    }

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/idr-site/idr-site.toml")).expect("valid")
    }

    /// Another value of the same kind, within its range.
    fn other(key: &str, value: &Value) -> Value {
        match value {
            Value::Number(_) if key == "wan.bytes_per_second" => 1_250_000.into(),
            Value::Number(number) => number.as_u64().map_or(1, |number| if number > 2 { number - 1 } else { number + 1 }).into(),
            Value::Bool(value) => (!value).into(),
            Value::Array(items) if items.is_empty() => match key {
                "destination" => serde_json::json!([{"ae_title": "PACS", "address": "10.0.0.3:104"}]),
                "wan.windows" => serde_json::json!([{"from": "18:00:00", "until": "06:00:00"}]),
                "dimse.listen_tls" | "stow.listen" | "stow.listen_tls" => serde_json::json!(["127.0.0.1:2762"]),
                _ => serde_json::json!(["other"]),
            },
            Value::Array(items) => match key {
                "dimse.listen" => serde_json::json!(["127.0.0.1:1104"]),
                "inbound" => {
                    let mut row = items[0].clone();
                    row["name"] = "other".into();
                    serde_json::json!([row])
                }
                _ => serde_json::json!(["OTHER"]),
            },
            _ => match key {
                "site.organisation" | "site.source_oid" => "1.2.3".into(),
                "site.timezone" => "Europe/Stockholm".into(),
                "environment" => "production".into(),
                "centre.url" => "https://other.example".into(),
                "health.listen" => "127.0.0.1:1".into(),
                "storage.index" => "redb".into(),
                "reconcile.at" => "03:00:00".into(),
                _ => "other".into(),
            },
        }
    }

    #[test]
    fn every_key_is_taken_or_named() {
        let running = parse(&text());
        let keys = flat(&running);
        assert!(keys.len() > 50, "{}", keys.len());
        for (key, value) in &keys {
            let mut changed = serde_json::to_value(&running.file).expect("a value");
            *changed.pointer_mut(&format!("/{}", key.replace('.', "/"))).expect("there") = other(key, value);
            let file: ConfigFile = serde_json::from_value(changed).unwrap_or_else(|error| panic!("{key}: {error}"));
            let next = Config { file, path: running.path.clone() };
            let reloaded = running.reloaded(&next, &tenants()).unwrap_or_else(|error| panic!("{key}: {error}"));
            let now = flat(&reloaded.config);
            if TAKEN.iter().any(|taken| is_or_below(key, taken)) {
                assert_eq!((now.get(key), reloaded.restart.as_slice()), (flat(&next).get(key), &[][..]), "{key} is in force");
            } else {
                assert_eq!((now.get(key), reloaded.restart), (Some(value), vec![key.clone()]), "{key} waits for a restart");
            }
        }
    }

    #[test]
    fn a_section_that_comes_or_goes_is_named() {
        let without = text().replace("\n[centre]", "\n[centre]\nname = \"c2\"");
        let reloaded = parse(&text()).reloaded(&parse(&without), &tenants()).expect("valid");
        assert_eq!(reloaded.restart, ["centre.name"]);
        let row_only = text().split("\n[centre]").next().expect("a part").to_owned();
        let reloaded = parse(&text()).reloaded(&parse(&row_only), &tenants()).expect("valid");
        assert!(reloaded.config.centre.is_some() && reloaded.restart.iter().any(|key| key == "centre.url"), "{:?}", reloaded.restart);
    }

    #[test]
    fn a_row_of_a_new_tenant_waits_for_a_restart() {
        let more = "[[inbound]]\nname = \"mr\"\ntenant = \"t2\"\nae_title = \"MR01\"\naddresses = [\"10.0.0.2\"]\n";
        let reloaded = parse(&text()).reloaded(&parse(&format!("{}\n{more}", text())), &tenants()).expect("valid");
        assert_eq!((reloaded.restart, reloaded.config.inbound.len()), (vec!["inbound[1].tenant".to_owned()], 1));
    }

    #[test]
    fn a_listener_that_runs_keeps_a_title() {
        let silent = text()
            .replace("listen = [\"127.0.0.1:11112\"]", "listen = []")
            .replace("local_ae_titles = [\"IDRSITE\"]", "local_ae_titles = []");
        let error = parse(&text()).reloaded(&parse(&silent), &tenants()).expect_err("refused").to_string();
        assert!(error.contains("dimse.local_ae_titles"), "{error}");
    }
}
