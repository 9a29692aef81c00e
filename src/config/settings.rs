//! The settings as the program reads them: typed, whole, without "perhaps" where there is a default.
//!
//! Bounds are checked before (see `keys.rs`): what is here may be relied on.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::resolvers;
use crate::job::{Key, KeyError, LimitKey, Preset, RetryPolicy, RetryTerms};
use crate::limit::{self, KeyLimits, Rate};
use crate::share::Policy;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where jobs are kept.
    pub queue: Queue,
    /// How they are run.
    pub orchestrator: Orchestrator,
    /// Limits of single hosts and resolvers.
    #[serde(default)]
    pub limits: Limits,
    /// How files are fetched.
    pub fetch: Fetch,
    /// Resolvers, by name.
    #[serde(default)]
    pub resolvers: BTreeMap<String, Resolver>,
    /// Commands.
    pub exec: Exec,
    /// When a host or resolver that fails is left alone, and for how long any is waited for.
    pub breaker: Breaker,
    /// Who comes first.
    pub schedule: Schedule,
    /// The log.
    pub log: Log,
}

/// `[queue]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// `sqlite`.
    pub backend: String,
    /// The queue's file.
    pub path: PathBuf,
    /// Write-ahead log, or SQLite's rollback journal.
    pub wal_mode: bool,
    /// How long to wait while another process writes, in seconds.
    pub timeout_sec: u32,
    /// What an acknowledgement is worth.
    pub durability: Durability,
}

/// What an acknowledgement is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It survives power loss.
    Full,
    /// It survives the death of the process; power loss may take the last moments.
    Normal,
}

/// `[orchestrator]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orchestrator {
    /// Jobs at the same time, 1 to 256.
    pub max_workers: usize,
    /// Jobs at the same time per resolver.
    #[serde(default)]
    pub max_per_resolver: BTreeMap<String, u32>,
    /// Jobs at the same time on one host.
    pub max_per_host: u32,
    /// Silence after which an owner counts as dead, in seconds.
    pub lease_ttl_seconds: u32,
    /// How often a process says that it lives, in seconds.
    pub heartbeat_seconds: u32,
    /// Attempts a job may use.
    pub max_job_attempts: u32,
    /// Deaths of its process that end a job.
    pub max_job_losses: u32,
    /// How long one attempt may take, in seconds.
    pub job_timeout_seconds: u32,
    /// A preset; `None`: the formula of the next three.
    #[serde(deserialize_with = "preset")]
    pub retry: Option<Preset>,
    /// The delay after the first failure, in seconds.
    pub retry_backoff_seconds: u32,
    /// The longest delay before jitter, in seconds.
    pub retry_backoff_max_seconds: u32,
    /// The most that jitter adds, in seconds.
    pub jitter_seconds: u32,
    /// How long running jobs may go on after a stop signal, in seconds.
    pub shutdown_seconds: u32,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// By host.
    #[serde(default)]
    pub host: BTreeMap<String, KeyLimit>,
    /// By resolver.
    #[serde(default)]
    pub resolver: BTreeMap<String, KeyLimit>,
}

/// `[limits.host."NAME"]` or `[limits.resolver."NAME"]`
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLimit {
    /// Jobs at the same time.
    pub max_concurrent: Option<u32>,
    /// Starts per time, its burst at the default.
    #[serde(default, deserialize_with = "rate")]
    pub rate: Option<Rate>,
    /// Starts at once after a pause.
    pub burst: Option<u32>,
}

/// `[fetch]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Where files go.
    pub out: PathBuf,
    /// What servers are told; `None`: orch's own name and version, with the contact address.
    #[serde(deserialize_with = "unless_empty")]
    pub user_agent: Option<String>,
    /// Where servers' operators reach whoever runs this.
    #[serde(deserialize_with = "unless_empty")]
    pub contact_email: Option<String>,
    /// Which resolvers to ask, in this order: names of [`super::RESOLVERS`], each once.
    #[serde(deserialize_with = "order_of_resolvers")]
    pub resolvers: Vec<&'static str>,
    /// Until a connection stands, in seconds.
    pub connect_timeout_seconds: u32,
    /// Until the next byte comes, in seconds.
    pub read_timeout_seconds: u32,
    /// Slower answers are given up; `None`: no bound.
    #[serde(deserialize_with = "unless_zero")]
    pub min_bytes_per_second: Option<NonZeroU32>,
    /// Larger files are refused.
    pub max_bytes: u64,
    /// What counts as the artifact: at least one, each once.
    pub accept: Vec<Accept>,
    /// Ask robots.txt first.
    pub obey_robots: bool,
    /// Allow loopback, private and link-local addresses.
    pub allow_private_addresses: bool,
    /// A proxy; `None`: from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    #[serde(deserialize_with = "unless_empty")]
    pub proxy: Option<String>,
    /// Certificate authorities to trust beside the built-in ones (PEM).
    #[serde(deserialize_with = "unless_empty")]
    pub ca_file: Option<PathBuf>,
    /// Store equal bytes once.
    pub dedup: bool,
    /// In which order resolvers are asked.
    pub order: Order,
}

/// What may count as the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// PDF.
    Pdf,
    /// A page.
    Html,
    /// XML, such as JATS.
    Xml,
}

/// The order in which resolvers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As configured.
    Fixed,
    /// By what worked before.
    Learned,
}

/// `[resolvers.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolver {
    /// Whether to ask it; `None`: if it has what it needs.
    pub enabled: Option<bool>,
    /// Where to ask, without query; `None`: its well-known address.
    #[serde(default, deserialize_with = "url_unless_empty")]
    pub base_url: Option<Url>,
    /// Its key.
    #[serde(default, deserialize_with = "unless_empty")]
    pub api_key: Option<Secret>,
    /// Requests at the same time.
    pub max_concurrent: Option<u32>,
    /// Requests per time, its burst at the default.
    #[serde(default, deserialize_with = "rate")]
    pub rate: Option<Rate>,
    /// Requests at once after a pause.
    pub burst: Option<u32>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// `[exec]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Whether `queue run` may start commands.
    pub allow: bool,
}

/// `[breaker]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that make a host or resolver rest.
    pub failures: u32,
    /// How long it rests, in seconds.
    pub open_seconds: u32,
    /// Successes that make it whole again.
    pub successes: u32,
    /// Nobody waits longer for a host or resolver that rests, or asked to be left alone, in seconds.
    pub give_up_seconds: u32,
}

impl Breaker {
    fn policy(&self) -> Policy {
        Policy {
            failures: self.failures,
            open_for: Duration::from_secs(self.open_seconds.into()),
            successes: self.successes,
            give_up: Duration::from_secs(self.give_up_seconds.into()),
        }
    }
}

/// `[schedule]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// A waiting job rises one priority per so many seconds; 0: never.
    pub aging_seconds: u32,
    /// Turns of a tag for one turn of any other.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level or directives.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// Settings from a table of checked values.
    pub(super) fn from_table(table: toml::Table) -> Result<Settings, toml::de::Error> {
        Settings::deserialize(toml::Value::Table(table))
    }

    /// The limits of this process.
    ///
    /// A resolver may be limited in three places; the more particular one wins, whichever layer it came from:
    /// `limits.resolver.NAME`, then `orchestrator.max_per_resolver.NAME`, then `resolvers.NAME`.
    ///
    /// # Errors
    /// [`KeyError`] for a name that is no host or resolver; settings that were loaded have none.
    pub fn gate_limits(&self) -> Result<limit::Limits, KeyError> {
        let mut resolvers: BTreeMap<&str, KeyLimit> = BTreeMap::new();
        for (name, resolver) in &self.resolvers {
            let limit = resolvers.entry(name).or_default();
            *limit = KeyLimit {
                max_concurrent: resolver.max_concurrent,
                rate: resolver.rate,
                burst: resolver.burst,
            };
        }
        for (name, most) in &self.orchestrator.max_per_resolver {
            resolvers.entry(name).or_default().max_concurrent = Some(*most);
        }
        for (name, own) in &self.limits.resolver {
            let limit = resolvers.entry(name).or_default();
            *limit = KeyLimit {
                max_concurrent: own.max_concurrent.or(limit.max_concurrent),
                rate: own.rate.or(limit.rate),
                // The burst of one rate says nothing of another.
                burst: if own.rate.is_some() { own.burst } else { own.burst.or(limit.burst) },
            };
        }
        let mut limits = limit::Limits {
            max_per_host: Some(self.orchestrator.max_per_host),
            policy: self.breaker.policy(),
            ..limit::Limits::default()
        };
        for (name, limit) in resolvers {
            let key = Key::new(Some(name), None)?;
            limits.by_key.extend(key.limits().map(|key: LimitKey| (key, limit.for_gate())));
        }
        for (name, limit) in &self.limits.host {
            let key = Key::new(None, Some(name))?;
            limits.by_key.extend(key.limits().map(|key: LimitKey| (key, limit.for_gate())));
        }
        Ok(limits)
    }

    /// How jobs without a say of their own are retried.
    #[must_use]
    pub fn retry_terms(&self) -> RetryTerms {
        let ms = |seconds: u32| u64::from(seconds) * 1_000;
        let own = &self.orchestrator;
        let policy = match own.retry {
            Some(preset) => preset.policy(),
            None => RetryPolicy::queue_default(
                ms(own.retry_backoff_seconds),
                ms(own.retry_backoff_max_seconds),
                ms(own.jitter_seconds),
            ),
        };
        RetryTerms::merge(None, None, policy, own.max_job_attempts)
    }
}

impl KeyLimit {
    fn for_gate(self) -> KeyLimits {
        let rate = match (self.rate, self.burst) {
            (Some(rate), Some(burst)) => Some(Rate { burst, ..rate }),
            (rate, _) => rate,
        };
        KeyLimits { max_concurrent: self.max_concurrent, rate }
    }
}

impl Secret {
    /// The secret itself, for the request it belongs to.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

/// The empty text means "none".
fn unless_empty<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    let text = String::deserialize(from)?;
    Ok((!text.is_empty()).then(|| T::from(text)))
}

fn url_unless_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
    let text: Option<String> = unless_empty(from)?;
    text.map(|text| Url::parse(&text).map_err(serde::de::Error::custom)).transpose()
}

fn unless_zero<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NonZeroU32>, D::Error> {
    u32::deserialize(from).map(NonZeroU32::new)
}

fn order_of_resolvers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<&'static str>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let known = |name: &String| resolvers::resolver_named(name).map_err(serde::de::Error::custom);
    names.iter().map(known).collect()
}

fn preset<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Preset>, D::Error> {
    let name = String::deserialize(from)?;
    if name.is_empty() {
        return Ok(None);
    }
    name.parse().map(Some).map_err(serde::de::Error::custom)
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Rate>, D::Error> {
    let text = String::deserialize(from)?;
    Rate::parse(&text).map(Some).map_err(serde::de::Error::custom)
}
