//! What may be typed after `orch queue run`, and the settings it gives.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::cli::args::TableFormat;
use crate::cli::duration;
use crate::config::{Accept, Flag, Order, Settings};
use crate::handler::{
    ApiKey, ContentKind, FetchSettings, ProxySettings, ResolverOrder, ResolverSettings,
};
use crate::job::normalise_resolver;

/// Run the queue: do the jobs
///
/// Runs jobs as fast as their hosts and this machine allow, until a signal stops it; with --drain until nothing is left that it
/// may start. One signal (Ctrl-C) stops in good order: what runs may finish, the rest goes back. A second one stops at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue run --workers 8 --drain
  orch queue run --max-per-host 2 --max-per-resolver arxiv=1,crossref=3
  orch queue run --drain --max-runtime 2h --format json > summary.json
  orch queue run --allow-exec                  commands from the queue's lines may run

Exit codes: 0 all that ended is done or skipped; 3 some ended in error; 4 stopped with work left; 130, 143 a signal.")]
pub struct RunArgs {
    /// Jobs at the same time, 1 to 256 [config: orchestrator.max_workers]
    #[arg(long, short = 'w', value_name = "N")]
    pub workers: Option<u32>,
    /// End when nothing is left that this run may start; retries and holds are waited for
    #[arg(long)]
    pub drain: bool,
    /// With --drain: leave jobs that wait for a retry (exit code 4)
    #[arg(long, requires = "drain")]
    pub no_wait_retries: bool,
    /// Jobs at the same time on one host [config: orchestrator.max_per_host]
    #[arg(long, value_name = "N")]
    pub max_per_host: Option<u32>,
    /// Jobs at the same time per resolver, such as arxiv=1,crossref=3 [config: limits.resolver.NAME.max_concurrent]
    #[arg(long, value_name = "NAME=N,…", value_parser = per_resolver)]
    pub max_per_resolver: Option<PerResolver>,
    /// The directory files go to [config: fetch.out]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<String>,
    /// Stop in good order after so long: a number with s, m, h or d (exit code 4 when work is left)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub max_runtime: Option<Duration>,
    /// Let jobs of kind exec run: commands from the queue's lines [config: exec.allow]
    #[arg(long)]
    pub allow_exec: bool,
    /// Allow loopback, private and link-local addresses [config: fetch.allow_private_addresses]
    #[arg(long)]
    pub allow_private: bool,
    /// How the summary at the end is printed
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: TableFormat,
}

/// Limits by resolver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PerResolver(BTreeMap<String, u32>);

/// Why a text gives no limits by resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PerResolverError {
    /// No `NAME=N`.
    #[error("{0:?}: expected NAME=N, such as arxiv=1,crossref=3")]
    Form(String),
    /// The number is none, or 0.
    #[error("{0:?}: expected a whole number, 1 or more, after the =")]
    Count(String),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] crate::job::KeyError),
    /// A name that is there before.
    #[error("{0} is given twice")]
    Twice(String),
}

fn per_resolver(text: &str) -> Result<PerResolver, PerResolverError> {
    let mut limits = BTreeMap::new();
    for item in text.split(',') {
        let (name, count) =
            item.split_once('=').ok_or_else(|| PerResolverError::Form(item.to_owned()))?;
        let name = normalise_resolver(name)?.to_string();
        let count: Option<u32> = count.trim().parse().ok();
        let count = count
            .filter(|count| *count >= 1)
            .ok_or_else(|| PerResolverError::Count(item.to_owned()))?;
        if limits.insert(name.clone(), count).is_some() {
            return Err(PerResolverError::Twice(name));
        }
    }
    Ok(PerResolver(limits))
}

impl RunArgs {
    /// The settings these flags give; their bounds are those of the configuration.
    ///
    /// `--max-per-resolver` sets `limits.resolver.NAME.max_concurrent`, the most particular of the places where a resolver
    /// is limited: a flag must win over all of them.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        if let Some(workers) = self.workers {
            flags.push(Flag::new("--workers", &["orchestrator", "max_workers"], workers));
        }
        if let Some(most) = self.max_per_host {
            flags.push(Flag::new("--max-per-host", &["orchestrator", "max_per_host"], most));
        }
        for (name, most) in self.max_per_resolver.iter().flat_map(|limits| &limits.0) {
            let path = ["limits", "resolver", name, "max_concurrent"];
            flags.push(Flag::new("--max-per-resolver", &path, *most));
        }
        if let Some(out) = &self.out {
            flags.push(Flag::new("--out", &["fetch", "out"], out.as_str()));
        }
        if self.allow_exec {
            flags.push(Flag::new("--allow-exec", &["exec", "allow"], true));
        }
        if self.allow_private {
            let path = ["fetch", "allow_private_addresses"];
            flags.push(Flag::new("--allow-private", &path, true));
        }
        flags
    }
}

/// How to fetch, by these settings and, for proxies they do not name, by this environment.
#[must_use]
pub fn fetch_settings(settings: &Settings, environment: &[(OsString, OsString)]) -> FetchSettings {
    let seconds = |number: u32| Duration::from_secs(u64::from(number));
    let fetch = &settings.fetch;
    let usual = FetchSettings::default();
    FetchSettings {
        out: fetch.out.clone(),
        user_agent: fetch.user_agent.clone().unwrap_or(usual.user_agent),
        contact_email: fetch.contact_email.clone(),
        connect_timeout: seconds(fetch.connect_timeout_seconds),
        read_timeout: seconds(fetch.read_timeout_seconds),
        max_bytes: fetch.max_bytes,
        max_redirects: usual.max_redirects,
        allow_private_addresses: fetch.allow_private_addresses,
        proxy: match &fetch.proxy {
            Some(proxy) => ProxySettings::everywhere(proxy),
            None => proxy_of(environment),
        },
        ca_file: fetch.ca_file.clone(),
        connections_per_host: settings.orchestrator.max_workers,
        accept: fetch.accept.iter().map(|kind| content_kind(*kind)).collect(),
        min_bytes_per_second: fetch.min_bytes_per_second.map_or(0, |rate| u64::from(rate.get())),
        throughput_window: usual.throughput_window,
        resolvers: fetch.resolvers.iter().map(|name| resolver_settings(settings, name)).collect(),
        order: match fetch.order {
            Order::Fixed => ResolverOrder::Fixed,
            Order::Learned => ResolverOrder::Learned,
        },
        learned: Vec::new(),
        obey_robots: fetch.obey_robots,
        dedup: fetch.dedup,
        give_up: seconds(settings.breaker.give_up_seconds),
    }
}

fn content_kind(accept: Accept) -> ContentKind {
    match accept {
        Accept::Pdf => ContentKind::Pdf,
        Accept::Html => ContentKind::Html,
        Accept::Xml => ContentKind::Xml,
    }
}

fn resolver_settings(settings: &Settings, name: &str) -> ResolverSettings {
    let own = settings.resolvers.get(name);
    let key = own.and_then(|own| own.api_key.as_ref());
    ResolverSettings {
        name: name.into(),
        enabled: own.and_then(|own| own.enabled),
        base_url: own.and_then(|own| own.base_url.clone()),
        api_key: key.map(|key| ApiKey::new(key.reveal())),
    }
}

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; in lower case they win, as they do for curl.
fn proxy_of(environment: &[(OsString, OsString)]) -> ProxySettings {
    let variable = |upper: &str| {
        let lower = upper.to_lowercase();
        let named = |name: &str| environment.iter().find(|(found, _)| found == name);
        let (_, value) = named(&lower).or_else(|| named(upper))?;
        value.to_str().map(str::to_owned).filter(|value| !value.is_empty())
    };
    ProxySettings {
        http: variable("HTTP_PROXY"),
        https: variable("HTTPS_PROXY"),
        no_proxy: variable("NO_PROXY").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{Config, Sources};

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        run: RunArgs,
    }

    fn typed(line: &str) -> Result<RunArgs, clap::Error> {
        Typed::try_parse_from(format!("run {line}").split_whitespace()).map(|typed| typed.run)
    }

    fn load(line: &str) -> Result<Config, crate::config::ConfigError> {
        let flags = typed(line).unwrap().flags();
        Config::load(&Sources { flags, ..Sources::default() })
    }

    #[test]
    fn flags_become_settings() {
        let config = load(
            "--workers 16 --max-per-host 2 --max-per-resolver Europe-PMC=3,arxiv=1 --out d --allow-exec --allow-private",
        );
        let settings = config.unwrap().settings;
        assert_eq!(settings.orchestrator.max_workers, 16);
        assert_eq!(settings.orchestrator.max_per_host, 2);
        assert_eq!(settings.limits.resolver["europe_pmc"].max_concurrent, Some(3));
        assert_eq!(settings.limits.resolver["arxiv"].max_concurrent, Some(1));
        assert_eq!(settings.fetch.out, std::path::PathBuf::from("d"));
        assert!(settings.exec.allow && settings.fetch.allow_private_addresses);
        assert!(!load("").unwrap().settings.exec.allow);
    }

    #[test]
    fn a_flag_out_of_bounds_is_named() {
        let said = load("--workers 0").unwrap_err().to_string();
        assert!(said.starts_with("--workers: ") && said.contains("1 to 256"), "{said}");
    }

    #[test]
    fn the_fetcher_goes_by_the_settings_and_finds_its_proxy() {
        let environment: Vec<(OsString, OsString)> = vec![
            ("HTTP_PROXY".into(), "http://upper:1".into()),
            ("http_proxy".into(), "http://lower:1".into()),
            ("NO_PROXY".into(), "localhost".into()),
        ];
        let settings = load("--out d --workers 3 --allow-private").unwrap().settings;
        let fetch = fetch_settings(&settings, &environment);
        let usual = FetchSettings::default();
        let expected = FetchSettings {
            out: "d".into(),
            allow_private_addresses: true,
            connections_per_host: 3,
            proxy: ProxySettings {
                http: Some("http://lower:1".into()),
                https: None,
                no_proxy: "localhost".into(),
            },
            // A program that embeds the library says whom to ask; a person has them all.
            resolvers: fetch.resolvers.clone(),
            ..usual
        };
        assert_eq!(fetch, expected, "the defaults of both are the same");
        let names: Vec<&str> = fetch.resolvers.iter().map(|own| &*own.name).collect();
        assert_eq!(names, crate::handler::resolver_names().collect::<Vec<_>>());

        let set = [Flag::new("--x", &["fetch", "proxy"], "http://set:2")];
        let sources = Sources { flags: set.to_vec(), ..Sources::default() };
        let settings = Config::load(&sources).unwrap().settings;
        let proxy = fetch_settings(&settings, &environment).proxy;
        assert_eq!(proxy, ProxySettings::everywhere("http://set:2"));
    }

    #[test]
    fn each_resolver_gets_its_own_address_key_and_switch_in_the_order_of_the_list() {
        let set: [(&[&str], toml::Value); 5] = [
            (&["fetch", "resolvers"], vec!["core", "doaj", "line"].into()),
            (&["resolvers", "core", "api_key"], "hush".into()),
            (&["resolvers", "core", "base_url"], "http://h/core".into()),
            (&["resolvers", "doaj", "enabled"], false.into()),
            (&["resolvers", "hal", "api_key"], "not listed".into()),
        ];
        let flags = set.into_iter().map(|(path, value)| Flag::new("--x", path, value)).collect();
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        let fetch = fetch_settings(&config.settings, &[]);
        let core = ResolverSettings {
            base_url: url::Url::parse("http://h/core").ok(),
            api_key: Some(ApiKey::new("hush")),
            ..ResolverSettings::named("core")
        };
        let doaj = ResolverSettings { enabled: Some(false), ..ResolverSettings::named("doaj") };
        assert_eq!(fetch.resolvers, [core, doaj, ResolverSettings::named("line")]);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for line in ["arxiv", "arxiv=", "arxiv=0", "arxiv=-1", "a b=1", "arxiv=1,Arxiv=2", ""] {
            assert!(per_resolver(line).is_err(), "{line:?}");
        }
        assert!(typed("--no-wait-retries").is_err(), "it says something of --drain only");
    }
}
