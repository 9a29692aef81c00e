//! What a page says that came in place of a file: a login, a bill, a question whether we are human, or nothing much.
//!
//! Must not call a page a wall for a link in its header: half of all article pages have a "Sign in" there. What a page is
//! about stands in its title and its forms; single words count only on a page that has few.

use super::verdict::Verdict;
use crate::job::ErrorReason;

/// A page with less text than this is about whatever its words say.
const SHORT_TEXT_BYTES: usize = 1_500;

/// What stands on pages that want to see a human, and on no others.
const CHALLENGES: [&str; 7] = [
    "are you a robot",
    "you are human",
    "you are not a robot",
    "unusual traffic",
    "enable javascript and cookies",
    "cf-chl-",
    "cf_chl_",
];
/// What stands on them too, but also on pages with a form for comments or a script that watches.
const WEAK_CHALLENGES: [&str; 3] = ["just a moment", "captcha", "challenge-platform"];
/// What the titles of such pages say.
const CHALLENGE_TITLES: [&str; 5] =
    ["just a moment", "attention required", "captcha", "robot", "security check"];

/// What the titles of pages say that want a login.
const WALL_TITLES: [&str; 7] =
    ["sign in", "signin", "log in", "login", "access denied", "subscribe", "authentication"];
/// What is said only where there is something to pay or to be let in to.
const WALLS: [&str; 7] = [
    "do not have access",
    "don't have access",
    "buy article",
    "buy this article",
    "purchase access",
    "purchase this article",
    "rent this article",
];
/// What is said there too, but also in the header of any page.
const WEAK_WALLS: [&str; 13] = [
    "sign in",
    "signin",
    "log in",
    "login",
    "institutional access",
    "through your institution",
    "shibboleth",
    "openathens",
    "get access",
    "buy",
    "purchase",
    "subscribe",
    "paywall",
];

/// The verdict on bytes that are no PDF, whatever they were announced as.
pub(super) fn not_a_pdf(bytes: &[u8], announced: Option<&str>) -> Verdict {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let found = if is_html(&text) {
        let page = Page::of(&text);
        if page.is_challenge() {
            (ErrorReason::Challenge, "a page that wants to see a human")
        } else if page.is_wall() {
            (ErrorReason::Wall, "a page that wants a login or money")
        } else {
            (ErrorReason::UnexpectedContent, "a web page")
        }
    } else if text.trim_start().starts_with(['{', '[']) {
        (ErrorReason::UnexpectedContent, "JSON")
    } else if text.trim_start().starts_with("<?xml") {
        (ErrorReason::UnexpectedContent, "XML")
    } else {
        (ErrorReason::UnexpectedContent, "something else")
    };
    let announced: String = announced.unwrap_or("nothing").chars().take(60).collect();
    Verdict::lasting(found.0, format!("{} in place of a PDF, announced as {announced}", found.1))
}

/// Whether these bytes are a page that wants to see a human.
pub(super) fn is_challenge(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    is_html(&text) && Page::of(&text).is_challenge()
}

/// Whether this text, in lower case, is a web page.
pub(super) fn is_html(text: &str) -> bool {
    let is_json = text.trim_start().starts_with(['{', '[']);
    !is_json && has(text, &["<html", "<!doctype html", "<head", "<body", "<title"])
}

/// A page, in lower case.
struct Page<'t> {
    html: &'t str,
    title: &'t str,
    /// What a reader sees.
    text: String,
    /// Whether it describes a work to search engines, as only the page of a work does.
    describes_a_work: bool,
}

impl Page<'_> {
    fn of(html: &str) -> Page<'_> {
        let title = between(html, "<title", "</title").and_then(|text| text.split_once('>'));
        Page {
            html,
            title: title.map_or("", |(_, title)| title),
            text: visible(html),
            describes_a_work: html.contains("citation_title") || html.contains("citation_doi"),
        }
    }

    fn is_short(&self) -> bool {
        !self.describes_a_work && self.text.len() < SHORT_TEXT_BYTES
    }

    fn is_challenge(&self) -> bool {
        let is_one = has(self.title, &CHALLENGE_TITLES)
            || has(self.html, &CHALLENGES)
            || (self.is_short() && has(self.html, &WEAK_CHALLENGES));
        // The title of a work may be about robots.
        is_one && !self.describes_a_work
    }

    fn is_wall(&self) -> bool {
        let asks_for_a_password = ["type=\"password\"", "type='password'", "type=password"];
        let is_one = has(self.title, &WALL_TITLES)
            || has(self.html, &asks_for_a_password)
            || (self.is_short() && has(&self.text, &WEAK_WALLS));
        (is_one && !self.describes_a_work) || has(&self.text, &WALLS)
    }
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// What stands between the first `from` and the next `to`, or the end.
fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(from)?;
    Some(rest.split_once(to).map_or(rest, |(inner, _)| inner))
}

/// A page without its tags, comments, scripts and styles, its white space run together. A look, not a parse.
fn visible(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.extend(before.split_whitespace().flat_map(|word| [word, " "]));
        let end = match tag {
            _ if tag.starts_with("!--") => "-->",
            _ if tag.starts_with("script") => "</script>",
            _ if tag.starts_with("style") => "</style>",
            _ => ">",
        };
        // Where the end is missing, all of it is hidden.
        rest = tag.split_once(end).map_or("", |(_, after)| after);
    }
    text.extend(rest.split_whitespace().flat_map(|word| [word, " "]));
    text
}

#[cfg(test)]
mod tests {
    use proptest::proptest;

    use super::*;
    use crate::job::Reason;

    fn reason(text: &str) -> Reason {
        not_a_pdf(text.as_bytes(), None).reason
    }

    #[test]
    fn pages_are_told_apart() {
        for (text, expected) in [
            ("<html><title>Just a moment...</title>", ErrorReason::Challenge),
            ("<html><form id=\"captcha-form\">", ErrorReason::Challenge),
            ("<!DOCTYPE html><a>Log in</a>", ErrorReason::Wall),
            ("<html><body>Subscribe to read</body>", ErrorReason::Wall),
            ("<html><form><input type='password'></form>", ErrorReason::Wall),
            ("<html><title>Sign in</title>", ErrorReason::Wall),
            ("<html><body>An abstract</body>", ErrorReason::UnexpectedContent),
            ("<html><script>var login = 1</script><p>Hello", ErrorReason::UnexpectedContent),
            ("{\"error\":\"login\"}", ErrorReason::UnexpectedContent),
            ("\u{1}\u{2}", ErrorReason::UnexpectedContent),
        ] {
            assert_eq!(reason(text), Reason::Error(expected), "{text}");
        }
    }

    #[test]
    fn an_article_page_is_no_wall_for_the_links_in_its_header() {
        let header = "<header><a>Sign in</a> <a>Institutional access</a> <a>Subscribe</a></header>";
        let robot = "<script src=\"/cdn-cgi/challenge-platform/x.js\"></script>";
        let form = "<form hidden><input type=\"password\"></form>";
        let meta = "<meta name=\"citation_title\" content=\"T\">";
        let abstract_text = "This is what the article is about. ".repeat(60);
        let expected = Reason::Error(ErrorReason::UnexpectedContent);
        let described = format!("<html><head>{meta}{robot}</head>{header}{form}<p>Abstract</p>");
        assert_eq!(reason(&described), expected);
        let long = format!("<html>{robot}{header}<p>{abstract_text}</p>");
        assert_eq!(reason(&long), expected);
        let title = format!("<html><title>Login habits of robots</title>{meta}{header}");
        assert_eq!(reason(&title), expected);
        // What is said only where there is something to pay is believed everywhere.
        let sold = format!("<html>{meta}<p>{abstract_text}</p><b>Buy article</b>");
        assert_eq!(reason(&sold), Reason::Error(ErrorReason::Wall));
        let login = format!("<html><title>Log in | Press</title><p>{abstract_text}</p>");
        assert_eq!(reason(&login), Reason::Error(ErrorReason::Wall));
    }

    #[test]
    fn what_a_reader_sees_is_the_text() {
        for (html, expected) in [
            ("a <b>c</b>  d", "a c d "),
            ("<script>x < y</script>a<!-- <p>b -->c<style>d", "a c "),
            ("<", ""),
            ("a<script", "a "),
        ] {
            assert_eq!(visible(html), expected, "{html}");
        }
    }

    proptest! {
        #[test]
        fn any_page_is_survived(bytes: Vec<u8>, text in "<(html|script|!--|title|[<>a-z/-])*") {
            not_a_pdf(&bytes, None);
            not_a_pdf(format!("<html>{text}").as_bytes(), None);
        }
    }
}
