//! The names of the resolvers there are: what `fetch.resolvers` lists and `[resolvers.NAME]` is about.
//!
//! Only names. What a resolver is and needs, the fetch handler knows; a test of `cli`, which sees both, holds the two together.

use crate::job::normalise_resolver;

/// Every resolver, in the default order of `fetch.resolvers`.
pub const RESOLVERS: [&str; 18] = [
    "line",
    "arxiv",
    "pmc",
    "unpaywall",
    "openalex",
    "crossref",
    "europe_pmc",
    "core",
    "doaj",
    "semantic_scholar",
    "zenodo",
    "datacite",
    "hal",
    "osf",
    "openaire",
    "figshare",
    "landing_page",
    "wayback",
];

/// Other names of some.
const ALIASES: [(&str, &str); 1] = [("openalex_urls", "line")];

fn find(name: &str) -> Option<&'static str> {
    let name = normalise_resolver(name).ok()?;
    let alias = ALIASES.iter().find(|(alias, _)| *alias == &*name).map(|(_, meant)| *meant);
    alias.or_else(|| RESOLVERS.into_iter().find(|known| *known == &*name))
}

/// The name of the resolver that `name`, in any spelling, means.
///
/// # Errors
/// What to say of a name that is none.
pub fn resolver_named(name: &str) -> Result<&'static str, String> {
    find(name).ok_or_else(|| format!("there is no resolver {name:?}: {}", instead(name)))
}

/// Whether every name is that of a resolver, and no resolver is named twice.
///
/// # Errors
/// What was expected.
pub(super) fn check_order(names: &[&str]) -> Result<(), String> {
    let mut seen = Vec::new();
    for name in names {
        let known = resolver_named(name).map_err(|why| format!("names of resolvers, and {why}"))?;
        if seen.contains(&known) {
            return Err(format!("each resolver once, and {known:?} is there twice"));
        }
        seen.push(known);
    }
    Ok(())
}

/// What may have been meant.
fn instead(name: &str) -> String {
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    let distance = |known: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), known);
    let aliases = ALIASES.map(|(alias, _)| alias);
    let nearest = RESOLVERS.into_iter().chain(aliases).min_by_key(distance);
    match nearest.filter(|known| distance(known) <= allowed) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("there are {}", RESOLVERS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_spelling() {
        assert_eq!(find("Europe-PMC"), Some("europe_pmc"));
        assert_eq!(find("openalex_urls"), Some("line"));
        assert_eq!(find("lines"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn what_is_no_order_is_refused_with_what_may_have_been_meant() {
        let said = |names: &[&str]| check_order(names).unwrap_err();
        assert!(said(&["arxiv", "unpaywal"]).ends_with("did you mean \"unpaywall\"?"));
        assert!(said(&["semanticscholar"]).ends_with("did you mean \"semantic_scholar\"?"));
        assert!(said(&["sci"]).contains("there are line, arxiv, "), "{}", said(&["sci"]));
        assert!(said(&["arxiv", "ArXiv"]).contains("\"arxiv\" is there twice"));
        assert!(said(&["line", "openalex_urls"]).contains("\"line\" is there twice"));
        assert_eq!(check_order(&[]), Ok(()));
        assert_eq!(check_order(&RESOLVERS), Ok(()));
    }
}
