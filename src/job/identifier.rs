//! Persistent identifiers: many spellings, one name.
//!
//! `https://doi.org/10.1234/ABC`, `doi:10.1234/abc` and `10.1234/abc` are one job, so each scheme has one
//! normal form. Must never change an id that a person gave explicitly: only identifier *fields* and lines of
//! identifiers come here. Pure text: nothing is looked up.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Url;

use super::normalise_host;

/// A naming scheme, in the order in which a line's fields are tried for its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Digital Object Identifier, ISO 26324.
    Doi,
    /// arXiv identifier, new (`2101.00001`) or old (`cs/0503050`).
    Arxiv,
    /// PubMed Central article id (`PMC123`).
    Pmcid,
    /// PubMed id (digits).
    Pmid,
    /// An http or https address.
    Url,
}

/// An identifier found in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier<'a> {
    /// Which scheme it belongs to.
    pub scheme: Scheme,
    /// As it was written, without what only introduces it (`doi:`, `https://doi.org/`, `arXiv:` …).
    pub written: &'a str,
    /// Its normal form, without the scheme.
    pub normal: Cow<'a, str>,
}

/// A text that is not the identifier it should be. The text is cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Not a DOI.
    #[error("{0:?} is no DOI: expected 10.<registrant>/<suffix>, such as 10.1234/abc")]
    Doi(String),
    /// Not an arXiv id.
    #[error("{0:?} is no arXiv id: expected one such as 2101.00001, 2101.00001v2 or cs/0503050")]
    Arxiv(String),
    /// Not a PMCID.
    #[error("{0:?} is no PMCID: expected one such as PMC123456")]
    Pmcid(String),
    /// Not a PubMed id.
    #[error("{0:?} is no PubMed id: expected digits, such as 31452104")]
    Pmid(String),
    /// Not a URL.
    #[error("{text:?} is no URL: {source}")]
    Url {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// A URL of a scheme that is not fetched.
    #[error("{0:?} is no http or https URL")]
    NotHttp(String),
    /// None of the schemes.
    #[error("{0:?} is no DOI, arXiv id, PMCID, PubMed id or http(s) URL")]
    Unknown(String),
    /// More than one word where one identifier belongs.
    #[error(
        "{0:?} has white space inside: one identifier a line (a space in a DOI is written %20)"
    )]
    WhiteSpace(String),
}

impl Scheme {
    /// Every scheme, in the order in which a line's fields are tried for its id.
    pub const ALL: [Scheme; 5] =
        [Scheme::Doi, Scheme::Arxiv, Scheme::Pmcid, Scheme::Pmid, Scheme::Url];

    /// The field that carries it in a line: `doi`, `arxiv_id`, `pmcid`, `pmid`, `url`.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Scheme::Arxiv => "arxiv_id",
            other => other.prefix(),
        }
    }

    /// What stands before the colon of a derived id: `doi`, `arxiv`, `pmcid`, `pmid`, `url`.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Scheme::Doi => "doi",
            Scheme::Arxiv => "arxiv",
            Scheme::Pmcid => "pmcid",
            Scheme::Pmid => "pmid",
            Scheme::Url => "url",
        }
    }

    /// Reads `text` as an identifier of this scheme, in any of its spellings. The normal forms:
    ///
    /// - DOI: percent-decoded once (kept as it is where that gives no UTF-8), trimmed, ASCII letters lower-case;
    ///   every other character stays (ISO 26324 folds ASCII only). In a doi.org URL a query is part of the DOI
    ///   unless it begins with `utm_`.
    /// - arXiv: without the subject class of old ids (`math.GT/0309136` is `math/0309136`, the external form
    ///   that info.arxiv.org/help/arxiv_identifier_for_services prefers). A version stays: `v2` is another text.
    /// - PMCID: `PMC` and digits; a version (`.2`) stays.
    /// - PubMed id: digits without leading zeros.
    /// - URL: as the WHATWG URL standard serialises it, without the fragment.
    ///
    /// # Errors
    /// [`IdentifierError`] of this scheme.
    pub fn parse(self, text: &str) -> Result<Identifier<'_>, IdentifierError> {
        let text = text.trim();
        let found = match self {
            Scheme::Doi => doi(text).ok_or_else(|| IdentifierError::Doi(excerpt(text))),
            Scheme::Arxiv => arxiv(text).ok_or_else(|| IdentifierError::Arxiv(excerpt(text))),
            Scheme::Pmcid => pmcid(text).ok_or_else(|| IdentifierError::Pmcid(excerpt(text))),
            Scheme::Pmid => pmid(text).ok_or_else(|| IdentifierError::Pmid(excerpt(text))),
            Scheme::Url => url(text),
        };
        found.map(|(written, normal)| Identifier { scheme: self, written, normal })
    }

    /// Whether `text`, which is no http(s) URL, claims to be of this scheme.
    fn is_claimed_by(self, text: &str) -> bool {
        match self {
            Scheme::Doi => text.starts_with("10.") || without_doi_prefixes(text) != text,
            Scheme::Arxiv => {
                after(text, &["arxiv:", "arxiv.org/"]).is_some() || arxiv(text).is_some()
            }
            Scheme::Pmcid => {
                after(text, &["pmcid:"]).is_some()
                    || after(text, &["pmc"]).is_some_and(|rest| rest.starts_with(is_digit))
            }
            Scheme::Pmid => after(text, &["pmid:"]).is_some(),
            Scheme::Url => after(text, &["url:"]).is_some(),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

impl Identifier<'_> {
    /// Finds out which identifier `text` is. Bare digits are none: nothing says of which scheme.
    ///
    /// A URL of doi.org, arxiv.org, PubMed or a PMC article page is that identifier; any other is a URL.
    ///
    /// # Errors
    /// [`IdentifierError`] of the scheme it claims to be, or [`IdentifierError::Unknown`].
    pub fn recognise(text: &str) -> Result<Identifier<'_>, IdentifierError> {
        let text = text.trim();
        if after(text, &["http://", "https://"]).is_some() {
            let known = Scheme::ALL.into_iter().filter(|scheme| *scheme != Scheme::Url);
            let named = known.filter_map(|scheme| scheme.parse(text).ok()).next();
            return named.map_or_else(|| Scheme::Url.parse(text), Ok);
        }
        match Scheme::ALL.into_iter().find(|scheme| scheme.is_claimed_by(text)) {
            Some(scheme) => scheme.parse(text),
            None => Err(IdentifierError::Unknown(excerpt(text))),
        }
    }

    /// The job's name: `doi:10.1234/abc`, `arxiv:2101.00001`, `pmcid:PMC123`, `pmid:123`, `url:https://…`.
    #[must_use]
    pub fn artifact_id(&self) -> String {
        format!("{}:{}", self.scheme, self.normal)
    }
}

/// The normalised host of an http(s) URL; `None` for anything else.
pub(crate) fn host_of(text: &str) -> Option<Arc<str>> {
    let parsed = http_url(text.trim()).ok()?;
    normalise_host(parsed.host_str()?).ok()
}

/// At most 80 characters of a text, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

type Found<'a> = (&'a str, Cow<'a, str>);

fn doi(text: &str) -> Option<Found<'_>> {
    let written = without_doi_prefixes(text);
    let decoded = percent_decode_str(written).decode_utf8().unwrap_or(Cow::Borrowed(written));
    let trimmed = match decoded {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    };
    let normal = if trimmed.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(trimmed.to_ascii_lowercase())
    } else {
        trimmed
    };
    is_doi(&normal).then_some((written, normal))
}

/// Prefixes are found one inside the other in the wild: `doi:https://doi.org/10.1234/abc`.
fn without_doi_prefixes(text: &str) -> &str {
    let mut rest = text;
    loop {
        if let Some(path) = after_host(rest, &["doi.org/", "dx.doi.org/", "www.doi.org/"]) {
            rest = path.find("?utm_").map_or(path, |at| &path[..at]);
        } else if let Some(name) = after(rest, &["doi:", "doi ", "info:doi/", "urn:doi:"]) {
            rest = name;
        } else {
            return rest;
        }
        rest = rest.trim();
    }
}

/// Whether `text` is `10.` 4 to 9 digits, further parts of digits, `/` and anything printable.
fn is_doi(text: &str) -> bool {
    let Some((registrant, suffix)) = text.strip_prefix("10.").and_then(|t| t.split_once('/'))
    else {
        return false;
    };
    let mut parts = registrant.split('.');
    let first = parts.next().unwrap_or_default();
    (4..=9).contains(&first.len())
        && is_digits(first)
        && parts.all(is_digits)
        && !suffix.is_empty()
        && !suffix.chars().any(char::is_control)
}

fn arxiv(text: &str) -> Option<Found<'_>> {
    const HOSTS: [&str; 3] = ["arxiv.org/", "www.arxiv.org/", "export.arxiv.org/"];
    const PAGES: [&str; 6] = ["abs/", "pdf/", "html/", "format/", "e-print/", "src/"];
    let written = if let Some(path) = after_host(text, &HOSTS) {
        let path = after(path, &PAGES)?;
        let path = path.split(['?', '#']).next().unwrap_or(path).trim_end_matches('/');
        path.strip_suffix(".pdf").unwrap_or(path)
    } else {
        after(text, &["arxiv:"]).unwrap_or(text).trim_start()
    };
    let (base, version) = split_arxiv_version(written);
    let base = new_arxiv(base).map(Cow::Borrowed).or_else(|| old_arxiv(base).map(Cow::Owned))?;
    let normal = match version {
        None => base,
        Some(version) => Cow::Owned(format!("{base}v{version}")),
    };
    Some((written, normal))
}

/// `2101.00001v2` is `2101.00001` and `2`.
fn split_arxiv_version(text: &str) -> (&str, Option<&str>) {
    let head = text.trim_end_matches(is_digit);
    match head.strip_suffix(['v', 'V']) {
        Some(base) if head.len() < text.len() => (base, Some(&text[head.len()..])),
        _ => (text, None),
    }
}

/// `YYMM.NNNN` until 2014, `YYMM.NNNNN` since.
fn new_arxiv(text: &str) -> Option<&str> {
    let (date, number) = text.split_once('.')?;
    let fits = is_year_month(date) && (4..=5).contains(&number.len()) && is_digits(number);
    fits.then_some(text)
}

/// `archive/YYMMNNN` or `archive.XX/YYMMNNN`; the subject class is left away.
fn old_arxiv(text: &str) -> Option<String> {
    let (archive, number) = text.split_once('/')?;
    let (archive, class) = archive.split_once('.').unwrap_or((archive, "XX"));
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let fits = archive.starts_with(is_letter)
        && archive.chars().all(|c| is_letter(c) || c == '-')
        && class.len() == 2
        && class.chars().all(is_letter)
        && number.len() == 7
        && is_digits(number)
        && number.get(..4).is_some_and(is_year_month);
    fits.then(|| format!("{}/{number}", archive.to_ascii_lowercase()))
}

fn is_year_month(text: &str) -> bool {
    text.len() == 4 && is_digits(text) && matches!(text[2..].parse(), Ok(1_u8..=12))
}

fn pmcid(text: &str) -> Option<Found<'_>> {
    const PAGES: [&str; 6] = [
        "www.ncbi.nlm.nih.gov/pmc/articles/",
        "ncbi.nlm.nih.gov/pmc/articles/",
        "pmc.ncbi.nlm.nih.gov/articles/",
        "europepmc.org/articles/",
        "europepmc.org/article/pmc/",
        "www.europepmc.org/article/pmc/",
    ];
    // Only the article's own page: what lies below it or behind a query is a file, to be fetched as a URL.
    let page = after_host(text, &PAGES).map(|path| path.strip_suffix('/').unwrap_or(path));
    let written = page.or_else(|| after(text, &["pmcid:"])).unwrap_or(text).trim();
    let bare = after(written, &["pmc"]).unwrap_or(written);
    let (number, version) = match bare.split_once('.') {
        Some((number, version)) => (number, Some(version).filter(|v| is_digits(v))?),
        None => (bare, ""),
    };
    let number = significant_digits(number)?;
    let dot = if version.is_empty() { "" } else { "." };
    Some((written, Cow::Owned(format!("PMC{number}{dot}{version}"))))
}

fn pmid(text: &str) -> Option<Found<'_>> {
    const PAGES: [&str; 3] =
        ["pubmed.ncbi.nlm.nih.gov/", "www.ncbi.nlm.nih.gov/pubmed/", "europepmc.org/article/med/"];
    let page = after_host(text, &PAGES).map(|path| path.strip_suffix('/').unwrap_or(path));
    let written = page.or_else(|| after(text, &["pmid:"])).unwrap_or(text).trim();
    Some((written, Cow::Borrowed(significant_digits(written)?)))
}

/// Up to twelve digits that are not all zero, without leading zeros.
fn significant_digits(text: &str) -> Option<&str> {
    let number = text.trim_start_matches('0');
    (is_digits(text) && (1..=12).contains(&number.len())).then_some(number)
}

fn url(text: &str) -> Result<Found<'_>, IdentifierError> {
    let written = after(text, &["url:"]).unwrap_or(text).trim();
    let mut parsed = http_url(written)?;
    parsed.set_fragment(None);
    Ok((written, Cow::Owned(String::from(parsed))))
}

fn http_url(text: &str) -> Result<Url, IdentifierError> {
    let parsed =
        Url::parse(text).map_err(|source| IdentifierError::Url { text: excerpt(text), source })?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        _ => Err(IdentifierError::NotHttp(excerpt(text))),
    }
}

/// What follows the first of `prefixes` that `text` begins with, ASCII case aside.
fn after<'a>(text: &'a str, prefixes: &[&str]) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| {
        let (head, rest) = text.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(rest)
    })
}

/// What follows `http://`, `https://` or nothing, and then one of `places`.
fn after_host<'a>(text: &'a str, places: &[&str]) -> Option<&'a str> {
    after(after(text, &["https://", "http://"]).unwrap_or(text), places)
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
