//! What a command works with: settings, the queue, the clock, the kinds of jobs, and where to write.

use std::sync::Arc;
use std::time::Duration;

use super::error::CliError;
use super::output::Output;
use crate::clock::Clock;
use crate::config::{Config, Durability, Settings};
use crate::handler::Registry;
use crate::intake::Kinds;
use crate::job::{JobSpec, Kind};
use crate::queue::WorkQueue;
use crate::queue::sqlite::{self, OpenOptions};
use crate::queue::store::StoreError;

/// One command of one process.
pub struct Session {
    /// Where it writes.
    pub out: Output,
    /// The time.
    pub clock: Arc<dyn Clock>,
    config: Config,
    registry: Registry,
}

impl Session {
    /// A command that goes by `config`, and knows the kinds of jobs in `registry`.
    #[must_use]
    pub fn new(out: Output, clock: Arc<dyn Clock>, config: Config, registry: Registry) -> Session {
        Session { out, clock, config, registry }
    }

    /// The settings, and how they came about.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.config.settings
    }

    /// The kinds a line may ask for. A line that names none is to be fetched.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        Kinds::new(self.registry.kinds().cloned(), Kind::fetch())
    }

    /// The kind of that name.
    ///
    /// # Errors
    /// [`CliError::UnknownKind`].
    pub fn kind(&self, name: &str) -> Result<Kind, CliError> {
        let known = self.registry.kinds().find(|kind| kind.as_str() == name);
        known.cloned().ok_or_else(|| {
            let names: Vec<&str> = self.registry.kinds().map(Kind::as_str).collect();
            CliError::UnknownKind { name: name.to_owned(), known: names.join(", ") }
        })
    }

    /// Puts a job in line where its handler wants it first.
    pub fn place(&self, spec: &mut JobSpec) {
        place(&self.registry, spec);
    }

    /// The same, to be taken to another thread.
    pub fn placing(&self) -> impl Fn(&mut JobSpec) + Send + 'static {
        let registry = self.registry.clone();
        move |spec| place(&registry, spec)
    }

    /// The queue, made if there is none.
    ///
    /// # Errors
    /// [`CliError::Store`].
    pub fn open_or_create(&self) -> Result<WorkQueue, CliError> {
        Ok(self.open(true)?)
    }

    /// The queue, which must be there.
    ///
    /// # Errors
    /// [`CliError::Store`].
    pub fn open_existing(&self) -> Result<WorkQueue, CliError> {
        Ok(self.open(false)?)
    }

    fn open(&self, create: bool) -> Result<WorkQueue, StoreError> {
        let queue = &self.settings().queue;
        let options = OpenOptions { create, ..OpenOptions::from(queue) };
        WorkQueue::open_with(&queue.path, &options, Arc::clone(&self.clock))
    }
}

fn place(registry: &Registry, spec: &mut JobSpec) {
    if let Some(handler) = registry.get(&spec.kind) {
        spec.key = handler.first_key(spec);
    }
}

impl From<&crate::config::Queue> for OpenOptions {
    fn from(settings: &crate::config::Queue) -> OpenOptions {
        OpenOptions {
            create: true,
            busy_timeout: Duration::from_secs(u64::from(settings.timeout_sec)),
            durability: match settings.durability {
                Durability::Full => sqlite::Durability::Full,
                Durability::Normal => sqlite::Durability::Normal,
            },
            wal_mode: settings.wal_mode,
            max_pages: None,
        }
    }
}
