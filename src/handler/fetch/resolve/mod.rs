//! Who may know of an open copy: one service in each file, all behind one small trait.
//!
//! ```text
//!   known  candidates that need no call (the line's own URLs, arxiv.org/pdf/{id})
//!   ask    what to ask the service next, in this step of the conversation
//!   read   what its answer says: candidates, another step, or a typed no
//! ```
//!
//! A resolver only writes requests and reads answers: it has no connection, no clock and no permits, and whatever
//! bytes it is given it must not panic. Whoever walks ([`super::walk`]) asks, redirects and all, under permits, and can
//! break off between any two steps and go on in another process: a [`Step`] is all that is kept of a conversation.
//!
//! Must never take silence for absence. [`NoKind::Absent`] needs the service's own word that it does not know the work or
//! knows of no open copy; an answer that is merely not understood is [`NoKind::Broken`].

mod arxiv;
mod core_ac;
mod crossref;
mod datacite;
mod doaj;
mod europe_pmc;
mod figshare;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod hal;
mod local;
mod loose;
mod openaire;
mod openalex;
mod osf;
mod plan;
mod pmc;
mod reply;
mod semantic_scholar;
mod terms;
#[cfg(test)]
mod testing;
#[cfg(any(test, fuzzing))]
mod trial;
mod unpaywall;
mod wayback;
mod zenodo;

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::job::{Identifier, Scheme};

pub(super) use plan::{Active, Plan, key_of_file};
pub use plan::{Off, OffReason, PlanError, ResolverSettings, names};
pub(super) use reply::Reply;
pub(super) use terms::Terms;

/// The name of the URLs in the line itself.
pub(super) const LINE: &str = "line";
/// The name of the pages about the work.
pub(super) const LANDING_PAGE: &str = "landing_page";
/// The name of the resolver that is asked for what others named and could not give.
pub(super) const ARCHIVE: &str = "wayback";

/// The work that is wanted: its identifiers in their normal forms (see [`Scheme::parse`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// `10.1234/abc`.
    pub(super) doi: Option<Box<str>>,
    /// `2101.00001`, `2101.00001v2` or `cs/0503050`.
    pub(super) arxiv: Option<Box<str>>,
    /// `PMC123`.
    pub(super) pmcid: Option<Box<str>>,
    /// `31452104`.
    pub(super) pmid: Option<Box<str>>,
    /// The year in which it was published.
    pub(super) year: Option<i16>,
    /// URLs that the line gives, in order.
    pub(super) given: Vec<Url>,
    /// Pages that may lead to a file: the line's, and those that services named.
    pub(super) pages: Vec<Url>,
    /// URLs that gave no file: what an archive is asked for.
    pub(super) failed: Vec<Url>,
}

impl Work {
    /// The same, with the identifier that `text` is, if it is one of `scheme` and none is known yet.
    pub(super) fn identify(&mut self, scheme: Scheme, text: &str) {
        let slot = match scheme {
            Scheme::Doi => &mut self.doi,
            Scheme::Arxiv => &mut self.arxiv,
            Scheme::Pmcid => &mut self.pmcid,
            Scheme::Pmid => &mut self.pmid,
            Scheme::Url => return,
        };
        if let (None, Ok(Identifier { normal, .. })) = (slot.as_ref(), scheme.parse(text)) {
            *slot = Some(normal.as_ref().into());
        }
    }
}

/// Where a conversation with a service stands. All that a resolver may remember between two requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Step {
    /// 0 for the first.
    #[serde(rename = "n")]
    pub(super) number: u8,
    /// What an earlier answer said and this step needs (an id, a link); at most [`MAX_CARRIED_BYTES`].
    #[serde(rename = "c", default, skip_serializing_if = "str::is_empty")]
    pub(super) carried: Box<str>,
}

/// The most a [`Step`] carries. What is longer ends the conversation.
pub(super) const MAX_CARRIED_BYTES: usize = 1_024;

/// The most that is kept of a candidate's licence and evidence each.
const MAX_KEPT_WORDS_BYTES: usize = 100;

impl Step {
    /// The step `number`, carrying a text.
    pub(super) fn new(number: u8, carried: impl Into<Box<str>>) -> Step {
        Step { number, carried: carried.into() }
    }
}

/// A request to a service. Never written down: it may hold a key.
#[derive(Clone)]
pub(super) struct Ask {
    /// Where.
    pub(super) url: Url,
    /// A JSON body makes it a POST.
    pub(super) json: Option<String>,
    /// The `Accept` header.
    pub(super) accept: &'static str,
    /// A header that carries the key. Dropped when a redirect leads to another host.
    pub(super) secret: Option<(&'static str, ApiKey)>,
}

impl Ask {
    /// A GET of JSON.
    pub(super) fn json(url: Url) -> Ask {
        Ask { url, json: None, accept: "application/json", secret: None }
    }

    /// A GET of XML.
    pub(super) fn xml(url: Url) -> Ask {
        Ask { accept: "application/xml, application/atom+xml;q=0.9, */*;q=0.1", ..Ask::json(url) }
    }

    /// The same, as a POST of this JSON.
    pub(super) fn with_json(mut self, json: impl Into<String>) -> Ask {
        self.json = Some(json.into());
        self
    }

    /// The same, with the key, if there is one, in this header. `prefix` stands before it (`Bearer `).
    pub(super) fn with_key(
        mut self,
        header: &'static str,
        prefix: &str,
        key: Option<&ApiKey>,
    ) -> Ask {
        self.secret = key.map(|key| (header, ApiKey::new(format!("{prefix}{}", key.reveal()))));
        self
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys go in headers and some in the query; neither is for logs.
        write!(f, "Ask({}{})", self.url.host_str().unwrap_or_default(), self.url.path())
    }
}

/// A service's key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key.
    #[must_use]
    pub fn new(text: impl Into<String>) -> ApiKey {
        ApiKey(text.into())
    }

    /// The key itself, for the request it belongs to.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// Which version of a text a copy is, in the words of the DRIVER guidelines that all services use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Version {
    /// The version of record.
    #[serde(rename = "publishedVersion")]
    Published,
    /// Accepted, before the publisher's layout.
    #[serde(rename = "acceptedVersion")]
    Accepted,
    /// Before peer review.
    #[serde(rename = "submittedVersion")]
    Submitted,
}

impl Version {
    /// The version that a service names: `publishedVersion`, `vor`, `am`, `submittedVersion`, `published`, …
    pub(super) fn from_name(name: &str) -> Option<Version> {
        match name.trim().to_ascii_lowercase().as_str() {
            "publishedversion" | "vor" | "published" => Some(Version::Published),
            "acceptedversion" | "am" | "accepted" => Some(Version::Accepted),
            "submittedversion" | "submitted" | "preprint" => Some(Version::Submitted),
            _ => None,
        }
    }

    /// The name in manifests.
    pub(super) fn name(self) -> &'static str {
        match self {
            Version::Published => "publishedVersion",
            Version::Accepted => "acceptedVersion",
            Version::Submitted => "submittedVersion",
        }
    }
}

/// Who keeps a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HostType {
    /// The publisher.
    Publisher,
    /// A repository.
    Repository,
}

impl HostType {
    /// The name in manifests.
    pub(super) fn name(self) -> &'static str {
        match self {
            HostType::Publisher => "publisher",
            HostType::Repository => "repository",
        }
    }
}

/// What a candidate leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Leads {
    /// Said to be the file itself.
    #[default]
    File,
    /// A page about the work, which may name the file.
    Page,
}

/// A URL at which there may be a copy, and what is known of that copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Candidate {
    /// Where.
    pub(super) url: Url,
    /// To what.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) leads: Leads,
    /// Its licence, as the service writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) licence: Option<Box<str>>,
    /// Which version it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<Version>,
    /// Who keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_type: Option<HostType>,
    /// Where in the answer it stood (`best_oa_location`, `link[0]`), for people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(super) evidence: Box<str>,
    /// The MD5 that the service publishes: 32 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) md5: Option<Box<str>>,
    /// The SHA-256 that the service publishes: 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<Box<str>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Candidate {
    /// A file at a URL, nothing else known. `None` when the text is no http(s) URL; services give `null`, relative and
    /// `ftp:` ones too.
    pub(super) fn file(url: &str, evidence: impl Into<Box<str>>) -> Option<Candidate> {
        let url = super::payload::parse(url.trim()).ok()?;
        Some(Candidate {
            url,
            leads: Leads::File,
            licence: None,
            version: None,
            host_type: None,
            evidence: evidence.into(),
            md5: None,
            sha256: None,
        })
    }

    /// A page at a URL, nothing else known.
    pub(super) fn page(url: &str, evidence: impl Into<Box<str>>) -> Option<Candidate> {
        Some(Candidate { leads: Leads::Page, ..Candidate::file(url, evidence)? })
    }

    /// The same, with no more of a service's words than is worth keeping: they go into a checkpoint.
    pub(super) fn in_brief(mut self) -> Candidate {
        for words in [Some(&mut self.evidence), self.licence.as_mut()].into_iter().flatten() {
            *words = super::verdict::shorten(words, MAX_KEPT_WORDS_BYTES).into();
        }
        self
    }

    /// The same, under this licence.
    pub(super) fn with_licence(mut self, licence: Option<&str>) -> Candidate {
        self.licence = licence.map(str::trim).filter(|text| !text.is_empty()).map(Box::from);
        self
    }

    /// The same, of the version of that name.
    pub(super) fn with_version(mut self, name: Option<&str>) -> Candidate {
        self.version = name.and_then(Version::from_name);
        self
    }

    /// The same, kept by `publisher` or a `repository`.
    pub(super) fn with_host_type(mut self, name: Option<&str>) -> Candidate {
        self.host_type = match name.map(str::trim) {
            Some("publisher" | "journal") => Some(HostType::Publisher),
            Some("repository") => Some(HostType::Repository),
            _ => None,
        };
        self
    }

    /// The same, with a checksum as services write it: `md5:…`, `sha256:…`, or bare hexadecimal digits.
    pub(super) fn with_checksum(mut self, text: Option<&str>) -> Candidate {
        let text = text.unwrap_or_default().trim().to_ascii_lowercase();
        let digits = text.rsplit(':').next().unwrap_or_default();
        if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            match digits.len() {
                32 => self.md5 = Some(digits.into()),
                64 => self.sha256 = Some(digits.into()),
                _ => {}
            }
        }
        self
    }
}

/// Why a service names no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NoKind {
    /// It says itself that it does not know the work, or knows no open copy of it.
    Absent,
    /// It has no time for us now.
    Busy,
    /// It does not work, or says what is not understood.
    Broken,
    /// It will not talk to us: no key, a wrong one, a blocked address.
    Refused,
}

impl NoKind {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            NoKind::Absent => "absent",
            NoKind::Busy => "busy",
            NoKind::Broken => "broken",
            NoKind::Refused => "refused",
        }
    }

    /// Whether it may turn out otherwise later.
    pub(super) fn is_passing(self) -> bool {
        matches!(self, NoKind::Busy | NoKind::Broken)
    }
}

/// A service's no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct No {
    /// Of which kind.
    pub(super) kind: NoKind,
    /// One sentence, at most 200 bytes; holds no secret.
    pub(super) message: Box<str>,
    /// Identifiers of the work that it told all the same, as [`Said::learned`].
    #[serde(skip)]
    pub(super) learned: Vec<(Scheme, Box<str>)>,
}

impl No {
    /// A no of that kind.
    pub(super) fn new(kind: NoKind, message: impl fmt::Display) -> No {
        No { kind, message: super::verdict::sentence(&message).into(), learned: Vec::new() }
    }

    /// The service says that there is nothing.
    pub(super) fn absent(message: impl fmt::Display) -> No {
        No::new(NoKind::Absent, message)
    }

    /// What it says is not understood.
    pub(super) fn broken(message: impl fmt::Display) -> No {
        No::new(NoKind::Broken, message)
    }
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// Candidates, best first. They are tried before the conversation goes on.
    pub(super) found: Vec<Candidate>,
    /// Identifiers of the work that the service told, as it writes them: others may be asked by them.
    pub(super) learned: Vec<(Scheme, Box<str>)>,
    /// What to ask next, if these are not enough.
    pub(super) next: Option<Step>,
}

impl Said {
    /// Nothing yet; this is to be asked next.
    pub(super) fn go_on(next: Step) -> Said {
        Said { next: Some(next), ..Said::default() }
    }
}

/// A service that may know of open copies.
pub(super) trait Resolver: Send + Sync {
    /// Candidates that need no call.
    fn known(&self, _work: &Work) -> Vec<Candidate> {
        Vec::new()
    }

    /// What to ask in this step; `None` when there is nothing to ask about this work.
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask>;

    /// What the answer says. Of the statuses only those come here that are about the work: `429`, and `503` with
    /// `Retry-After`, are dealt with before.
    ///
    /// # Errors
    /// [`No`], also for every answer that is not understood.
    fn read(&self, work: &Work, step: &Step, reply: &Reply<'_>) -> Result<Said, No>;
}
