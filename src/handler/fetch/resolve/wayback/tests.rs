//! A conversation about several URLs, and what the archive's two services say.

use super::super::testing::{never_panics, read_step, terms};
use super::super::{Leads, NoKind};
use super::*;

const AVAILABLE: &str = r#"{"url":"http://h/a.pdf","archived_snapshots":{"closest":{"available":true,"status":"200",
    "timestamp":"20130919044612","url":"http://web.archive.org/web/20130919044612/http://www.h/a.pdf?x=1"}}}"#;
const NONE: &str = r#"{"url":"http://h/a.pdf","archived_snapshots":{}}"#;
const INDEX: &str = r#"[["timestamp","original","mimetype","statuscode"],
    ["20050101000000","http://h/a.pdf","text/html","200"],["20120601000000","http://h/1.pdf","application/pdf","200"],
    ["20190101000000","http://h/2.pdf","application/pdf","200"],["20050101000000","http://h/3.pdf","application/pdf","404"]]"#;

fn wayback() -> Wayback {
    Wayback(terms(BASE))
}

fn work(failed: &[&str], year: Option<i16>) -> Work {
    let failed = failed.iter().map(|url| Url::parse(url).unwrap()).collect();
    Work { failed, year, ..Work::default() }
}

fn ask(work: &Work, number: u8) -> Option<Url> {
    wayback().ask(work, &Step::new(number, "")).map(|ask| ask.url)
}

/// The candidates and the number of the next step, or the kind of the no.
fn read(
    work: &Work,
    number: u8,
    status: u16,
    body: &str,
) -> Result<(Vec<String>, Option<u8>), NoKind> {
    let said = read_step(&wayback(), work, &Step::new(number, ""), status, body.as_bytes());
    let said = said.map_err(|(kind, _)| kind)?;
    let urls = said.found.into_iter().map(|it| it.url.into()).collect();
    Ok((urls, said.next.map(|step| step.number)))
}

#[test]
fn it_is_asked_for_each_failed_url_in_turn() {
    let some = work(&["http://h/a.pdf?x=1&y=<2>;[3](4)\"%3c"], Some(2012));
    let url = ask(&some, 0).unwrap();
    assert!(
        url.as_str()
            .starts_with("https://archive.org/wayback/available?url=http%3A%2F%2Fh%2Fa.pdf")
    );
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert_eq!(pairs[0].1, some.failed[0].as_str());
    assert_eq!(pairs[1], ("timestamp".to_owned(), "20120701".to_owned()));
    let index = ask(&some, 1).unwrap();
    assert_eq!((index.host_str(), index.path()), (Some("web.archive.org"), "/cdx/search/cdx"));
    assert_eq!(index.query_pairs().next().unwrap().1, some.failed[0].as_str());
    assert!(ask(&some, 2).is_none());
    let unknown_year = work(&["http://h/a.pdf"], None);
    assert_eq!(ask(&unknown_year, 0).unwrap().query_pairs().count(), 1);
}

#[test]
fn snapshots_are_not_asked_for_and_three_urls_are_enough() {
    let urls =
        ["https://web.archive.org/web/1/x", "http://a/", "http://b/", "http://c/", "http://d/"];
    let many = work(&urls, None);
    for (number, expected) in
        [(0, Some("http://a/")), (4, Some("http://c/")), (6, None), (255, None)]
    {
        let asked = ask(&many, number).map(|url| url.query_pairs().next().unwrap().1.into_owned());
        assert_eq!(asked.as_deref(), expected);
    }
    assert!(ask(&work(&urls[..1], None), 0).is_none());
}

#[test]
fn another_base_is_asked_for_everything() {
    let own = Wayback(terms("http://127.0.0.1:8/archive"));
    let work = work(&["http://h/a.pdf"], None);
    let index = own.ask(&work, &Step::new(1, "")).unwrap().url;
    assert!(index.as_str().starts_with("http://127.0.0.1:8/archive/cdx/search/cdx?"));
}

#[test]
fn a_snapshot_is_taken_as_it_was_archived_and_the_next_url_comes_after() {
    let two = work(&["http://h/a.pdf", "http://h/b.pdf"], None);
    let url = "https://web.archive.org/web/20130919044612id_/http://www.h/a.pdf?x=1".to_owned();
    assert_eq!(read(&two, 0, 200, AVAILABLE), Ok((vec![url.clone()], Some(2))));
    assert_eq!(read(&two, 2, 200, AVAILABLE), Ok((vec![url], None)));
}

#[test]
fn without_one_the_index_is_asked_and_then_the_next_url() {
    let two = work(&["http://h/a.pdf", "http://h/b.pdf"], None);
    let unusable = AVAILABLE.replace("\"200\"", "\"404\"");
    for body in [NONE, "{}", &unusable, &AVAILABLE.replace("true", "false")] {
        assert_eq!(read(&two, 0, 200, body), Ok((vec![], Some(1))), "{body}");
    }
    for body in ["[]", "", "\n", r#"[["timestamp","original","mimetype","statuscode"]]"#] {
        assert_eq!(read(&two, 1, 200, body), Ok((vec![], Some(2))), "{body:?}");
        assert_eq!(read(&two, 3, 200, body), Err(NoKind::Absent), "{body:?}");
    }
    let withheld =
        "org.archive.wayback.exception.AdministrativeAccessControlException: Blocked Site";
    assert_eq!(read(&two, 1, 403, withheld), Ok((vec![], Some(2))));
}

#[test]
fn of_many_snapshots_a_pdf_near_the_year_is_best() {
    for (year, expected) in [
        (Some(2011), "https://web.archive.org/web/20120601000000id_/http://h/1.pdf"),
        (Some(2017), "https://web.archive.org/web/20190101000000id_/http://h/2.pdf"),
        (None, "https://web.archive.org/web/20190101000000id_/http://h/2.pdf"),
    ] {
        let one = work(&["http://h/a.pdf"], year);
        assert_eq!(read(&one, 1, 200, INDEX), Ok((vec![expected.to_owned()], None)));
    }
    let pages = INDEX.replace("application/pdf", "text/html");
    let one = work(&["http://h/a.pdf"], None);
    let said = read_step(&wayback(), &one, &Step::new(1, ""), 200, pages.as_bytes()).unwrap();
    assert_eq!(said.found[0].leads, Leads::Page);
}

#[test]
fn an_error_page_is_no_absence() {
    let one = work(&["http://h/a.pdf"], None);
    for number in [0, 1] {
        for (status, body) in [(200, "<html>Too busy"), (500, "[]"), (404, "{}"), (200, "7")] {
            assert_eq!(read(&one, number, status, body), Err(NoKind::Broken), "{number} {body}");
        }
    }
    assert_eq!(read(&one, 1, 200, r#"[["20120601000000"]]"#), Err(NoKind::Broken));
    assert_eq!(read(&one, 1, 403, "Forbidden"), Err(NoKind::Refused));
}

#[test]
fn nothing_makes_it_panic() {
    never_panics(&wayback(), AVAILABLE);
    never_panics(&wayback(), INDEX);
}
