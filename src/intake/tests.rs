//! The stream as a whole: formats, encodings, damage, limits.

use std::io::{self, Cursor, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn kinds() -> Kinds {
    Kinds::new(["exec", "fetch", "noop"].map(|name| Kind::new(name).unwrap()), Kind::fetch())
}

fn reader(input: impl Into<Vec<u8>>, format: Format) -> Reader {
    Reader::from_read("in", Cursor::new(input.into()), format, &kinds()).unwrap()
}

/// Each item as the id of its job, or as the bad line's message.
fn items(input: impl Into<Vec<u8>>, format: Format) -> Vec<String> {
    reader(input, format).map(|item| show(item.unwrap())).collect()
}

fn show(item: Item) -> String {
    match item {
        Item::Job(spec) => spec.artifact_id.to_string(),
        Item::Bad(error) => error.to_string(),
    }
}

#[track_caller]
fn check(input: impl Into<Vec<u8>>, expected: &[&str]) {
    assert_eq!(items(input, Format::Auto), expected);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn three_formats_are_told_apart() {
    check("{\"id\":\"a\"}\n{\"id\":\"b\"}\n", &["a", "b"]);
    check("# reading list\n10.1234/A\n\npmc7\n", &["doi:10.1234/a", "pmcid:PMC7"]);
    check("Title,DOI\n\"A, b\",10.1234/A\n,\nx,10.1234/b", &["doi:10.1234/a", "doi:10.1234/b"]);
    check("doi\n10.1234/A\n", &["doi:10.1234/a"]);
    check("", &[]);
    check("\n \r\n\t\n", &[]);
    for (text, format) in [("{}", Format::Jsonl), ("id,x", Format::Csv), ("x", Format::Lines)] {
        assert_eq!(reader(text, Format::Auto).format(), format);
    }
}

#[test]
fn one_job_in_every_spelling_and_format() {
    let id = ["doi:10.1234/abc"];
    for spelling in ["https://doi.org/10.1234/ABC", "doi:10.1234/abc", "10.1234/abc"] {
        check(spelling, &id);
        check(format!("{{\"doi\":\"{spelling}\"}}"), &id);
        check(format!("doi,title\n{spelling},x\n"), &id);
    }
}

#[test]
fn mark_crlf_blank_lines_and_a_missing_last_end_are_fine() {
    check("\u{feff}{\"id\":\"a\"}\r\n\r\n  \n{\"id\":\"b\"}", &["a", "b"]);
    check("\u{feff}10.1234/a\r\n\r\n10.1234/b", &["doi:10.1234/a", "doi:10.1234/b"]);
    check(
        "\u{feff}doi,x\r\n\r\n10.1234/a,\"1\"\r\n10.1234/b,2",
        &["doi:10.1234/a", "doi:10.1234/b"],
    );
    let Some(Ok(Item::Job(spec))) = reader("\u{feff} {\"id\":\"a\"} \r\n", Format::Jsonl).next()
    else {
        panic!("no job");
    };
    assert_eq!(spec.payload, "{\"id\":\"a\"}");
}

#[test]
fn a_bad_line_never_stops_the_good_ones() {
    let mut input = b"{\"id\":\"a\"}\n{\"id\":}\n\n{\"id\":\"\xc3\xa9\",\"t\":\"\xff\"}\n".to_vec();
    input.extend_from_slice(&vec![b'x'; MAX_LINE_BYTES + 1]);
    input.extend_from_slice(b"\n{\"id\":\"b\",\"kind\":\"fetsh\"}\n{\"id\":\"c\"}");
    check(
        input,
        &[
            "a",
            "in:2:7: not valid JSON: expected value",
            "in:4:16: the line is not valid UTF-8",
            "in:5:1: the line is longer than 1048576 bytes (1 MiB)",
            "in:6:18: unknown kind \"fetsh\": expected exec, fetch or noop; did you mean fetch?",
            "c",
        ],
    );
    let Some(Ok(Item::Bad(long))) = reader(vec![b'x'; 3 << 20], Format::Lines).next() else {
        panic!("no bad line");
    };
    assert_eq!(long.text.len(), 4 << 10);
}

#[test]
fn bad_lines_of_plain_text_are_placed() {
    check(
        "10.1234/a\n  no such thing\n10.1234/a b\n",
        &[
            "doi:10.1234/a",
            "in:2:3: \"no such thing\" is no DOI, arXiv id, PMCID, PubMed id or http(s) URL",
            "in:3:1: \"10.1234/a b\" has white space inside: one identifier a line (a space in a DOI is written %20)",
        ],
    );
}

#[test]
fn bad_rows_of_csv_are_placed_in_the_row() {
    let input =
        b"doi,title,priority\n10.1234/a,x\n\n10.1234/b,\"two\nlines\",urgent\nno doi,x,1\n,x,1\n\
        10.1234/c,\xff,1\n10.1234/d,\"open,1\n10.1234/e,x,1\n";
    check(
        &input[..],
        &[
            "in:2:1: 2 cells where the header has 3",
            "in:4:23: \"urgent\" is no priority: expected critical, high, normal, low, background or 0 to 4",
            "in:6:1: \"no doi\" is no DOI: expected 10.<registrant>/<suffix>, such as 10.1234/abc",
            "in:7:1: no artifact_id, and none of doi, arxiv_id, pmcid, pmid and url to derive one from",
            "in:8:11: the line is not valid UTF-8",
            "in:9:11: a quoted cell begins here and does not end within 1 MiB, or at all",
            "doi:10.1234/e",
        ],
    );
}

#[test]
fn a_csv_row_carries_its_columns_to_the_job() {
    let input = "DOI,priority,tags,PDF_urls,max_attempts,note\n\
        10.1234/a,high,a|b,https://A.example/1|https://b.example/2,4,\"said \"\"so\"\"\"\n";
    let Some(Ok(Item::Job(spec))) = reader(input, Format::Auto).next() else { panic!("no job") };
    assert_eq!(
        spec.payload,
        r#"{"doi":"10.1234/a","priority":"high","tags":["a","b"],"pdf_urls":["https://A.example/1","https://b.example/2"],"max_attempts":4,"note":"said \"so\""}"#
    );
    assert_eq!(spec.priority, crate::job::Priority::High);
    assert_eq!((spec.tags.len(), spec.max_attempts), (2, Some(4)));
    assert_eq!(spec.key.host.as_deref(), Some("a.example"));
}

#[test]
fn a_header_without_a_known_column_ends_the_file() {
    let mut reader = reader("titel;doi\nx;10.1234/a\n", Format::Csv);
    let error = reader.next().unwrap().unwrap_err();
    assert!(matches!(&error, ReadError::Header { problem: HeaderProblem::NoKnownColumn, .. }));
    assert!(error.to_string().ends_with("\"titel;doi\""), "{error}");
    assert!(reader.next().is_none());
}

#[test]
fn gzip_is_known_by_its_first_bytes_and_may_have_members() {
    let both = [gzip(b"\xef\xbb\xbf{\"id\":\"a\"}\n{\"id\""), gzip(b":\"b\"}\n")].concat();
    check(both, &["a", "b"]);
    check(gzip(b""), &[]);
    check(gzip(b"doi\r\n10.1234/a"), &["doi:10.1234/a"]);
}

#[test]
fn damaged_gzip_is_fatal_and_says_how_far_it_came() {
    let text: String = (0..20_000_u64)
        .map(|n| {
            format!("{{\"id\":\"{n}\",\"x\":\"{}\"}}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        })
        .collect();
    let whole = gzip(text.as_bytes());
    let cut = whole[..whole.len() / 2].to_vec();
    let mut wrong_sum = whole.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    for (input, at_least) in [(cut, 1_000), (wrong_sum, 20_000)] {
        let mut reader = reader(input, Format::Jsonl);
        let jobs = reader.by_ref().take_while(|item| matches!(item, Ok(Item::Job(_)))).count();
        assert!(jobs >= at_least, "{jobs}");
        assert!(reader.next().is_none(), "an error is the last word");
    }
    let mut short = self::reader(whole[..whole.len() / 2].to_vec(), Format::Jsonl);
    let error = short.find_map(Result::err).unwrap();
    let read = short.lines_read();
    assert!(matches!(error, ReadError::Gzip { lines, .. } if lines == read && read > 0), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("in is damaged or incomplete gzip, after {read} lines"))
    );
}

#[test]
fn a_read_error_on_the_way_is_fatal_and_says_how_far_it_came() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let input = Cursor::new("{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id").chain(Failing);
    let mut reader = Reader::from_read("in", input, Format::Jsonl, &kinds()).unwrap();
    assert_eq!(show(reader.next().unwrap().unwrap()), "a");
    assert_eq!(show(reader.next().unwrap().unwrap()), "b");
    let error = reader.next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot read in further than 2 lines: the disk is gone");
    assert!(reader.next().is_none());
}

#[test]
fn what_cannot_be_opened_is_named() {
    for path in ["/nonexistent/a.jsonl", "/"] {
        let error = Reader::open(Path::new(path), Format::Auto, &kinds()).err().unwrap();
        assert!(matches!(error, ReadError::Open { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("cannot open {path}: ")), "{error}");
    }
}

#[test]
fn a_file_is_read_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.txt.gz");
    std::fs::write(&path, gzip(b"doi\n10.1234/a\n")).unwrap();
    let reader = Reader::open(&path, Format::Auto, &kinds()).unwrap();
    assert_eq!(reader.format(), Format::Lines);
    let found: Vec<_> = reader.map(|item| show(item.unwrap())).collect();
    let first = format!("{}:1:1: \"doi\" is no DOI", path.display());
    assert!(found[0].starts_with(&first), "{}", found[0]);
    assert_eq!(found[1], "doi:10.1234/a");
}

#[test]
fn an_id_on_the_command_line_stays_as_typed() {
    for (id, payload, host) in [
        ("doi:10.1234/ABC", r#"{"doi":"10.1234/ABC"}"#, None),
        ("https://doi.org/10.1234/ABC", r#"{"doi":"10.1234/ABC"}"#, None),
        ("arXiv:2101.00001", r#"{"arxiv_id":"2101.00001"}"#, None),
        ("pmid:7", r#"{"pmid":"7"}"#, None),
        ("url:https://A.example/x", r#"{"url":"https://A.example/x"}"#, Some("a.example")),
        ("nightly backup", "{}", None),
        ("doi:bad", "{}", None),
    ] {
        let spec = spec_from_id(&format!(" {id} "), None, &kinds()).unwrap();
        assert_eq!((spec.artifact_id.as_str(), spec.payload.as_str()), (id, payload));
        assert_eq!(spec.key.host.as_deref(), host);
    }
    let json = "\n{ \"kind\":\"noop\",\n \"sleep_ms\":5}\n";
    let spec = spec_from_id("a", Some(json), &kinds()).unwrap();
    assert_eq!((spec.kind.as_str(), spec.payload.as_str()), ("noop", json.trim()));
    let error = spec_from_id("a", Some("{\"kind\":1}"), &kinds()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "<argument>:1:9: kind must be a string, not a number (put it in quotes)"
    );
    assert!(matches!(spec_from_id(" ", None, &kinds()).unwrap_err().fault, Fault::Id(_)));
}

#[test]
fn a_format_has_a_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert_eq!("JSON".parse::<Format>(), Err(FormatError("JSON".into())));
}

#[test]
fn names_are_listed_as_people_say_them() {
    assert_eq!(one_of(["a", "b", "c"].into_iter()), "a, b or c");
    assert_eq!(one_of(["a"].into_iter()), "a");
    assert_eq!(one_of(std::iter::empty()), "");
}

/// Where real lists of identifiers lie, when they do.
fn fixtures() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = std::env::var_os("ORCH_TEST_FIXTURES").map_or_else(beside, PathBuf::from);
    let lists = root.join("artifacts");
    if lists.is_dir() {
        return Some(lists);
    }
    eprintln!("skipped: no identifier lists at {}", lists.display());
    None
}

/// In the lists an id that begins with `doi:` is the DOI in lower case, not decoded; so where nothing is
/// encoded it is the derived id, and where something is both have the same normal form.
#[test]
fn real_identifier_lists_are_read_without_a_bad_line() {
    let Some(lists) = fixtures() else { return };
    let mut jobs = 0;
    for entry in std::fs::read_dir(lists).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for item in Reader::open(&path, Format::Auto, &kinds()).unwrap() {
            let Item::Job(spec) = item.unwrap() else { panic!("a bad line in {}", path.display()) };
            jobs += 1;
            check_derived(&spec);
        }
    }
    assert!(jobs > 0, "the lists are empty");
}

#[track_caller]
fn check_derived(spec: &JobSpec) {
    let payload: serde_json::Value = serde_json::from_str(&spec.payload).unwrap();
    let id = spec.artifact_id.as_str();
    for scheme in Scheme::ALL {
        let Some(written) = payload[scheme.field()].as_str() else { continue };
        let derived = scheme.parse(written).unwrap().artifact_id();
        let Some(name) = id.strip_prefix(&format!("{scheme}:")) else { continue };
        match scheme {
            Scheme::Doi if written.contains('%') => {
                assert_eq!(derived, scheme.parse(name).unwrap().artifact_id());
            }
            Scheme::Url => {}
            _ => assert_eq!(derived, id),
        }
        check(format!("{written}\n"), &[&derived]);
    }
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Auto), Just(Format::Jsonl), Just(Format::Csv), Just(Format::Lines)]
}

/// Bytes in which the interesting ones are common.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        4 => Just(b"\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        2 => Just(b"\"".to_vec()),
        2 => Just(b",".to_vec()),
        1 => Just(b"doi,url,tags\n".to_vec()),
        1 => Just(b"10.1234/a".to_vec()),
        1 => Just(b"{\"doi\":\"10.1234/".to_vec()),
        1 => Just(b"\"}".to_vec()),
        1 => Just(b"\xef\xbb\xbf".to_vec()),
        3 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

/// A JSON value as somebody might have spelt it.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "(-)?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
        "\"([a-z \u{e9}\u{1f600}]|\\\\u00[0-9a-f]{2}|\\\\[nrt/\\\\\"]){0,8}\"",
        Just("null".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[ {}]", all.join(" ,"))),
            proptest::collection::vec(("[x-z]{1,3}", inner), 0..4).prop_map(|all| {
                let all: Vec<_> = all.into_iter().map(|(k, v)| format!("\"{k}\" :{v}")).collect();
                format!("{{{}}}", all.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_jobs_and_bad_lines(input in bytes(), format in format()) {
        let line_ends = input.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut reader = reader(input, format);
        let mut last = 0;
        for item in reader.by_ref() {
            match item {
                Ok(Item::Job(spec)) => {
                    let one_line = spec.payload.starts_with('{') && !spec.payload.contains('\n');
                    prop_assert!(one_line);
                    prop_assert!(line::is_json(&spec.payload));
                }
                Ok(Item::Bad(error)) => {
                    prop_assert!(error.line >= last && error.line <= line_ends + 1);
                    last = error.line;
                    prop_assert!(error.text.get(error.span_offset..error.span_offset + error.span_len).is_some());
                }
                Err(error) => prop_assert!(matches!(error, ReadError::Header { .. }), "{}", error),
            }
        }
    }

    #[test]
    fn an_object_keeps_its_text(
        members in proptest::collection::vec(("[a-c ]{0,3}", json()), 0..5),
        before in "[ \t]{0,2}",
        after in "[ \t\r]{0,2}",
    ) {
        let members: String = members.iter().map(|(key, value)| format!(", \"{key}\":{value}")).collect();
        let object = format!("{{\"artifact_id\" : \"x\"{members} }}");
        let Some(Ok(Item::Job(spec))) = reader(format!("{before}{object}{after}\n"), Format::Jsonl).next() else {
            panic!("no job of {object}");
        };
        prop_assert_eq!(spec.payload, object);
    }
}
