//! What an HTML page says about the file it stands for: the tags that publishers and repositories put there for machines.
//!
//! The page is read as a stream, in bounded memory, and never as a tree. Nobody promises that it is valid: what was read up to the place
//! where reading fails counts. Must never panic, and never take a page for a file: what is found here is only where to look.

mod entities;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use lol_html::html_content::{Element, TextChunk};
use lol_html::{HtmlRewriter, MemorySettings, Settings, element, text};
use url::Url;

use super::payload::{MAX_URL_BYTES, askable};

/// The most of a page that is read. The tags stand in its head.
const MAX_PAGE_BYTES: usize = 1_024 * 1_024;
/// The most memory for reading: one tag must fit, an inlined image need not.
const MAX_MEMORY_BYTES: usize = 256 * 1_024;
/// The most files that a page names.
const MAX_FILES: usize = 8;
/// The most links of one kind that are looked at.
const MAX_LINKS_OF_A_KIND: usize = 16;
/// The longest title that is kept.
const MAX_TITLE_BYTES: usize = 300;
/// Who wants to be left later than this wants to end a session, not to lead on.
const MAX_REFRESH_SECONDS: u32 = 60;

/// Names in meta tags that name the file, most trusted first. `citation_pdf_url` is Google Scholar's
/// (scholar.google.com/intl/en/scholar/inclusion.html); the others belong to bepress, EPrints and Wolters Kluwer.
const META_NAMES: [&str; 4] =
    ["citation_pdf_url", "bepress_citation_pdf_url", "eprints.document_url", "wkhealth_pdf_url"];
/// The kinds of links, after those of [`META_NAMES`].
const ALTERNATE: usize = META_NAMES.len();
const GALLEY_PDF: usize = ALTERNATE + 1;
const GALLEY: usize = GALLEY_PDF + 1;
const KINDS: usize = GALLEY + 1;

/// What a page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Where it says that the file is, most trusted first; each once, never the page itself.
    pub(super) files: Vec<Url>,
    /// Where it sends a browser. May be the page itself, which then wants to be asked once more (with its cookie).
    pub(super) refresh: Option<Url>,
    /// Its title, for people.
    pub(super) title: Option<String>,
}

/// Reads the page that was found at `at`.
pub(super) fn read(html: &[u8], at: &Url) -> Page {
    let raw = RefCell::new(Raw::default());
    scan(&html[..html.len().min(MAX_PAGE_BYTES)], &raw);
    raw.into_inner().resolve(at)
}

/// What stands in the tags, entities decoded, nothing resolved: the `<base>` may come late.
#[derive(Default)]
struct Raw {
    links: [Vec<String>; KINDS],
    base: Option<String>,
    refresh: Option<String>,
    titles: usize,
    title: String,
}

fn scan(html: &[u8], raw: &RefCell<Raw>) {
    let settings = Settings::new()
        .with_strict(false)
        .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(MAX_MEMORY_BYTES))
        .append_element_content_handler(element!("meta", |tag| {
            raw.borrow_mut().meta(tag);
            Ok(())
        }))
        .append_element_content_handler(element!("link[href]", |tag| {
            raw.borrow_mut().link(tag);
            Ok(())
        }))
        .append_element_content_handler(element!("a[href][class]", |tag| {
            raw.borrow_mut().anchor(tag);
            Ok(())
        }))
        .append_element_content_handler(element!("base[href]", |tag| {
            let mut raw = raw.borrow_mut();
            let href = attribute(tag, "href");
            raw.base = raw.base.take().or(href);
            Ok(())
        }))
        .append_element_content_handler(element!("title", |_| {
            raw.borrow_mut().titles += 1;
            Ok(())
        }))
        .append_element_content_handler(text!("title", |chunk| {
            raw.borrow_mut().title(chunk);
            Ok(())
        }));
    let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| {});
    // After an error it must not be touched again; what was read counts.
    if rewriter.write(html).is_ok() {
        let _ = rewriter.end();
    }
}

/// An attribute's text; `None` where it is missing or blank.
fn attribute(tag: &Element<'_, '_>, name: &str) -> Option<String> {
    let value = tag.get_attribute(name)?;
    let value = entities::decode(&value);
    let value = value.trim();
    (!value.is_empty() && value.len() <= MAX_URL_BYTES).then(|| value.to_owned())
}

fn has_word(words: &str, word: &str) -> bool {
    words.split_ascii_whitespace().any(|it| it.eq_ignore_ascii_case(word))
}

impl Raw {
    fn add(&mut self, kind: usize, link: Option<String>) {
        if let (Some(links), Some(link)) = (self.links.get_mut(kind), link)
            && links.len() < MAX_LINKS_OF_A_KIND
        {
            links.push(link);
        }
    }

    fn meta(&mut self, tag: &Element<'_, '_>) {
        for name in ["name", "property"].into_iter().filter_map(|it| attribute(tag, it)) {
            if let Some(kind) = META_NAMES.iter().position(|it| it.eq_ignore_ascii_case(&name)) {
                self.add(kind, attribute(tag, "content"));
            }
        }
        let directive = attribute(tag, "http-equiv");
        if self.refresh.is_none() && directive.is_some_and(|it| it.eq_ignore_ascii_case("refresh"))
        {
            let content = attribute(tag, "content");
            self.refresh = content.as_deref().and_then(refresh_target).map(str::to_owned);
        }
    }

    fn link(&mut self, tag: &Element<'_, '_>) {
        let is_alternate = attribute(tag, "rel").is_some_and(|rel| has_word(&rel, "alternate"));
        let kind = attribute(tag, "type").unwrap_or_default().to_ascii_lowercase();
        if is_alternate && kind.starts_with("application/pdf") {
            self.add(ALTERNATE, attribute(tag, "href"));
        }
    }

    /// A link to a galley, as Open Journal Systems and its themes call the forms of an article.
    fn anchor(&mut self, tag: &Element<'_, '_>) {
        let Some(classes) = attribute(tag, "class") else { return };
        let is_pdf = has_word(&classes, "pdf");
        let kind = match has_word(&classes, "galley-link") {
            true if is_pdf => GALLEY_PDF,
            true => GALLEY,
            false if is_pdf && has_word(&classes, "obj_galley_link") => GALLEY_PDF,
            false => return,
        };
        self.add(kind, attribute(tag, "href"));
    }

    /// A piece of a title. Only the page's own counts, not those of its pictures.
    fn title(&mut self, chunk: &TextChunk<'_>) {
        let room = MAX_TITLE_BYTES.saturating_sub(self.title.len());
        if self.titles == 1 && room > 0 {
            let piece = chunk.as_str();
            self.title.push_str(&piece[..piece.floor_char_boundary(room)]);
        }
    }

    fn resolve(self, at: &Url) -> Page {
        let at = askable(at.clone()).unwrap_or_else(|_| at.clone());
        let base = self.base.as_deref().and_then(|base| join(&at, base));
        let base = base.unwrap_or_else(|| at.clone());
        let mut files: Vec<Url> = Vec::new();
        for (kind, links) in self.links.iter().enumerate() {
            for url in links.iter().filter_map(|link| join(&base, link)) {
                let url = if kind >= GALLEY_PDF { galley_file(url) } else { Some(url) };
                let url = url.filter(|url| *url != at && !files.contains(url));
                files.extend(url.filter(|_| files.len() < MAX_FILES));
            }
        }
        let title = entities::decode(&self.title);
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        Page {
            files,
            refresh: self.refresh.and_then(|link| join(&base, &link)),
            title: Some(title).filter(|title| !title.is_empty()),
        }
    }
}

/// A link as a URL that can be asked. Blanks and other characters that should be encoded are; that is the parser's own leniency.
fn join(base: &Url, link: &str) -> Option<Url> {
    base.join(link).ok().and_then(|url| askable(url).ok())
}

/// The file of a galley whose page is `…/article/view/{article}/{galley}`. A link of another form is only taken if it says itself that it
/// is a file.
fn galley_file(mut url: Url) -> Option<Url> {
    let segments: Vec<&str> = url.path_segments()?.collect();
    let verb =
        1 + segments.windows(2).position(|it| matches!(it, ["article", "view" | "download"]))?;
    let names = segments.get(verb + 1..)?.iter().filter(|name| !name.is_empty()).count();
    if names < 2 {
        return None;
    }
    let mut path: Vec<&str> = segments;
    *path.get_mut(verb)? = "download";
    let path = path.join("/");
    url.set_path(&path);
    Some(url)
}

/// The URL in `5; url=…` (HTML standard, "shared declarative refresh steps"); `None` when there is none, or not soon.
fn refresh_target(content: &str) -> Option<&str> {
    let digits = content.find(|c: char| !c.is_ascii_digit())?;
    let seconds: u32 = content[..digits].parse().unwrap_or(u32::from(digits > 0) * u32::MAX);
    let rest = content[digits..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let rest = rest.trim_start();
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start();
    let named = rest.get(..3).filter(|it| it.eq_ignore_ascii_case("url"));
    let value = named.and_then(|_| rest[3..].trim_start().strip_prefix('='));
    let value = value.map_or(rest, str::trim_start);
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        _ => value,
    };
    let value = value.trim();
    (!value.is_empty() && seconds <= MAX_REFRESH_SECONDS).then_some(value)
}
