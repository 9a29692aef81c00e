//! What each origin's `robots.txt` allows us (RFC 9309), remembered for a day. Pure: the walk gets the files.
//!
//! Must never allow what an origin forbade, take a server in trouble for one that allows, ask the time, or keep more than
//! [`MAX_ORIGINS`] origins and [`MAX_WEIGHT`] bytes of rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use robotxt::{Agent, Robots as Rules, robots_url};
use url::{Origin, Url};

use crate::job::Mono;

/// How long rules are used (RFC 9309, section 2.4).
const FRESH_FOR: Duration = Duration::from_hours(24);
/// How long a file that was not to be had is left alone; doubles each time, up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_mins(1);
const LONGEST_RETRY: Duration = Duration::from_hours(1);
/// The longest crawl delay that is kept to: who asks for more means to keep robots out, and can say so.
pub(super) const MAX_CRAWL_DELAY: Duration = Duration::from_mins(15);
/// The most origins remembered; of more, the one learned longest ago is forgotten.
const MAX_ORIGINS: usize = 1_024;
/// About the most bytes of rules remembered, for all origins together.
const MAX_WEIGHT: usize = 16 * 1_024 * 1_024;

/// What is known of one URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: get this `robots.txt` and say what came of it to [`Robots::learn`].
    Unknown(Url),
    /// It may be asked for.
    Allowed,
    /// The origin forbids it.
    Forbidden,
    /// The file was not to be had, so nothing of the origin may be asked for.
    Unavailable {
        /// When to try again.
        until: Mono,
    },
}

/// The rules of many origins (scheme, host and port), for one agent.
pub(super) struct Robots {
    agent: Box<str>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    origins: HashMap<Origin, Entry>,
    lessons: u64,
    weight: usize,
}

struct Entry {
    /// The last that were had.
    rules: Option<Arc<Rules>>,
    /// From when on the file is to be had again.
    ask_at: Mono,
    /// Times it was not to be had, since it was.
    failures: u32,
    /// The number of what was learned last.
    lesson: u64,
    /// About how many bytes the rules take.
    weight: usize,
}

impl Robots {
    /// Knows of no origin. `agent` is our product token (RFC 9309, section 2.2.1); of a whole user agent, such as
    /// `orch/1.0 (+mailto:…)`, the part before the first `/` or space is.
    pub(super) fn new(agent: &str) -> Robots {
        let token = agent.trim().split(['/', ' ']).next().unwrap_or_default();
        Robots { agent: token.into(), table: Mutex::default() }
    }

    /// Whether `url` may be asked for at `now`.
    pub(super) fn ask(&self, url: &Url, now: Mono) -> Known {
        let Ok(file) = robots_url(url) else {
            // Not of the web, or without a host: there is no file that could forbid it.
            return Known::Allowed;
        };
        if url.path() == file.path() {
            return Known::Allowed;
        }
        let rules = match self.table.lock().origins.get(&url.origin()) {
            Some(entry) if now < entry.ask_at => match &entry.rules {
                Some(rules) => Arc::clone(rules),
                None => return Known::Unavailable { until: entry.ask_at },
            },
            Some(_) | None => return Known::Unknown(file),
        };
        // A long file takes a while to match: without the lock.
        if rules.is_url_allowed(url) { Known::Allowed } else { Known::Forbidden }
    }

    /// Takes in what came, at `now`, of getting the `robots.txt` of `url`'s origin: the status that its redirects led to
    /// (0: no answer) and the body. Returns the crawl delay the rules in force ask of us, at most [`MAX_CRAWL_DELAY`].
    ///
    /// With any 2xx the body's rules hold, as far as its first 500 KiB go. A file that is not there or that we may not see
    /// (4xx) allows everything, and so do redirects without an end (3xx). 429, 5xx and no answer tell nothing: the rules
    /// known before go on being used, and without any nothing is allowed (RFC 9309, section 2.3.1).
    pub(super) fn learn(&self, url: &Url, status: u16, body: &[u8], now: Mono) -> Option<Duration> {
        let rules = match status {
            200..=299 if !is_markup(body) => Some(Rules::parse(body, Agent::Exact(&self.agent))),
            429 => None,
            200..=499 => Some(Rules::allow_all()),
            _ => None,
        };
        let rules = self.table.lock().learn(url.origin(), rules.map(Arc::new), now);
        let delay = rules?.crawl_delay()?.min(MAX_CRAWL_DELAY);
        Some(delay).filter(|delay| !delay.is_zero())
    }
}

impl Table {
    /// Returns the rules in force.
    fn learn(
        &mut self,
        origin: Origin,
        rules: Option<Arc<Rules>>,
        now: Mono,
    ) -> Option<Arc<Rules>> {
        let before = self.origins.remove(&origin);
        self.weight -= before.as_ref().map_or(0, |entry| entry.weight);
        self.lessons += 1;
        let entry = match (rules, before) {
            (Some(rules), _) => Entry {
                weight: weight(&rules),
                rules: Some(rules),
                ask_at: now.plus(FRESH_FOR),
                failures: 0,
                lesson: self.lessons,
            },
            (None, before) => {
                let failures = before.as_ref().map_or(0, |entry| entry.failures);
                Entry {
                    weight: before.as_ref().map_or(0, |entry| entry.weight),
                    ask_at: now.plus(retry_after(failures)),
                    rules: before.and_then(|entry| entry.rules),
                    failures: failures.saturating_add(1),
                    lesson: self.lessons,
                }
            }
        };
        let in_force = entry.rules.clone();
        self.weight += entry.weight;
        self.origins.insert(origin, entry);
        self.shrink();
        in_force
    }

    fn shrink(&mut self) {
        while self.origins.len() > MAX_ORIGINS || self.weight > MAX_WEIGHT {
            let oldest = self.origins.iter().min_by_key(|(_, entry)| entry.lesson);
            let Some(origin) = oldest.map(|(origin, _)| origin.clone()) else { return };
            let gone = self.origins.remove(&origin);
            self.weight -= gone.map_or(0, |entry| entry.weight);
        }
    }
}

/// How long a file is left alone that was not to be had so many times before.
fn retry_after(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(doubled).min(LONGEST_RETRY)
}

/// Whether it is a page in place of the file, as many servers answer with for whatever is not there.
fn is_markup(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    text.trim_ascii_start().starts_with(b"<")
}

/// About how many bytes these rules take.
fn weight(rules: &Rules) -> usize {
    const OF_A_RULE: usize = 48;
    const OF_A_URL: usize = 96;
    let own = rules.rules().iter().map(|rule| rule.pattern().len() + OF_A_RULE);
    let sitemaps = rules.sitemaps().iter().map(|url| url.as_str().len() + OF_A_URL);
    own.chain(sitemaps).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Mono = Mono::from_ms(1_000);

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn later(by: Duration) -> Mono {
        NOW.plus(by)
    }

    /// What an origin with this file says to us of each path.
    #[track_caller]
    fn check(file: impl AsRef<[u8]>, allowed: &[&str], forbidden: &[&str]) {
        let robots = Robots::new("orch");
        robots.learn(&url("https://a.org/"), 200, file.as_ref(), NOW);
        let of = |path: &str| robots.ask(&url(&format!("https://a.org{path}")), NOW);
        for path in allowed {
            assert_eq!(of(path), Known::Allowed, "{path}");
        }
        for path in forbidden {
            assert_eq!(of(path), Known::Forbidden, "{path}");
        }
    }

    #[test]
    fn the_longest_rule_of_our_group_decides() {
        let file =
            "User-agent: *\nDisallow: /\n\nUser-agent: OrCh\nDisallow: /pdf\nAllow: /pdf/open\n";
        check(file, &["/", "/x", "/pdf/open/1"], &["/pdf", "/pdf/1"]);
        check("User-agent: *\nDisallow: /x\nAllow: /x\n", &["/x", "/x/y"], &[]);
        check("User-agent: *\nDisallow: /*.pdf$\n", &["/a.pdf?x", "/a.html"], &["/a.pdf"]);
    }

    #[test]
    fn without_a_group_of_ours_that_of_everybody_holds() {
        let file = "User-agent: bot\nDisallow: /\nUser-agent: *\nDisallow: /pdf\n";
        check(file, &["/x"], &["/pdf"]);
        check("User-agent: bot\nDisallow: /\n", &["/x"], &[]);
        check("User-agent: orchestra\nDisallow: /\n", &["/x"], &[]);
        check("User-agent: orch\nDisallow:\n\nUser-agent: *\nDisallow: /\n", &["/x"], &[]);
    }

    #[test]
    fn groups_of_ours_are_one_and_a_group_may_name_many() {
        let file =
            "User-agent: orch\nDisallow: /a\n\nUser-agent: x\nUser-agent: orch\nDisallow: /b\n";
        check(file, &["/c"], &["/a", "/b"]);
        check("Disallow: /\nUser-agent: *\nDisallow: /b\n", &["/a"], &["/b"]);
    }

    #[test]
    fn queries_and_percent_encoding_count() {
        let file =
            "User-agent: *\nDisallow: /pdf?x\nDisallow: /%61b\nDisallow: /ä\nDisallow: /s%2Ft\n";
        let allowed = ["/pdf", "/pdf?y", "/s/t", "/a", "/pdf#?x"];
        check(
            file,
            &allowed,
            &["/pdf?x", "/pdf?x=1", "/ab", "/%61b", "/%C3%A4", "/%c3%a4x", "/s%2ft"],
        );
    }

    #[test]
    fn line_ends_marks_and_comments_do_no_harm() {
        for file in [
            "\u{feff}User-agent: *\nDisallow: /b\n",
            "User-agent: *\rDisallow: /b\r",
            "User-agent: *\r\nDisallow: /b\r\n",
            "User-agent: *\0Disallow: /b\0",
            "# x\nuser-AGENT : * # all\n\n  disallow:/b # no\n",
            "User-agent: *\nSitemap: https://a.org/s.xml\nDisallow: /b",
        ] {
            check(file, &["/a"], &["/b"]);
        }
        check(b"User-agent: *\nDisallow: /\xff\n", &["/a"], &["/%FF"]);
    }

    #[test]
    fn a_page_in_place_of_the_file_forbids_nothing() {
        for page in [
            "<!DOCTYPE html><html><body>Not found</body></html>",
            "\u{feff}\n <html>\nUser-agent: *\nDisallow: /\n</html>",
            "",
            "Not found",
        ] {
            check(page, &["/", "/x?y"], &[]);
        }
    }

    #[test]
    fn only_the_first_500_kib_count() {
        let rule = "User-agent: *\nDisallow: /a\n";
        let filler = "# nothing\n".repeat(50 * 1_024);
        check(format!("{rule}{filler}Disallow: /b\n"), &["/b"], &["/a"]);
    }

    #[test]
    fn the_file_itself_is_always_allowed_and_each_origin_has_its_own() {
        let robots = Robots::new("orch/1.0 (+mailto:x@example.org)");
        let all = b"User-agent: orch\nDisallow: /\n";
        robots.learn(&url("https://u:p@a.org/x?y#z"), 200, all, NOW);
        for (asked, expected) in [
            ("https://a.org/x", Known::Forbidden),
            ("https://a.org:443/x", Known::Forbidden),
            ("https://a.org/robots.txt", Known::Allowed),
            ("https://b.org/robots.txt?x", Known::Allowed),
            ("http://a.org/x", Known::Unknown(url("http://a.org/robots.txt"))),
            ("https://u:p@a.org:8443/x?y#z", Known::Unknown(url("https://a.org:8443/robots.txt"))),
            ("https://www.a.org/", Known::Unknown(url("https://www.a.org/robots.txt"))),
            ("data:text/plain,x", Known::Allowed),
        ] {
            assert_eq!(robots.ask(&url(asked), NOW), expected, "{asked}");
        }
    }

    #[test]
    fn what_the_status_says_of_an_origin_without_rules() {
        let until = later(FIRST_RETRY);
        for (statuses, expected) in [
            (&[200, 204, 301, 308, 400, 401, 403, 404, 410, 451][..], Known::Allowed),
            (&[0, 100, 429, 500, 502, 503, 599, 999], Known::Unavailable { until }),
        ] {
            for status in statuses {
                let robots = Robots::new("orch");
                assert_eq!(robots.learn(&url("https://a.org/"), *status, b"", NOW), None);
                assert_eq!(robots.ask(&url("https://a.org/x"), NOW), expected, "{status}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_to_be_had_is_asked_for_ever_less_often() {
        let robots = Robots::new("orch");
        let (page, file) = (url("https://a.org/x"), url("https://a.org/robots.txt"));
        let mut now = NOW;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(robots.ask(&page, now), Known::Unknown(file.clone()));
            robots.learn(&file, 503, b"", now);
            let until = now.plus(Duration::from_mins(minutes));
            assert_eq!(robots.ask(&page, now), Known::Unavailable { until });
            now = until;
        }
        robots.learn(&file, 200, b"", now);
        assert_eq!(robots.ask(&page, now), Known::Allowed);
        now = now.plus(FRESH_FOR);
        robots.learn(&file, 0, b"", now);
        let one_on = now.plus(FIRST_RETRY);
        assert_eq!(
            robots.ask(&page, one_on),
            Known::Unknown(file),
            "it begins with a minute again"
        );
    }

    #[test]
    fn rules_are_used_for_a_day_and_until_there_are_others() {
        let robots = Robots::new("orch");
        let (page, file) = (url("https://a.org/x"), url("https://a.org/robots.txt"));
        let rules = b"User-agent: *\nCrawl-delay: 2\nDisallow: /x\n";
        let two = Some(Duration::from_secs(2));
        assert_eq!(robots.learn(&file, 200, rules, NOW), two);
        let almost = later(FRESH_FOR - Duration::from_nanos(1));
        assert_eq!(robots.ask(&page, almost), Known::Forbidden);
        let day_on = later(FRESH_FOR);
        assert_eq!(robots.ask(&page, day_on), Known::Unknown(file.clone()));
        for status in [503, 429, 0] {
            assert_eq!(robots.learn(&file, status, b"", day_on), two);
            assert_eq!(robots.ask(&page, day_on), Known::Forbidden, "the old rules, at {status}");
        }
        assert_eq!(robots.learn(&file, 404, rules, day_on), None);
        assert_eq!(robots.ask(&page, day_on), Known::Allowed);
    }

    #[test]
    fn the_crawl_delay_is_that_of_our_group_and_bounded() {
        let seconds = |seconds: f64| Some(Duration::from_secs_f64(seconds));
        for (file, expected) in [
            ("User-agent: *\nCrawl-delay: 10\n", seconds(10.0)),
            ("User-agent: *\nCrawl-delay: 0.5\nDisallow: /\n", seconds(0.5)),
            ("User-agent: *\nCrawl-delay: 10\nUser-agent: orch\nCrawl-delay: 3\n", seconds(3.0)),
            ("User-agent: *\nCrawl-delay: 10\n\nUser-agent: orch\nDisallow: /x\n", None),
            ("User-agent: x\nCrawl-delay: 10\n", None),
            ("User-agent: *\nCrawl-delay: 86400\n", Some(MAX_CRAWL_DELAY)),
            ("User-agent: *\nCrawl-delay: 1e30\n", None),
            ("User-agent: *\nCrawl-delay: 0\n", None),
            ("User-agent: *\nCrawl-delay: -1\n", None),
            ("User-agent: *\nCrawl-delay: NaN\n", None),
            ("User-agent: *\nCrawl-delay: inf\n", None),
            ("User-agent: *\nCrawl-delay: soon\n", None),
        ] {
            let learned =
                Robots::new("orch").learn(&url("https://a.org/"), 200, file.as_bytes(), NOW);
            assert_eq!(learned, expected, "{file}");
        }
    }

    #[test]
    fn origins_and_rules_are_bounded_and_the_oldest_lesson_goes_first() {
        let robots = Robots::new("orch");
        let at = |n: usize| url(&format!("https://h{n}.org/"));
        (0..MAX_ORIGINS).for_each(|n| _ = robots.learn(&at(n), 404, b"", NOW));
        robots.learn(&at(0), 404, b"", NOW);
        robots.learn(&at(MAX_ORIGINS), 404, b"", NOW);
        assert_eq!(robots.ask(&at(0), NOW), Known::Allowed);
        assert_eq!(robots.ask(&at(1), NOW), Known::Unknown(url("https://h1.org/robots.txt")));
        assert_eq!(robots.ask(&at(2), NOW), Known::Allowed);

        let long = format!("User-agent: *\n{}", "Disallow: /a\n".repeat(35_000));
        (0..40).for_each(|n| _ = robots.learn(&at(n), 200, long.as_bytes(), NOW));
        let (weight, origins) = {
            let table = robots.table.lock();
            (table.weight, table.origins.values().map(|entry| entry.weight).sum::<usize>())
        };
        assert_eq!(weight, origins);
        assert!(weight <= MAX_WEIGHT, "{weight}");
        assert_eq!(robots.ask(&at(39).join("/a").unwrap(), NOW), Known::Forbidden);
    }

    proptest! {
        #[test]
        fn no_file_and_no_path_makes_it_panic(
            file in prop::collection::vec(any::<u8>(), 0..400),
            path in "\\PC{0,30}",
            status: u16,
        ) {
            let robots = Robots::new("orch");
            let mut page = url("https://a.org/");
            page.set_path(&path);
            let delay = robots.learn(&page, status, &file, NOW);
            prop_assert!(delay.is_none_or(|delay| delay <= MAX_CRAWL_DELAY && !delay.is_zero()));
            let known = robots.ask(&page, NOW);
            prop_assert!(!matches!(known, Known::Unknown(_)));
        }

        #[test]
        fn no_lines_like_rules_make_it_panic(
            lines in prop::collection::vec(
                "(User-agent|Disallow|Allow|Crawl-delay|Sitemap)(:| ) ?(\\*|orch|/|[a-z*$%0-9/?é\u{0}]{0,12})",
                0..20,
            ),
            path in "/[a-z*$%0-9/?é]{0,12}",
        ) {
            let robots = Robots::new("orch");
            let page = url("https://a.org/").join(&path).unwrap_or_else(|_| url("https://a.org/"));
            robots.learn(&page, 200, lines.join("\n").as_bytes(), NOW);
            let _ = robots.ask(&page, NOW);
        }
    }
}
