//! What needs no service: the URLs that the line gives, and the pages about the work.

use super::{Ask, Candidate, Leads, No, Reply, Resolver, Said, Step, Terms, Work};

/// Where a DOI leads to its landing page.
pub(super) const DOI_ORG: &str = "https://doi.org";
/// The most pages of one work that are read.
const MAX_PAGES: usize = 6;

/// The URLs in the line.
pub(super) struct Line;

/// Pages about the work: those of the line, those that services named, and where the DOI leads.
pub(super) struct LandingPage(pub(super) Terms);

impl Resolver for Line {
    fn known(&self, work: &Work) -> Vec<Candidate> {
        work.given.iter().filter_map(|url| Candidate::file(url.as_str(), "")).collect()
    }

    fn ask(&self, _: &Work, _: &Step) -> Option<Ask> {
        None
    }

    fn read(&self, _: &Work, _: &Step, _: &Reply<'_>) -> Result<Said, No> {
        Ok(Said::default())
    }
}

impl Resolver for LandingPage {
    fn known(&self, work: &Work) -> Vec<Candidate> {
        let page = |url: &str, evidence: &str| Candidate::page(url, evidence);
        let named = work.pages.iter().filter_map(|url| page(url.as_str(), "page"));
        let of_doi = work.doi.as_deref().map(|doi| self.0.url(doi.split('/')));
        let of_doi = of_doi.and_then(|url| page(url.as_str(), "doi.org"));
        let mut pages: Vec<Candidate> = Vec::new();
        for found in named.chain(of_doi).filter(|found| found.leads == Leads::Page) {
            if !pages.iter().any(|known| known.url == found.url) {
                pages.push(found);
            }
        }
        // Where the DOI leads comes last, and is never left out for others.
        if pages.len() > MAX_PAGES {
            pages.drain(MAX_PAGES - 1..pages.len() - 1);
        }
        pages
    }

    fn ask(&self, _: &Work, _: &Step) -> Option<Ask> {
        None
    }

    fn read(&self, _: &Work, _: &Step, _: &Reply<'_>) -> Result<Said, No> {
        Ok(Said::default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{terms, work};
    use super::*;

    #[test]
    fn where_the_doi_leads_comes_last_and_is_never_left_out() {
        let mut wanted = work("10.1234/a(b)/c");
        wanted.pages = (0..9).map(|n| url::Url::parse(&format!("http://h/{n}")).unwrap()).collect();
        let pages = LandingPage(terms(DOI_ORG)).known(&wanted);
        assert_eq!(pages.len(), MAX_PAGES);
        assert_eq!(pages[0].url.as_str(), "http://h/0");
        assert_eq!(pages[5].url.as_str(), "https://doi.org/10.1234/a(b)/c");
        assert!(pages.iter().all(|page| page.leads == Leads::Page));
    }
}
