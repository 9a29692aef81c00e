//! Pages as publishers write them, and as nobody should.

use proptest::prelude::*;

use super::*;

const AT: &str = "https://journal.test/index.php/j/article/view/7?x=1";

fn at() -> Url {
    Url::parse(AT).unwrap()
}

fn files(html: &str) -> Vec<String> {
    read(html.as_bytes(), &at()).files.into_iter().map(Into::into).collect()
}

#[track_caller]
fn check(html: &str, expected: &[&str]) {
    assert_eq!(files(html), expected, "{html}");
}

fn refresh(content: &str) -> Option<String> {
    let html = format!("<meta http-equiv='Refresh' content=\"{content}\">");
    read(html.as_bytes(), &at()).refresh.map(Into::into)
}

#[test]
fn every_meta_tag_is_known_in_any_case_and_as_a_property() {
    for name in META_NAMES {
        for html in [
            format!(r#"<meta name="{name}" content="https://h/a.pdf">"#),
            format!(r#"<META CONTENT='https://h/a.pdf' NAME='{}' />"#, name.to_uppercase()),
            format!(r#"<meta property={name} content=https://h/a.pdf>"#),
        ] {
            check(&html, &["https://h/a.pdf"]);
        }
    }
    check(r#"<meta name="citation_title" content="https://h/a.pdf">"#, &[]);
    check(r#"<meta name="dc.identifier" content="https://h/a.pdf">"#, &[]);
}

#[test]
fn alternates_are_known_by_relation_and_type() {
    check(
        r#"<link rel="alternate" type="application/pdf" href="/a.pdf">"#,
        &["https://journal.test/a.pdf"],
    );
    check(
        r#"<link rel="nofollow ALTERNATE" type=" application/PDF; x=1" href="b.pdf">"#,
        &["https://journal.test/index.php/j/article/view/b.pdf"],
    );
    check(r#"<link rel="alternate" type="application/rss+xml" href="/rss">"#, &[]);
    check(r#"<link rel="stylesheet" type="application/pdf" href="/a.pdf">"#, &[]);
}

#[test]
fn galleys_are_turned_from_pages_into_files() {
    let file = "https://journal.test/index.php/j/article/download/7/9";
    for class in ["obj_galley_link pdf", "galley-link btn", "galley-link pdf"] {
        for href in ["/index.php/j/article/view/7/9", "7/9", "/index.php/j/article/download/7/9"] {
            check(&format!("<a class='{class}' href='{href}'>PDF</a>"), &[file]);
        }
    }
    check("<a class='obj_galley_link file' href='7/9'>HTML</a>", &[]);
    check("<a class='galley-link' href='/index.php/j/article/view/7'>no galley</a>", &[]);
    check("<a class='galley-link' href='/elsewhere/7/9'>other</a>", &[]);
    check("<a class='other' href='7/9'>PDF</a>", &[]);
}

#[test]
fn what_is_trusted_most_comes_first_each_once_and_never_the_page() {
    check(
        "<a class='galley-link' href='/x/article/view/7/8'>a</a><a class='galley-link pdf' href='7/9'>b</a>
         <link rel=alternate type=application/pdf href=/c.pdf><meta name=wkhealth_pdf_url content=/d.pdf>
         <meta name=citation_pdf_url content='#top'><meta name=citation_pdf_url content=/e.pdf>
         <meta name=bepress_citation_pdf_url content=/e.pdf#page=2>",
        &[
            "https://journal.test/e.pdf",
            "https://journal.test/d.pdf",
            "https://journal.test/c.pdf",
            "https://journal.test/index.php/j/article/download/7/9",
            "https://journal.test/x/article/download/7/8",
        ],
    );
    let many: String =
        (0..40).map(|n| format!("<meta name=citation_pdf_url content=/{n}.pdf>")).collect();
    assert_eq!(files(&many).len(), MAX_FILES);
}

#[test]
fn links_are_resolved_leniently_and_entities_decoded() {
    for (content, expected) in [
        ("  /a b.pdf\n", "https://journal.test/a%20b.pdf"),
        ("//cdn.test/ä.pdf", "https://cdn.test/%C3%A4.pdf"),
        (
            "?op=dl&amp;id=1&#38;k=&#x61;",
            "https://journal.test/index.php/j/article/view/7?op=dl&id=1&k=a",
        ),
        ("https:\\\\h\\a.pdf", "https://h/a.pdf"),
        ("?a&lt=1", "https://journal.test/index.php/j/article/view/7?a&lt=1"),
    ] {
        check(&format!(r#"<meta name="citation_pdf_url" content="{content}">"#), &[expected]);
    }
    for content in ["", " ", "ftp://h/a.pdf", "javascript:void(0)", "http://", "https://[::1", "#x"]
    {
        check(&format!(r#"<meta name="citation_pdf_url" content="{content}">"#), &[]);
    }
}

#[test]
fn the_base_counts_wherever_it_stands() {
    let tag = "<meta name=citation_pdf_url content=a.pdf>";
    check(
        &format!("{tag}<base href='https://cdn.test/x/'><base href=/y/>"),
        &["https://cdn.test/x/a.pdf"],
    );
    check(&format!("<base href='/x/'>{tag}"), &["https://journal.test/x/a.pdf"]);
    check(
        &format!("<base href='ftp://h/'>{tag}"),
        &["https://journal.test/index.php/j/article/view/a.pdf"],
    );
}

#[test]
fn a_refresh_is_followed_where_it_names_a_place_and_comes_soon() {
    let there = Some("https://journal.test/go?a=1&b=2");
    for content in [
        "0; url=/go?a=1&amp;b=2",
        "5;URL='/go?a=1&amp;b=2'",
        "5 ; Url = &quot;/go?a=1&amp;b=2&quot; trailing",
        "0.5,url=/go?a=1&amp;b=2",
        "0 /go?a=1&amp;b=2",
        ";url=/go?a=1&amp;b=2",
    ] {
        assert_eq!(refresh(content).as_deref(), there, "{content}");
    }
    for content in [
        "5",
        "",
        "5;",
        "5; url=",
        "5; url=''",
        "1800; url=/logout",
        "99999999999999; url=/x",
        "0;url=data:x",
    ] {
        assert_eq!(refresh(content), None, "{content}");
    }
    assert_eq!(refresh(&format!("0;url={AT}")).as_deref(), Some(AT), "once more, with its cookie");
    let two =
        "<meta http-equiv=refresh content='0;url=/1'><meta http-equiv=refresh content='0;url=/2'>";
    assert_eq!(
        read(two.as_bytes(), &at()).refresh.map(String::from).as_deref(),
        Some("https://journal.test/1")
    );
}

#[test]
fn the_title_is_the_pages_own() {
    for (html, expected) in [
        (
            "<title>\n A &amp; B\t&lt;C&gt; </title><svg><title>icon</title></svg>",
            Some("A & B <C>"),
        ),
        ("<title></title>", None),
        ("<title>Just a moment...", Some("Just a moment...")),
        ("no title", None),
    ] {
        assert_eq!(read(html.as_bytes(), &at()).title.as_deref(), expected, "{html}");
    }
    let long = format!("<title>{}</title>", "é".repeat(5_000));
    assert!(read(long.as_bytes(), &at()).title.unwrap().len() <= MAX_TITLE_BYTES);
}

#[test]
fn what_was_read_before_the_damage_counts() {
    let tag = "<meta name=citation_pdf_url content=/a.pdf>";
    let huge = format!("{tag}<p title='{}'>", "x".repeat(2 * MAX_MEMORY_BYTES));
    for html in [format!("{tag}<meta name='"), format!("{tag}<!-- <svg><math><"), huge] {
        assert_eq!(files(&html), ["https://journal.test/a.pdf"]);
    }
    let mut bytes = vec![0xff, 0xfe, b'<', 0];
    bytes.extend(tag.as_bytes());
    assert_eq!(read(&bytes, &at()).files.len(), 1);
}

#[test]
fn only_so_much_of_a_page_is_read() {
    let mut html = " ".repeat(MAX_PAGE_BYTES);
    html.push_str("<meta name=citation_pdf_url content=/a.pdf>");
    assert_eq!(read(html.as_bytes(), &at()), Page::default());
}

const WHOLE: &str = "<!DOCTYPE html><html><head><base href='/b/'><title>T &amp; U</title><meta name=\"citation_pdf_url\" \
    content=\"a.pdf?x=1&amp;y=2\"><meta http-equiv=refresh content='5; url=\"/go\"'><link rel=alternate type=application/pdf \
    href=c.pdf></head><body><a class='obj_galley_link pdf' href='/article/view/1/2'>PDF</a><svg><title>i</title></svg></body></html>";

#[track_caller]
fn holds(page: &Page) -> Result<(), TestCaseError> {
    prop_assert!(page.files.len() <= MAX_FILES && !page.files.contains(&at()));
    let all = page.files.iter().chain(&page.refresh);
    for url in all {
        prop_assert!(matches!(url.scheme(), "http" | "https") && url.fragment().is_none());
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(html: Vec<u8>) {
        holds(&read(&html, &at()))?;
    }

    #[test]
    fn no_markup_makes_it_panic(html in "(<|>|/|!--|meta|base|title|link|a|svg|script|template| |=|'|\"|name|content|href|rel|class|http-equiv|refresh|citation_pdf_url|galley-link|url|&|#|;|[0-9]|é|\0){0,60}") {
        holds(&read(html.as_bytes(), &at()))?;
    }

    #[test]
    fn no_change_of_a_valid_page_makes_it_panic(
        from in 0..WHOLE.len(), length in 0_usize..60, instead in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut html = WHOLE.as_bytes().to_vec();
        html.splice(from..(from + length).min(WHOLE.len()), instead);
        holds(&read(&html, &at()))?;
    }

    #[test]
    fn no_refresh_makes_it_panic(content in "[0-9]{0,3}[ ;,.urlURL='\"é/]{0,20}") {
        let _ = refresh_target(&content);
    }
}
