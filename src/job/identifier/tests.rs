use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(scheme: Scheme, text: &str, normal: &str) {
    let found = scheme.parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(found.normal, normal, "{text:?}");
}

#[track_caller]
fn check_bad(scheme: Scheme, text: &str) {
    if let Ok(found) = scheme.parse(text) {
        panic!("{text:?} became {found:?}");
    }
}

#[test]
fn one_doi_has_one_normal_form() {
    for spelling in [
        "10.1234/abc",
        " 10.1234/ABC\t",
        "doi:10.1234/abc",
        "DOI: 10.1234/Abc",
        "doi 10.1234/abc",
        "info:doi/10.1234/abc",
        "urn:doi:10.1234/abc",
        "https://doi.org/10.1234/ABC",
        "http://dx.doi.org/10.1234/abc",
        "HTTPS://WWW.DOI.ORG/10.1234/abc",
        "doi.org/10.1234/abc",
        "doi:https://doi.org/10.1234/abc",
        "https://doi.org/doi:10.1234/abc",
        "https://doi.org/10.1234%2Fabc",
        "https://doi.org/10.1234/abc?utm_source=mail&utm_medium=x",
        "10.1234/%61bc",
        "10.1234/abc%20",
    ] {
        check(Scheme::Doi, spelling, "10.1234/abc");
    }
}

/// The categories met among DOIs that people really asked for.
#[test]
fn awkward_dois_keep_every_character() {
    for (text, normal) in [
        // SICI suffixes, plain and percent-encoded: one job.
        (
            "10.1002/(SICI)1097-4571(199806)49:8<693::AID-ASI4>3.0.CO;2-O",
            "10.1002/(sici)1097-4571(199806)49:8<693::aid-asi4>3.0.co;2-o",
        ),
        (
            "10.1002/(SICI)1097-4571(199806)49:8%3C693::AID-ASI4%3E3.0.CO;2-O",
            "10.1002/(sici)1097-4571(199806)49:8<693::aid-asi4>3.0.co;2-o",
        ),
        (
            "10.1890/0012-9658(2006)87[2614:ATMPOT]2.0.CO;2",
            "10.1890/0012-9658(2006)87[2614:atmpot]2.0.co;2",
        ),
        ("10.1021/ja00051a040+", "10.1021/ja00051a040+"),
        ("10.1037//0022-3514.79.6.995", "10.1037//0022-3514.79.6.995"),
        ("10.1130/2015.1212(19)", "10.1130/2015.1212(19)"),
        ("10.1136/qhc.0100032..", "10.1136/qhc.0100032.."),
        ("10.1000/x&gt", "10.1000/x&gt"),
        ("10.1000/a?b=c#d", "10.1000/a?b=c#d"),
        ("https://doi.org/10.1000/a?b=c#d", "10.1000/a?b=c#d"),
        ("10.1000/x%3Futm_y", "10.1000/x?utm_y"),
        // Not an escape: kept.
        ("10.5539/jpl.v10n3%p", "10.5539/jpl.v10n3%p"),
        ("10.1000/100%", "10.1000/100%"),
        // Decoded once, not twice; not decoded where that is no UTF-8.
        ("10.1000/%2541", "10.1000/%41"),
        ("10.1000/%FF", "10.1000/%ff"),
        // Only ASCII letters fold.
        ("10.20435/intera%C3%A7%C3%B5es", "10.20435/intera\u{e7}\u{f5}es"),
        ("10.1000/A\u{c7}", "10.1000/a\u{c7}"),
        // Encoded white space inside is kept, at the end it is dropped.
        ("10.1029/2006GL027120,%202006", "10.1029/2006gl027120, 2006"),
        ("10.1080/09585192.2017.1307244%20", "10.1080/09585192.2017.1307244"),
        (
            "10.1145/1%20%3Chttp://dx.doi.org/10.1145/1%3E",
            "10.1145/1 <http://dx.doi.org/10.1145/1>",
        ),
        ("10.1000.10.5/x", "10.1000.10.5/x"),
        ("10.123456789/x", "10.123456789/x"),
    ] {
        check(Scheme::Doi, text, normal);
    }
}

#[test]
fn what_is_no_doi_is_refused() {
    for text in [
        "",
        "10.1234",
        "10.1234/",
        "10.1234/%20",
        "10.123/abc",
        "10.1234567890/abc",
        "10.12a4/abc",
        "10.1234./abc",
        "11.1234/abc",
        "https://example.org/10.1234/abc",
        "https://doi.org/",
        "10.1234/a%00b",
        "abc",
    ] {
        check_bad(Scheme::Doi, text);
    }
}

#[test]
fn arxiv_ids_old_and_new_with_their_versions() {
    for (text, normal) in [
        ("2101.00001", "2101.00001"),
        ("arXiv:2101.00001", "2101.00001"),
        ("ARXIV: 2101.00001V2", "2101.00001v2"),
        ("0704.0001", "0704.0001"),
        ("https://arxiv.org/abs/2101.00001v2", "2101.00001v2"),
        ("http://www.arxiv.org/pdf/2101.00001.pdf", "2101.00001"),
        ("https://export.arxiv.org/pdf/2101.00001v3.pdf?download=1#page=2", "2101.00001v3"),
        ("https://arxiv.org/abs/cs/0503050/", "cs/0503050"),
        ("cs/0503050", "cs/0503050"),
        ("astro-ph/0601001v1", "astro-ph/0601001v1"),
        ("math.GT/0309136", "math/0309136"),
        ("arXiv:math/0309136", "math/0309136"),
        ("MATH.GT/0309136v2", "math/0309136v2"),
    ] {
        check(Scheme::Arxiv, text, normal);
    }
    for bad in [
        "",
        "arxiv:",
        "2101.001",
        "2113.00001",
        "2100.00001",
        "2101.000001",
        "2101.00001v",
        "cs/05030",
        "cs/0513050",
        "cs.SEX/0503050",
        "/0503050",
        "https://arxiv.org/list/cs/0503050",
        "2101,00001",
        "https://example.org/abs/2101.00001",
    ] {
        check_bad(Scheme::Arxiv, bad);
    }
}

#[test]
fn pmcids_and_pubmed_ids() {
    for (text, normal) in [
        ("PMC123", "PMC123"),
        ("pmc123", "PMC123"),
        ("PMCID: PMC123", "PMC123"),
        ("123", "PMC123"),
        ("PMC00123", "PMC123"),
        ("PMC123.1", "PMC123.1"),
        ("https://www.ncbi.nlm.nih.gov/pmc/articles/PMC123/", "PMC123"),
        ("https://pmc.ncbi.nlm.nih.gov/articles/pmc123", "PMC123"),
        ("https://europepmc.org/articles/PMC123", "PMC123"),
        ("https://europepmc.org/article/PMC/PMC123", "PMC123"),
    ] {
        check(Scheme::Pmcid, text, normal);
    }
    for bad in [
        "",
        "PMC",
        "PMC0",
        "PMC12x",
        "PMC123.",
        "PMC123.x",
        "https://europepmc.org/articles/PMC1?pdf=render",
    ] {
        check_bad(Scheme::Pmcid, bad);
    }
    for (text, normal) in [
        ("31452104", "31452104"),
        ("PMID: 031452104", "31452104"),
        ("https://pubmed.ncbi.nlm.nih.gov/31452104/", "31452104"),
    ] {
        check(Scheme::Pmid, text, normal);
    }
    for bad in ["", "0", "31a", "-5", "1.5", "1234567890123"] {
        check_bad(Scheme::Pmid, bad);
    }
}

#[test]
fn urls_lose_their_fragment_and_nothing_else() {
    for (text, normal) in [
        ("https://Example.ORG:443/A?b=C#frag", "https://example.org/A?b=C"),
        ("http://example.org", "http://example.org/"),
        (" url:https://example.org/x ", "https://example.org/x"),
        ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example/"),
    ] {
        check(Scheme::Url, text, normal);
    }
    assert!(matches!(Scheme::Url.parse("ftp://example.org/x"), Err(IdentifierError::NotHttp(_))));
    assert!(matches!(Scheme::Url.parse("example.org/x"), Err(IdentifierError::Url { .. })));
    assert!(matches!(Scheme::Url.parse("https://"), Err(IdentifierError::Url { .. })));
}

#[test]
fn a_text_is_recognised_as_what_it_is() {
    for (text, id, written) in [
        ("10.1234/ABC", "doi:10.1234/abc", "10.1234/ABC"),
        ("https://doi.org/10.1234/a%3Cb", "doi:10.1234/a<b", "10.1234/a%3Cb"),
        ("arXiv:2101.00001v2", "arxiv:2101.00001v2", "2101.00001v2"),
        ("https://arxiv.org/pdf/cs/0503050.pdf", "arxiv:cs/0503050", "cs/0503050"),
        ("math.GT/0309136", "arxiv:math/0309136", "math.GT/0309136"),
        ("pmc99", "pmcid:PMC99", "pmc99"),
        ("pmid:99", "pmid:99", "99"),
        ("https://pubmed.ncbi.nlm.nih.gov/99/", "pmid:99", "99"),
        ("url:http://example.org/a", "url:http://example.org/a", "http://example.org/a"),
        (
            "https://doi.org/the-identifier",
            "url:https://doi.org/the-identifier",
            "https://doi.org/the-identifier",
        ),
        (
            "https://arxiv.org/list/cs/new",
            "url:https://arxiv.org/list/cs/new",
            "https://arxiv.org/list/cs/new",
        ),
        (
            "https://europepmc.org/articles/PMC1?pdf=render",
            "url:https://europepmc.org/articles/PMC1?pdf=render",
            "https://europepmc.org/articles/PMC1?pdf=render",
        ),
        (
            "https://journal.example/10.1234/abc",
            "url:https://journal.example/10.1234/abc",
            "https://journal.example/10.1234/abc",
        ),
    ] {
        let found = Identifier::recognise(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((found.artifact_id().as_str(), found.written), (id, written), "{text:?}");
    }
    assert!(matches!(Identifier::recognise("doi:10.1/x"), Err(IdentifierError::Doi(_))));
    assert!(matches!(Identifier::recognise("arxiv:x"), Err(IdentifierError::Arxiv(_))));
    for unknown in ["", "31452104", "hello", "ftp://example.org/", "PMCX", "ISBN 3-16-148410-0"] {
        let error = Identifier::recognise(unknown).unwrap_err();
        assert_eq!(error, IdentifierError::Unknown(unknown.to_owned()));
    }
}

#[test]
fn a_host_is_found_in_http_urls_only() {
    assert_eq!(host_of("https://User@Example.org:8443/x").as_deref(), Some("example.org"));
    assert_eq!(host_of("http://[::1]:80/").as_deref(), Some("::1"));
    assert_eq!(host_of("ftp://example.org/"), None);
    assert_eq!(host_of("example.org"), None);
}

fn spelling() -> impl Strategy<Value = String> {
    prop_oneof![
        "(doi:|DOI: |https://doi.org/|)10\\.[0-9]{3,10}(\\.[0-9]{0,2})?/\\PC{0,12}",
        "(arXiv:|https://arxiv.org/abs/|)[0-9]{4}\\.[0-9]{3,6}([vV][0-9]{1,2})?",
        "(arXiv:|)[a-zA-Z-]{1,8}(\\.[A-Z]{2})?/[0-9]{7}(v[0-9])?",
        "(PMCID: |)(PMC|pmc)[0-9]{0,13}(\\.[0-9])?",
        "(pmid:)[0-9]{0,13}",
        "(url:|)https?://[a-zA-Z.]{1,10}(:[0-9]{1,4})?/\\PC{0,12}",
        "\\PC{0,20}",
    ]
}

proptest! {
    /// With one exception that the contract asks for: DOIs are decoded once, so a doubly encoded one has an
    /// escape in its normal form.
    #[test]
    fn a_normal_form_is_its_own_normal_form(text in spelling()) {
        if let Ok(found) = Identifier::recognise(&text) {
            let id = found.artifact_id();
            let escapes = percent_decode_str(&id).collect::<Vec<u8>>() != id.as_bytes();
            prop_assume!(found.scheme != Scheme::Doi || !escapes);
            let again = Identifier::recognise(&id).expect("a derived id is an identifier");
            prop_assert_eq!(again.artifact_id(), id);
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        for scheme in Scheme::ALL {
            let _ = scheme.parse(&text);
        }
    }
}
