//! The particulars of a fetch in lines a person can read: who was asked, what was tried, what was kept.
//!
//! Reads what a handler recorded and knows nothing of how it came about. Must never hide anything: a part that is not of
//! the form known here stays as it is, and what is of no form at all is left to be printed as JSON.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::cli::output::{Aligner, Column, printable};

/// What a resolver said.
#[derive(Debug, Deserialize)]
struct Asked {
    resolver: String,
    /// `found`, `absent`, `busy`, `broken` or `refused`.
    said: String,
    /// How many candidates it named.
    #[serde(default)]
    found: Option<u64>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    elapsed_ms: Option<u64>,
}

/// A candidate that was refused.
#[derive(Debug, Deserialize)]
struct Tried {
    #[serde(default)]
    resolver: Option<String>,
    url: String,
    reason: String,
    #[serde(default)]
    message: String,
}

/// The candidate that became the file.
#[derive(Debug, Deserialize)]
struct Kept {
    url: String,
    #[serde(default)]
    resolver: Option<String>,
    #[serde(default)]
    evidence: Option<String>,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    licence: Option<String>,
    #[serde(default)]
    version: Option<String>,
}

impl Kept {
    /// What of a manifest its line says.
    const MEMBERS: [&str; 6] = ["url", "resolver", "evidence", "bytes", "licence", "version"];
}

/// The particulars of a fetch, in parts.
#[derive(Debug)]
pub(super) struct Particulars {
    asked: Vec<Asked>,
    kept: Option<Kept>,
    tried: Vec<Tried>,
    /// What has no line of its own.
    rest: Map<String, Value>,
}

impl Particulars {
    /// Those in `detail`, of a job that is done or not; `None` when it is not what a fetch records.
    pub(super) fn read(detail: &str, is_done: bool) -> Option<Particulars> {
        let mut rest: Map<String, Value> = serde_json::from_str(detail).ok()?;
        let asked = take_list(&mut rest, "asked");
        let tried = take_list(&mut rest, "tried");
        let is_manifest = is_done
            && ["path", "sha256"].iter().all(|name| rest.get(*name).is_some_and(Value::is_string));
        if asked.is_none() && tried.is_none() && !is_manifest {
            return None;
        }
        let kept = is_manifest.then(|| Kept::deserialize(&rest).ok()).flatten();
        if kept.is_some() {
            rest.retain(|name, _| !Kept::MEMBERS.contains(&name.as_str()));
        }
        let (asked, tried) = (asked.unwrap_or_default(), tried.unwrap_or_default());
        Some(Particulars { asked, kept, tried, rest })
    }

    /// The sections there are: name and lines, none of which drives a terminal.
    pub(super) fn sections(&self) -> Vec<(&'static str, Vec<String>)> {
        let asked = aligned(self.asked.iter().map(asked_cells));
        let kept = self.kept.iter().map(kept_line);
        let tried = kept.chain(aligned(self.tried.iter().map(tried_cells))).collect();
        let rest = aligned(
            self.rest.iter().map(|(name, value)| [printable(name), shown(value), String::new()]),
        );
        let mut sections = vec![("asked", asked), ("tried", tried), ("detail", rest)];
        sections.retain(|(_, lines)| !lines.is_empty());
        sections
    }
}

/// Takes a list out, if it is there and every item is of the form.
fn take_list<T: DeserializeOwned>(from: &mut Map<String, Value>, name: &str) -> Option<Vec<T>> {
    let list = Vec::deserialize(from.get(name)?).ok()?;
    from.shift_remove(name);
    Some(list)
}

fn asked_cells(asked: &Asked) -> [String; 3] {
    let found = asked.found.filter(|_| asked.said == "found");
    let said = found.map_or_else(|| asked.said.clone(), |n| format!("{} {n}", asked.said));
    let message = printable(&asked.message);
    let took = asked.elapsed_ms.filter(|ms| *ms > 0).map(|ms| format!("{ms} ms"));
    let more = match (asked.said.as_str(), took) {
        ("found", Some(took)) if message.is_empty() => took,
        ("found", Some(took)) => format!("{took}, {message}"),
        // How long it took matters less than why there is nothing.
        (_, Some(took)) if message.is_empty() => took,
        _ => message,
    };
    [printable(&asked.resolver), printable(&said), more]
}

fn tried_cells(tried: &Tried) -> [String; 3] {
    let resolver = tried.resolver.as_deref().unwrap_or("-");
    let why = match tried.message.as_str() {
        "" => tried.reason.clone(),
        message => format!("{}: {message}", tried.reason),
    };
    // Addresses are of all lengths: what follows them is not aligned.
    [printable(resolver), printable(&format!("{}  {why}", tried.url)), String::new()]
}

fn kept_line(kept: &Kept) -> String {
    let by: Vec<&str> =
        [&kept.resolver, &kept.evidence].into_iter().flatten().map(String::as_str).collect();
    let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    let bytes = kept.bytes.map(|bytes| format!("{bytes} bytes"));
    let what: Vec<String> =
        [bytes, kept.licence.clone(), kept.version.clone()].into_iter().flatten().collect();
    printable(format!("kept  {}{by} {}", kept.url, what.join(", ")).trim_end())
}

/// Text as it is, anything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// A line for each row, in columns.
fn aligned(rows: impl Iterator<Item = [String; 3]>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.map(Vec::from).collect();
    let mut aligner = Aligner::new(&[Column::text(""); 3]);
    aligner.widen(&rows);
    rows.iter().map(|row| aligner.line(row).trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sections as `show` prints them.
    fn told(detail: &str, is_done: bool) -> String {
        let Some(particulars) = Particulars::read(detail, is_done) else {
            return "JSON".to_owned();
        };
        let section =
            |(name, lines): (&str, Vec<String>)| format!("{name}\n  {}\n", lines.join("\n  "));
        particulars.sections().into_iter().map(section).collect()
    }

    const ASKED: &str = r#""asked":[
        {"resolver":"unpaywall","said":"found","found":2,"message":"","elapsed_ms":12},
        {"resolver":"crossref","said":"absent","message":"no link","elapsed_ms":9},
        {"resolver":"doaj","said":"busy","message":"held for 3 h","elapsed_ms":0},
        {"resolver":"hal","said":"broken","elapsed_ms":7}]"#;
    const TRIED: &str = r#""tried":[
        {"id":"0f","resolver":"unpaywall","url":"https://h/a.pdf","evidence":"best_oa_location",
         "reason":"wall","message":"a page that wants a login","status":200,"passing":false},
        {"id":"1f","url":"https://b/","reason":"dns"}]"#;

    #[test]
    fn who_was_asked_and_what_was_tried_is_a_line_each() {
        assert_eq!(
            told(&format!("{{{ASKED},{TRIED}}}"), false),
            "asked\n\
             \x20 unpaywall  found 2  12 ms\n\
             \x20 crossref   absent   no link\n\
             \x20 doaj       busy     held for 3 h\n\
             \x20 hal        broken   7 ms\n\
             tried\n\
             \x20 unpaywall  https://h/a.pdf  wall: a page that wants a login\n\
             \x20 -          https://b/  dns\n"
        );
    }

    #[test]
    fn of_a_done_job_what_was_kept_comes_first_and_the_rest_is_named() {
        let manifest = r#""path":"artifacts/a.pdf","sha256":"00ff","bytes":48213,
            "media_type":"application/pdf","url":"https://h/a.pdf","final_url":"https://h/b.pdf",
            "resolver":"unpaywall","evidence":"best_oa_location","licence":"cc-by",
            "version":"publishedVersion","flags":["encrypted"]"#;
        let lone = r#"{"path":"a","sha256":"00","bytes":1,"url":"https://h/a.pdf"}"#;
        assert_eq!(
            told(&format!("{{{manifest},{TRIED}}}"), true),
            "tried\n\
             \x20 kept  https://h/a.pdf (unpaywall, best_oa_location) 48213 bytes, cc-by, publishedVersion\n\
             \x20 unpaywall  https://h/a.pdf  wall: a page that wants a login\n\
             \x20 -          https://b/  dns\n\
             detail\n\
             \x20 path        artifacts/a.pdf\n\
             \x20 sha256      00ff\n\
             \x20 media_type  application/pdf\n\
             \x20 final_url   https://h/b.pdf\n\
             \x20 flags       [\"encrypted\"]\n"
        );
        assert_eq!(
            told(lone, true),
            "tried\n  kept  https://h/a.pdf 1 bytes\ndetail\n  path    a\n  sha256  00\n"
        );
        let there = r#"{"path":"a","sha256":"00","bytes":1}"#;
        assert_eq!(told(there, true), "detail\n  path    a\n  sha256  00\n  bytes   1\n");
    }

    #[test]
    fn what_is_not_of_the_form_stays_as_it_is() {
        assert_eq!(told(r#"{"exit_status":1,"output":"no"}"#, false), "JSON");
        assert_eq!(told(r#"{"exit_status":0,"url":"https://h/"}"#, true), "JSON");
        assert_eq!(told("[1]", false), "JSON");
        assert_eq!(told("no JSON", true), "JSON");
        assert_eq!(told(r#"{"tried":"nothing"}"#, false), "JSON");
        // One part is, the other is not.
        assert_eq!(
            told(&format!("{{\"asked\":[{{\"who\":1}}],{TRIED}}}"), false),
            "tried\n\
             \x20 unpaywall  https://h/a.pdf  wall: a page that wants a login\n\
             \x20 -          https://b/  dns\n\
             detail\n\
             \x20 asked  [{\"who\":1}]\n"
        );
        // A word that is not known yet is a word all the same.
        let later = r#"{"asked":[{"resolver":"a","said":"asleep","found":1}]}"#;
        assert_eq!(told(later, false), "asked\n  a  asleep\n");
        assert_eq!(told(r#"{"asked":[],"tried":[]}"#, false), "");
    }

    #[test]
    fn nothing_that_a_server_said_drives_the_terminal() {
        let evil = "\\u001b[2J\\nx\\u009b";
        let detail = format!(
            r#"{{"asked":[{{"resolver":"{evil}","said":"{evil}","message":"{evil}"}}],
                "tried":[{{"resolver":"{evil}","url":"{evil}","reason":"{evil}","message":"{evil}"}}],
                "path":"{evil}","sha256":"{evil}","url":"{evil}","licence":"{evil}",
                "{evil}":"{evil}","list":["{evil}"]}}"#
        );
        let particulars = Particulars::read(&detail, true).unwrap();
        let sections = particulars.sections();
        assert_eq!(sections.len(), 3);
        let lines: Vec<String> = sections.into_iter().flat_map(|(_, lines)| lines).collect();
        assert_eq!(lines.len(), 7);
        assert!(!lines.iter().any(|line| line.contains(char::is_control)), "{lines:?}");
    }
}
