//! The `fetch` handler: from a line that carries URLs to a verified PDF on disk.
//!
//! ```text
//!   payload   which URLs, which checksum, which cap
//!   name      where the file belongs: there already and whole? then the job is done
//!   walk      candidate by candidate, hop by hop, each under its permit
//!   client    address -> dns -> transport: only public addresses, every wait can be cancelled
//!   download  counted, bounded, hashed, looked at; to a hidden temporary file
//!   place     the publisher: sync, rename, sync, and only then is the job done
//! ```
//!
//! Must never give a file its final name before it is whole, verified and synced; never talk to a
//! private address unless allowed; never use a name a server sent; never ask a host without a permit.

mod address;
mod by_content;
mod classify;
mod client;
mod content_range;
mod dns;
mod download;
mod flags;
mod inspect;
mod manifest;
mod name;
mod out;
mod pace;
mod page;
mod payload;
mod place;
mod progress;
mod proxy;
mod resolve;
mod rest;
mod resume;
mod retry_after;
mod scope;
mod source;
#[cfg(test)]
mod tests;
mod transfer;
mod transport;
mod verdict;
mod walk;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::Client;
use download::{Receiver, Resumable};
use inspect::Existing;
use manifest::Manifest;
use name::FileName;
use out::OutDir;
use pace::Floor;
use payload::Payload;
use place::{Publisher, Ready};
use progress::Progress;
use verdict::disk_trouble;
use walk::{Found, Walk};

use super::{Context, Handler, Ran};
use crate::job::{DoneReason, ErrorReason, JobSpec, Key, Note, Outcome, SkipReason};

pub use classify::Kind as FetchKind;
pub use client::ClientError;
pub use proxy::ProxySettings;

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
    /// The slowest that a body may come, over [`FetchSettings::throughput_window`]; 0 for no such bound.
    pub min_bytes_per_second: u64,
    /// Over how long a time that is measured.
    pub throughput_window: Duration,
    /// The most bytes of a file.
    pub max_bytes: u64,
    /// What may be kept.
    pub accept: Vec<FetchKind>,
    /// Whether files of equal content are stored once, as hard links.
    pub dedup: bool,
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
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings {
            out: PathBuf::from("artifacts"),
            user_agent: concat!("orch/", env!("CARGO_PKG_VERSION")).to_owned(),
            contact_email: None,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            min_bytes_per_second: 1_024,
            throughput_window: Duration::from_secs(30),
            max_bytes: 256 * 1_024 * 1_024,
            accept: vec![FetchKind::Pdf],
            dedup: false,
            max_redirects: 20,
            allow_private_addresses: false,
            proxy: ProxySettings::default(),
            ca_file: None,
            connections_per_host: 8,
        }
    }
}

/// Why there can be no [`FetchHandler`].
#[derive(Debug, thiserror::Error)]
pub enum FetchSetupError {
    /// A setting of the client cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The output directory cannot be made or opened.
    #[error("fetch.out: {path}: {source}")]
    Out {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Fetches. Owns the publisher thread: dropping it waits until all it was given is on disk and told.
pub struct FetchHandler {
    settings: FetchSettings,
    client: Client,
    out: OutDir,
    publisher: Publisher,
    resumable: Resumable,
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
        let client = Client::new(&settings, ask)?;
        let failed = |source| FetchSetupError::Out { path: settings.out.clone(), source };
        let out = OutDir::open(&settings.out).map_err(failed)?;
        let publisher = Publisher::start(out.root(), settings.dedup).map_err(failed)?;
        let resumable = Resumable::default();
        Ok(FetchHandler { settings, client, out, publisher, resumable })
    }

    /// One attempt; `Err` where it ended early.
    fn attempt(&self, context: &mut Context<'_>) -> Result<Ran, Ran> {
        let payload: Payload = context
            .payload_as()
            .map_err(|error| Outcome::fail(ErrorReason::BadPayload, error.to_string()))?;
        let name = FileName::of(&context.job().artifact_id);
        for kind in &self.settings.accept {
            let path = name.path_in(self.out.root(), kind.extension());
            if let Some(ran) = self.already_there(context, &payload, &path)? {
                return Ok(ran);
            }
        }
        let candidates = payload.candidates();
        if candidates.urls.is_empty() {
            return Err(nothing_to_ask(&candidates).into());
        }
        let mut progress = Progress::of(context.job());
        progress.add(candidates.refused);
        let max_bytes = payload.max_bytes(self.settings.max_bytes);
        let job = context.job();
        let receiver = Receiver {
            out: &self.out,
            name: &name,
            payload: &payload,
            max_bytes,
            accept: &self.settings.accept,
            floor: Floor {
                bytes_per_second: self.settings.min_bytes_per_second,
                window: self.settings.throughput_window,
            },
            resumable: &self.resumable,
            may_have_partial: Cell::new(job.attempts_total > 1 || job.checkpoint.is_some()),
        };
        let mut walk = Walk { handler: self, context, receiver, progress };
        let found = walk.run(&candidates.urls)?;
        let tried = walk.progress.tried;
        let path = name.path_in(self.out.root(), found.download.kind.extension());
        let manifest = self.manifest(context, &payload, &path, &found, tried);
        let note = Note::new(walk::told(&found)).with_detail(manifest.to_json());
        let outcome = Outcome::Done { reason: DoneReason::Ok, note };
        let sha256 = Some(found.download.inspected.sha256);
        Ok(self.publish(context, Some(found.download.file), path, sha256, outcome))
    }

    /// The file may be there: recorded by an earlier run, or published by one that died before it could
    /// say so. Either way it is looked at, not trusted.
    fn already_there(
        &self,
        context: &mut Context<'_>,
        payload: &Payload,
        path: &Path,
    ) -> Result<Option<Ran>, Ran> {
        let go_on = || context.cancel().reason().is_none();
        let existing =
            inspect::existing(path, go_on).map_err(|error| disk_trouble(path, &error))?;
        let Some(existing) = existing else { return Ok(None) };
        let expected = payload.expected_sha256().map(payload::Sha256::as_str);
        if expected.is_some_and(|expected| expected != existing.inspected.sha256) {
            return Ok(None);
        }
        let previous = context.job().previous.as_deref();
        let recorded = previous.and_then(|json| serde_json::from_str::<Manifest>(json).ok());
        let done = |detail: String| Outcome::Done {
            reason: DoneReason::Exists,
            note: Note::new("the whole file is there already").with_detail(detail),
        };
        match recorded {
            Some(recorded) if recorded.sha256 == existing.inspected.sha256 => {
                let detail = previous.unwrap_or_default().to_owned();
                Ok(Some(Ran::Finished(done(detail))))
            }
            // Not the file that was recorded: somebody changed it.
            Some(recorded) if !recorded.sha256.is_empty() => Ok(None),
            _ => {
                let detail = manifest_of_existing(payload, path, existing).to_json();
                // It has its name, but whether the name would survive a power loss nobody knows.
                Ok(Some(self.publish(context, None, path.to_owned(), None, done(detail))))
            }
        }
    }

    fn publish(
        &self,
        context: &mut Context<'_>,
        file: Option<tempfile::NamedTempFile>,
        path: PathBuf,
        sha256: Option<String>,
        outcome: Outcome,
    ) -> Ran {
        match context.finish_later() {
            Some(completion) => {
                self.publisher.publish(Ready { file, path, sha256, outcome, completion });
                Ran::Later
            }
            None => {
                let message = "somebody else has the duty to report this attempt";
                Ran::Finished(Outcome::retry(ErrorReason::Internal, message))
            }
        }
    }

    fn manifest(
        &self,
        context: &Context<'_>,
        payload: &Payload,
        path: &Path,
        found: &Found,
        tried: Vec<verdict::Tried>,
    ) -> Manifest {
        let download = &found.download;
        Manifest {
            path: path.to_string_lossy().into_owned(),
            sha256: download.inspected.sha256.clone(),
            bytes: download.inspected.bytes,
            media_type: download.kind.media_type().to_owned(),
            md5: download.inspected.md5.clone(),
            flags: download.inspected.flags.iter().map(|flag| (*flag).to_owned()).collect(),
            pdf_offset: Some(download.pdf_offset).filter(|offset| *offset > 0),
            url: Some(bare(&found.url)),
            final_url: Some(bare(&found.final_url)),
            resolver: Some(manifest::FROM_LINE.to_owned()),
            licence: payload.licence().map(str::to_owned),
            version: payload.version().map(str::to_owned),
            etag: download.etag.clone(),
            last_modified: download.last_modified.clone(),
            fetched_at: manifest::rfc3339(context.wall()),
            tried,
            ..Manifest::default()
        }
    }
}

impl Handler for FetchHandler {
    fn first_key(&self, spec: &JobSpec) -> Key {
        first_key(spec)
    }

    fn run(&self, context: &mut Context<'_>) -> Ran {
        self.attempt(context).unwrap_or_else(|ended_early| ended_early)
    }
}

/// The key a fetch job is first run under: the one it came with, and where that names no host, the host
/// of the first URL that will be asked.
#[must_use]
pub fn first_key(spec: &JobSpec) -> Key {
    let mut key = spec.key.clone();
    if key.host.is_none()
        && let Ok(payload) = serde_json::from_str::<Payload>(&spec.payload)
        && let Some(url) = payload.candidates().urls.first()
        && let Ok(of_url) = Key::new(None, url.host_str())
    {
        key.host = of_url.host;
    }
    key
}

fn nothing_to_ask(candidates: &payload::Candidates) -> Outcome {
    match candidates.refused.last() {
        Some(last) => {
            let message = format!("{}: {}", last.url, last.verdict.message);
            let detail = manifest::tried_to_json(&candidates.refused);
            let note = Note::new(message).with_detail(detail);
            Outcome::Fail { reason: ErrorReason::BadPayload, note }
        }
        None => {
            let message =
                "the line carries no URL (url, pdf_urls, urls and open_access_url are read)";
            Outcome::skipped(SkipReason::NoOpenCopy, message)
        }
    }
}

fn manifest_of_existing(payload: &Payload, path: &Path, existing: Existing) -> Manifest {
    Manifest {
        path: path.to_string_lossy().into_owned(),
        sha256: existing.inspected.sha256,
        bytes: existing.inspected.bytes,
        media_type: existing.kind.media_type().to_owned(),
        flags: existing.inspected.flags.iter().map(|flag| (*flag).to_owned()).collect(),
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
