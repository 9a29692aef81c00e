//! The Wayback Machine: what an archive kept of URLs that gave no file.
//!
//! ```text
//!   failed[0]  available? ---- a snapshot -> candidate; then failed[1]
//!                  |  none
//!                 CDX index -- a snapshot -> candidate; then failed[1]
//!                  |  none
//!   failed[1]  available? …
//! ```
//!
//! The availability API (archive.org/help/wayback_api.php) is quick and forgetful; the CDX index
//! (github.com/internetarchive/wayback/tree/master/wayback-cdx-server) knows every snapshot. A candidate is the `id_` form of a snapshot: the bytes
//! as they were archived, without the archive's banner.

use serde_json::Value;
use url::Url;

use super::loose::{each, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "wayback";
/// Where it is.
pub(super) const BASE: &str = "https://archive.org";

/// The most URLs of one work that it is asked for. It is slow.
const MAX_URLS: usize = 3;
/// The columns of the index, in the order in which they are asked for.
const COLUMNS: [&str; 4] = ["timestamp", "original", "mimetype", "statuscode"];

/// The Wayback Machine.
pub(super) struct Wayback(pub(super) Terms);

/// Which URL a step asks for, and where.
#[derive(Clone, Copy)]
struct Place {
    nth: usize,
    is_index: bool,
}

impl Place {
    fn of(step: &Step) -> Place {
        Place { nth: usize::from(step.number / 2), is_index: step.number % 2 == 1 }
    }

    /// The step; `None` when it is one too many.
    fn step(self, work: &Work) -> Option<Step> {
        failed(work, self.nth)?;
        let number = u8::try_from(2 * self.nth + usize::from(self.is_index)).ok()?;
        Some(Step::new(number, ""))
    }

    fn next_url(self) -> Place {
        Place { nth: self.nth + 1, is_index: false }
    }
}

/// The URL that is asked for as the nth. The archive's own are left out: it has no snapshots of snapshots.
fn failed(work: &Work, nth: usize) -> Option<&Url> {
    let is_own = |url: &Url| {
        url.host_str().is_some_and(|host| host == "archive.org" || host.ends_with(".archive.org"))
    };
    work.failed.iter().filter(|url| !is_own(url)).take(MAX_URLS).nth(nth)
}

impl Resolver for Wayback {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let place = Place::of(step);
        let failed = failed(work, place.nth)?;
        if place.is_index {
            return Some(Ask::json(self.index(failed)));
        }
        let mut url = self.0.url(["wayback", "available"]);
        url.query_pairs_mut().append_pair("url", failed.as_str());
        if let Some(year) = year(work) {
            url.query_pairs_mut().append_pair("timestamp", &format!("{year}0701"));
        }
        Some(Ask::json(url))
    }

    fn read(&self, work: &Work, step: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let place = Place::of(step);
        let Some(failed) = failed(work, place.nth) else {
            return Err(No::broken("an answer to what was not asked"));
        };
        let snapshot =
            if place.is_index { read_index(work, reply)? } else { read_available(failed, reply)? };
        let candidate = snapshot.and_then(|snapshot| self.candidate(&snapshot, place.is_index));
        let is_found = candidate.is_some();
        let next = match candidate {
            None if !place.is_index => Place { is_index: true, ..place }.step(work),
            _ => place.next_url().step(work),
        };
        if !is_found && next.is_none() {
            return Err(No::absent("no snapshot of the URLs that failed"));
        }
        Ok(Said { found: candidate.into_iter().collect(), next, ..Said::default() })
    }
}

/// One capture of a URL.
#[derive(Debug, PartialEq)]
struct Snapshot {
    /// `YYYYMMDDhhmmss`, or the beginning of that.
    timestamp: String,
    original: String,
    media_type: String,
}

impl Wayback {
    /// The host that holds the snapshots and their index. Where the base is somebody else's, that one.
    fn snapshots(&self) -> Url {
        let mut url = self.0.base.clone();
        if url.host_str() == Some("archive.org") {
            // Cannot fail: it is a host in place of a host.
            let _ = url.set_host(Some("web.archive.org"));
        }
        url
    }

    fn index(&self, failed: &Url) -> Url {
        let mut url = Terms { base: self.snapshots(), key: None, contact: None }
            .url(["cdx", "search", "cdx"]);
        url.query_pairs_mut()
            .append_pair("url", failed.as_str())
            .append_pair("output", "json")
            .append_pair("filter", "statuscode:200")
            .append_pair("limit", "20")
            .append_pair("fl", &COLUMNS.join(","));
        url
    }

    fn candidate(&self, snapshot: &Snapshot, from_index: bool) -> Option<Candidate> {
        let Snapshot { timestamp, original, media_type } = snapshot;
        let base = self.snapshots();
        let url = format!("{}/web/{timestamp}id_/{original}", base.as_str().trim_end_matches('/'));
        let evidence = if from_index { "cdx" } else { "available" };
        if media_type.contains("html") {
            Candidate::page(&url, evidence)
        } else {
            Candidate::file(&url, evidence)
        }
    }
}

/// The year of publication, if a timestamp can hold it.
fn year(work: &Work) -> Option<i16> {
    work.year.filter(|year| (1000..=9999).contains(year))
}

fn is_timestamp(text: &str) -> bool {
    (4..=14).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// A status, which some answers give as a text and some as a number.
fn is_200(value: &Value) -> bool {
    text(value) == Some("200") || value.as_u64() == Some(200)
}

/// The closest snapshot, if the answer names a usable one.
fn read_available(failed: &Url, reply: &Reply<'_>) -> Result<Option<Snapshot>, No> {
    let body: Value = reply.json()?;
    if !body.is_object() {
        return Err(No::broken("an answer that is no object"));
    }
    let closest = &body["archived_snapshots"]["closest"];
    let is_there = closest["available"].as_bool() == Some(true) && is_200(&closest["status"]);
    let timestamp = text(&closest["timestamp"]).filter(|it| is_there && is_timestamp(it));
    Ok(timestamp.map(|timestamp| {
        // What was captured may be spelled otherwise than what was asked for.
        let before = format!("/web/{timestamp}/");
        let captured = text(&closest["url"]).and_then(|url| url.split_once(&before));
        Snapshot {
            timestamp: timestamp.to_owned(),
            original: captured.map_or(failed.as_str(), |(_, original)| original).to_owned(),
            media_type: String::new(),
        }
    }))
}

/// The best snapshot in the index, if there is any: a PDF if possible, and near the year of publication.
fn read_index(work: &Work, reply: &Reply<'_>) -> Result<Option<Snapshot>, No> {
    if reply.status == 403 && is_withheld(reply.body) {
        return Ok(None);
    }
    reply.ok()?;
    if reply.body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let body: Value = reply.json()?;
    let rows = body.as_array().ok_or_else(|| No::broken("an answer that is no list"))?;
    let is_header = |row: &Value| text(&row[0]) == Some(COLUMNS[0]);
    let rows: Vec<&Value> = rows.iter().filter(|row| !is_header(row)).collect();
    let is_understood = |row: &&Value| COLUMNS.iter().enumerate().all(|(n, _)| !row[n].is_null());
    let best = rows.iter().filter_map(|row| snapshot(row)).min_by_key(|snapshot| {
        (!snapshot.media_type.contains("pdf"), distance(&snapshot.timestamp, year(work)))
    });
    if best.is_none() && !rows.iter().all(is_understood) {
        return Err(No::broken("an index that is not understood"));
    }
    Ok(best)
}

/// Whether the archive says that it does not show this site. Nothing is to be had then, and the next URL may be another site's.
fn is_withheld(body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body);
    ["AdministrativeAccessControlException", "RobotAccessControlException"]
        .iter()
        .any(|name| body.contains(name))
}

fn snapshot(row: &Value) -> Option<Snapshot> {
    let timestamp = text(&row[0]).filter(|it| is_timestamp(it))?;
    let original = text(&row[1])?;
    let media_type = each(&row[2]).find_map(text).unwrap_or_default().to_ascii_lowercase();
    is_200(&row[3]).then(|| Snapshot {
        timestamp: timestamp.to_owned(),
        original: original.to_owned(),
        media_type,
    })
}

/// How many months lie between a snapshot and the middle of the year; how old it is where no year is known, the latest being nearest.
fn distance(timestamp: &str, year: Option<i16>) -> i64 {
    let part =
        |range: std::ops::Range<usize>| timestamp.get(range).and_then(|it| it.parse::<i64>().ok());
    let months = part(0..4).unwrap_or(0) * 12 + part(4..6).unwrap_or(1);
    year.map_or(-months, |year| (months - (i64::from(year) * 12 + 7)).abs())
}

#[cfg(test)]
mod tests;
