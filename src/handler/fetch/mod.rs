//! The `fetch` handler: from a line that names a work, or carries URLs for it, to a verified file on disk.
//!
//! ```text
//!   payload   which work, which URLs, which checksum, which cap
//!   name      where the file belongs: there already and whole? then the job is done (or asked about: revalidate)
//!   walk      resolver by resolver (resolve/), candidate by candidate, hop by hop; progress is what it has learned
//!   exchange  one request: robots.txt (permission), a permit, the answer; what it tells of the host, to the gate (signs)
//!   client    address -> dns -> transport: only public addresses, every wait can be cancelled
//!   download  counted, bounded, hashed, looked at; to a hidden temporary file, gone on with where it broke off
//!   conclude  when nobody had it: what the job comes to, and why
//!   place     the publisher: sync, rename, sync, and only then is the job done
//! ```
//!
//! Must never give a file its final name before it is whole, verified and synced; never talk to a
//! private address unless allowed; never use a name a server sent; never ask a host without a permit.

mod address;
mod by_content;
mod classify;
mod client;
mod conclude;
mod consult;
mod content_range;
mod detour;
mod dns;
mod download;
mod exchange;
mod flags;
#[cfg(fuzzing)]
pub mod fuzzing;
mod inspect;
mod jar;
mod learned;
mod manifest;
mod name;
mod out;
mod pace;
mod page;
mod payload;
mod permission;
mod place;
mod progress;
mod proxy;
mod resolve;
mod rest;
mod resume;
mod retry_after;
mod revalidate;
mod robots;
mod scope;
mod service;
mod signs;
mod source;
mod story;
#[cfg(test)]
mod tests;
mod transfer;
mod transport;
mod verdict;
mod walk;
mod wall;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use detour::Detours;
use download::{Receiver, Resumable};
use inspect::Existing;
use learned::Learned;
use manifest::Manifest;
use name::FileName;
use out::OutDir;
use pace::Floor;
use payload::{Payload, Wanted};
use place::{Publisher, Ready};
use progress::{Progress, Stage};
use resolve::{Active, Plan, Work};
use robots::Robots;
use verdict::disk_trouble;
use walk::{Found, Walk};

use super::{Context, Handler, Ran};
use crate::job::{
    DoneReason, Epoch, ErrorReason, JobSpec, Key, Leased, Note, Observation, Outcome,
};

pub use classify::Kind;
pub use client::ClientError;
pub use consult::{Consultation, Finder, Named};
pub use proxy::ProxySettings;
pub use resolve::{ApiKey, Off, OffReason, PlanError, ResolverSettings, names as resolver_names};

/// The epoch of a job's first lease: every lease raises it.
const FIRST_EPOCH: Epoch = Epoch(1);

/// In which order resolvers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they are listed.
    #[default]
    Fixed,
    /// The most promising first, by what was learned.
    Learned,
}

/// How to fetch.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchSettings {
    /// Where files go.
    pub out: PathBuf,
    /// How we introduce ourselves.
    pub user_agent: String,
    /// Whom a server's operator can write to; goes with the user agent.
    pub contact_email: Option<String>,
    /// To resolve a name, and again to connect, TLS included.
    pub connect_timeout: Duration,
    /// The longest silence in the midst of an answer.
    pub read_timeout: Duration,
    /// The most bytes of a file.
    pub max_bytes: u64,
    /// The most redirects from one URL.
    pub max_redirects: u32,
    /// Whether private, loopback, link-local and other special addresses may be asked.
    pub allow_private_addresses: bool,
    /// Which proxies to use.
    pub proxy: ProxySettings,
    /// Certificates, in PEM form, that are trusted beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// Idle connections kept for one host: as many as there are workers.
    pub connections_per_host: usize,
    /// What counts as the artifact.
    pub accept: Vec<Kind>,
    /// Slower answers are given up; 0: none is.
    pub min_bytes_per_second: u64,
    /// Over which time slowness is measured.
    pub throughput_window: Duration,
    /// Whom to ask for open copies, in this order.
    pub resolvers: Vec<ResolverSettings>,
    /// Whether that order is kept.
    pub order: Order,
    /// What was learned of resolvers before.
    pub learned: Vec<Observation>,
    /// Whether robots.txt is asked before files and pages.
    pub obey_robots: bool,
    /// Whether equal bytes are stored once.
    pub dedup: bool,
    /// A host or resolver that is held for longer than this is passed over.
    pub give_up: Duration,
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings {
            out: PathBuf::from("artifacts"),
            user_agent: concat!("orch/", env!("CARGO_PKG_VERSION")).to_owned(),
            contact_email: None,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            max_bytes: 256 * 1_024 * 1_024,
            max_redirects: 20,
            allow_private_addresses: false,
            proxy: ProxySettings::default(),
            ca_file: None,
            connections_per_host: 8,
            accept: vec![Kind::Pdf],
            min_bytes_per_second: 1_024,
            throughput_window: Duration::from_secs(30),
            resolvers: vec![ResolverSettings::named(resolve::LINE)],
            order: Order::Fixed,
            learned: Vec::new(),
            obey_robots: true,
            dedup: false,
            give_up: Duration::from_secs(900),
        }
    }
}

/// Why there can be no [`FetchHandler`].
#[derive(Debug, thiserror::Error)]
pub enum FetchSetupError {
    /// A setting of the client cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A setting of a resolver cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The output directory cannot be made or opened.
    #[error("fetch.out: {path}: {source}")]
    Out {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whom to ask, without any means to: what places jobs in line.
pub struct FetchPlan(Plan);

impl FetchPlan {
    /// The plan of these settings.
    ///
    /// # Errors
    /// [`PlanError`] when a resolver's name or address cannot be used.
    pub fn new(settings: &FetchSettings) -> Result<FetchPlan, PlanError> {
        Plan::new(&settings.resolvers, settings.contact_email.as_deref()).map(FetchPlan)
    }

    /// The key a fetch job is first run under: what it came with, and what of that is open, what will be asked first.
    #[must_use]
    pub fn first_key(&self, spec: &JobSpec) -> Key {
        first_key(&self.0, spec)
    }

    /// The resolvers that are not asked, and why.
    #[must_use]
    pub fn off(&self) -> &[Off] {
        self.0.off()
    }
}

/// What asking takes: a client, whom to ask, and what was learned of them.
struct Net {
    settings: FetchSettings,
    client: Client,
    plan: Plan,
    robots: Robots,
    learned: Learned,
    detours: Detours,
}

impl Net {
    fn new(settings: FetchSettings, ask: dns::Ask) -> Result<Net, FetchSetupError> {
        let client = Client::new(&settings, ask)?;
        let plan = Plan::new(&settings.resolvers, settings.contact_email.as_deref())?;
        let robots = Robots::new(&settings.user_agent);
        let learned = Learned::of(&settings.learned);
        Ok(Net { settings, client, plan, robots, learned, detours: Detours::default() })
    }

    /// The resolvers in the order in which they are asked about this work: what is learned from other jobs meanwhile does not
    /// change the order of those that were begun.
    fn order_for(&self, work: &Work, begun: &[Stage]) -> Vec<&Active> {
        let mut order = match self.settings.order {
            Order::Fixed => return self.plan.active().iter().collect(),
            Order::Learned => self.learned.order(self.plan.active(), work.doi.as_deref()),
        };
        let place = |name: &str| begun.iter().position(|stage| &*stage.name == name);
        order.sort_by_key(|active| match active.name {
            resolve::ARCHIVE => (true, usize::MAX),
            name => (false, place(name).unwrap_or(usize::MAX)),
        });
        order
    }
}

/// Fetches. Owns the publisher thread: dropping it waits until all it was given is on disk and told.
pub struct FetchHandler {
    net: Net,
    out: OutDir,
    resumable: Resumable,
    publisher: Publisher,
}

/// What is under the artifact's final name.
enum Held {
    /// Nothing that would do.
    Nothing,
    /// A whole file nobody recorded: published by a run that died before it could say so.
    Unrecorded(Existing),
    /// The file that an earlier run recorded.
    Recorded(Box<Manifest>),
}

impl FetchHandler {
    /// A handler with these settings. Makes the output directory, and sweeps it of what dead processes
    /// left unfinished.
    ///
    /// # Errors
    /// [`FetchSetupError`] when a setting cannot be used or the directory not be opened.
    pub fn new(settings: FetchSettings) -> Result<FetchHandler, FetchSetupError> {
        FetchHandler::with_names(settings, dns::ask_system)
    }

    fn with_names(settings: FetchSettings, ask: dns::Ask) -> Result<FetchHandler, FetchSetupError> {
        let net = Net::new(settings, ask)?;
        let settings = &net.settings;
        let failed = |source| FetchSetupError::Out { path: settings.out.clone(), source };
        let out = OutDir::open(&settings.out).map_err(failed)?;
        let publisher = Publisher::start(out.root(), settings.dedup).map_err(failed)?;
        Ok(FetchHandler { net, out, resumable: Resumable::default(), publisher })
    }

    /// One attempt; `Err` where it ended early.
    fn attempt(&self, context: &mut Context<'_>) -> Result<Ran, Ran> {
        let payload: Payload = context
            .payload_as()
            .map_err(|error| Outcome::fail(ErrorReason::BadPayload, error.to_string()))?;
        let name = FileName::of(&context.job().artifact_id);
        let held = self.held(context, &payload, &name)?;
        if let Held::Unrecorded(existing) = held {
            if context.job().checkpoint.is_some() {
                self.out.discard_partial(&name);
            }
            return Ok(self.already_there(context, &payload, &name, existing));
        }
        let Wanted { work, refused } = payload.wanted();
        let mut progress = Progress::of(context.job());
        progress.add(refused);
        let hint = || self.hint(context.job(), &payload, &work).map(|hint| (*hint).into());
        progress.hint = progress.hint.or_else(hint);
        let jar = progress.jar();
        let max_bytes = payload.max_bytes(self.net.settings.max_bytes);
        let job = context.job();
        let receiver = Receiver {
            out: &self.out,
            name: &name,
            payload: &payload,
            max_bytes,
            accept: &self.net.settings.accept,
            resumable: &self.resumable,
            floor: Floor {
                bytes_per_second: self.net.settings.min_bytes_per_second,
                window: self.net.settings.throughput_window,
            },
            // Any lease before this one may have left some: one whose process was killed is not counted as an attempt.
            may_have_partial: Cell::new(job.token.epoch > FIRST_EPOCH || job.attempts_total > 1),
        };
        let mut walk = Walk { net: &self.net, context, receiver, work, progress, jar };
        let (found, observed) = match held {
            Held::Recorded(recorded) => match revalidate::ask(&mut walk, &recorded)? {
                Ok(newer) => (*newer, Vec::new()),
                Err(done) => {
                    walk.receiver.discard_partial();
                    return Ok(done.into());
                }
            },
            Held::Nothing | Held::Unrecorded(_) => {
                let found = walk.run()?;
                let observed = walk.observed(Some(&found.by));
                (found, observed)
            }
        };
        let (asked, tried) = (walk.asked(), std::mem::take(&mut walk.progress.tried));
        let path = name.path_in(self.out.root(), found.download.kind.extension());
        let manifest = manifest_of(context, &payload, &path, &found, asked, tried);
        let sha256 = found.download.inspected.sha256.clone();
        let note = Note::new(walk::told(&found)).with_detail(manifest.to_json());
        let outcome = Outcome::Done { reason: DoneReason::Ok, note: note.with_observed(observed) };
        let file = Some((found.download.file, sha256));
        Ok(self.publish(context, file, path, outcome))
    }

    /// The file may be there: recorded by an earlier run, or published by one that died before it could
    /// say so. Either way it is looked at, not trusted.
    fn held(&self, context: &Context<'_>, payload: &Payload, name: &FileName) -> Result<Held, Ran> {
        let go_on = || context.cancel().reason().is_none();
        let mut existing = None;
        for kind in &self.net.settings.accept {
            let path = name.path_in(self.out.root(), kind.extension());
            let found = inspect::existing(&path, go_on);
            existing = existing.or(found.map_err(|error| disk_trouble(&path, &error))?);
        }
        let Some(existing) = existing else { return Ok(Held::Nothing) };
        let expected = payload.expected_sha256().map(payload::Sha256::as_str);
        if expected.is_some_and(|expected| expected != existing.inspected.sha256) {
            return Ok(Held::Nothing);
        }
        let previous = context.job().previous.as_deref();
        let recorded = previous.and_then(|json| serde_json::from_str::<Manifest>(json).ok());
        Ok(match recorded {
            Some(recorded) if recorded.sha256 == existing.inspected.sha256 => {
                Held::Recorded(Box::new(recorded))
            }
            // Not the file that was recorded: somebody changed it.
            Some(recorded) if !recorded.sha256.is_empty() => Held::Nothing,
            _ => Held::Unrecorded(existing),
        })
    }

    /// A whole file that nobody recorded. It has its name, but whether the name would survive a power loss nobody knows.
    fn already_there(
        &self,
        context: &mut Context<'_>,
        payload: &Payload,
        name: &FileName,
        existing: Existing,
    ) -> Ran {
        let path = name.path_in(self.out.root(), existing.kind.extension());
        let manifest = manifest_of_existing(payload, &path, existing);
        let outcome = exists("the whole file is there already", manifest.to_json());
        self.publish(context, None, path, outcome)
    }

    /// The name of the limit that the line's own URLs count by: what the line says, or what it was put in line under.
    fn hint(&self, job: &Leased, payload: &Payload, work: &Work) -> Option<Arc<str>> {
        let own = payload.hint().and_then(|hint| crate::job::normalise_resolver(&hint).ok());
        // Of a job that was run before, the lane may be where it waited for a service.
        let is_new = job.attempts_total <= 1 && job.checkpoint.is_none() && job.previous.is_none();
        own.or_else(|| {
            let first = self.net.plan.first_key(work, None).and_then(|key| key.resolver);
            let lane = job.lane.key.resolver.clone().filter(|name| first.as_ref() != Some(name));
            lane.filter(|name| is_new || !resolve::names().any(|service| service == &**name))
        })
    }

    /// Hands a file, and the SHA-256 of its bytes, to the publisher; none, when it has its final name already.
    fn publish(
        &self,
        context: &mut Context<'_>,
        file: Option<(tempfile::NamedTempFile, String)>,
        path: PathBuf,
        outcome: Outcome,
    ) -> Ran {
        match context.finish_later() {
            Some(completion) => {
                let (file, sha256) = file.unzip();
                self.publisher.publish(Ready { file, path, sha256, outcome, completion });
                Ran::Later
            }
            None => {
                let message = "somebody else has the duty to report this attempt";
                Ran::Finished(Outcome::retry(ErrorReason::Internal, message))
            }
        }
    }
}

impl Handler for FetchHandler {
    fn first_key(&self, spec: &JobSpec) -> Key {
        first_key(&self.net.plan, spec)
    }

    /// Others may have what it is to fetch, and the file may be there already.
    fn faces_given_up(&self) -> bool {
        true
    }

    fn run(&self, context: &mut Context<'_>) -> Ran {
        let ran = self.attempt(context).unwrap_or_else(|ended_early| ended_early);
        // Nobody was asked under the permit it came with, if it is still there: its token is somebody else's.
        context.leave_permit(&Key::default());
        ran
    }
}

fn exists(message: impl Into<String>, detail: String) -> Outcome {
    let note = Note::new(message).with_detail(detail);
    Outcome::Done { reason: DoneReason::Exists, note }
}

fn first_key(plan: &Plan, spec: &JobSpec) -> Key {
    let mut key = spec.key.clone();
    let Ok(payload) = serde_json::from_str::<Payload>(&spec.payload) else { return key };
    let Some(first) = plan.first_key(&payload.wanted().work, key.resolver.as_deref()) else {
        return key;
    };
    if key.host.is_none() || key.host == first.host {
        key.resolver = key.resolver.or(first.resolver);
    }
    key.host = key.host.or(first.host);
    key
}

fn manifest_of(
    context: &Context<'_>,
    payload: &Payload,
    path: &Path,
    found: &Found,
    asked: Vec<story::Asked>,
    tried: Vec<verdict::Tried>,
) -> Manifest {
    let (download, candidate) = (&found.download, &found.candidate);
    let licence = candidate.licence.as_deref().or(payload.licence());
    let version = candidate.version.map(resolve::Version::name).or(payload.version());
    let mut flags: Vec<String> = download.inspected.flags.iter().map(ToString::to_string).collect();
    if found.downgraded {
        flags.push("downgraded".to_owned());
    }
    Manifest {
        path: path.to_string_lossy().into_owned(),
        sha256: download.inspected.sha256.clone(),
        bytes: download.inspected.bytes,
        media_type: download.kind.media_type().to_owned(),
        md5: download.inspected.md5.clone(),
        pdf_offset: Some(download.pdf_offset).filter(|offset| *offset > 0),
        flags,
        url: Some(bare(&candidate.url)),
        final_url: Some(bare(&found.final_url)),
        resolver: Some(found.by.to_string()),
        evidence: Some(candidate.evidence.to_string()).filter(|text| !text.is_empty()),
        licence: licence.map(str::to_owned),
        version: version.map(str::to_owned),
        host_type: candidate.host_type.map(|host| host.name().to_owned()),
        etag: download.etag.clone(),
        last_modified: download.last_modified.clone(),
        fetched_at: manifest::rfc3339(context.wall()),
        asked,
        tried,
    }
}

fn manifest_of_existing(payload: &Payload, path: &Path, existing: Existing) -> Manifest {
    Manifest {
        path: path.to_string_lossy().into_owned(),
        sha256: existing.inspected.sha256,
        bytes: existing.inspected.bytes,
        media_type: existing.kind.media_type().to_owned(),
        flags: existing.inspected.flags.iter().map(ToString::to_string).collect(),
        pdf_offset: Some(existing.pdf_offset).filter(|offset| *offset > 0),
        licence: payload.licence().map(str::to_owned),
        version: payload.version().map(str::to_owned),
        ..Manifest::default()
    }
}

/// A URL without user and password.
fn bare(url: &url::Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
