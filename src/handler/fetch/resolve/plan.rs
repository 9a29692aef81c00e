//! Which services are asked, in which order, and why others are not.
//!
//! The one table of all services. A service that needs what is not there is off, and says so; it is never asked in the hope
//! that it will do without.

use url::Url;

use super::local::{self, LandingPage, Line};
use super::{ApiKey, Resolver, Step, Terms, Work};
use crate::job::{Key, normalise_host};

/// What is set about one resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverSettings {
    /// Its name.
    pub name: Box<str>,
    /// Whether to ask it; `None`: when it has what it needs.
    pub enabled: Option<bool>,
    /// Where to ask; `None`: its well-known address.
    pub base_url: Option<Url>,
    /// Its key.
    pub api_key: Option<ApiKey>,
}

impl ResolverSettings {
    /// A resolver with nothing set.
    #[must_use]
    pub fn named(name: &str) -> ResolverSettings {
        ResolverSettings { name: name.into(), enabled: None, base_url: None, api_key: None }
    }
}

/// A resolver that is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Off {
    /// Its name.
    pub resolver: &'static str,
    /// Why.
    pub why: OffReason,
}

/// Why a resolver is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OffReason {
    /// It is not in the list of resolvers.
    #[error("it is not in fetch.resolvers")]
    NotListed,
    /// It is switched off.
    #[error("it is switched off (enabled = false)")]
    Disabled,
    /// It wants to know whom to write to.
    #[error("it needs an e-mail address: set fetch.contact_email")]
    NoContact,
    /// It is of little use without a key.
    #[error("it needs a key: set api_key, or enabled = true to ask it without")]
    NoKey,
}

/// A name or an address that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No such resolver.
    #[error("there is no resolver {0:?}")]
    Unknown(Box<str>),
    /// The address has no host, or no path can be put below it.
    #[error("resolvers.{0}.base_url: expected an http(s) URL with a host")]
    BaseUrl(Box<str>),
}

/// What a service cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Contact,
    /// A key, or the word of whoever runs this that it is to be asked without.
    Key,
}

/// A service there is.
struct Service {
    name: &'static str,
    base: &'static str,
    needs: Needs,
    /// Hosts that are its own: whoever names a file there, getting it counts as asking this service.
    hosts: &'static [&'static str],
    make: fn(Terms) -> Box<dyn Resolver>,
}

macro_rules! service {
    ($module:ident :: $type:ident, $needs:ident, $hosts:expr) => {
        Service {
            name: super::$module::NAME,
            base: super::$module::BASE,
            needs: Needs::$needs,
            hosts: $hosts,
            make: |terms| Box::new(super::$module::$type(terms)),
        }
    };
}

/// Every service, in the order that serves people well.
const SERVICES: &[Service] = &[
    Service {
        name: super::LINE,
        base: local::DOI_ORG,
        needs: Needs::Nothing,
        hosts: &[],
        make: |_| Box::new(Line),
    },
    service!(arxiv::Arxiv, Nothing, &["arxiv.org", "export.arxiv.org", "www.arxiv.org"]),
    service!(pmc::Pmc, Nothing, &["pmc-oa-opendata.s3.amazonaws.com"]),
    service!(unpaywall::Unpaywall, Contact, &[]),
    service!(openalex::OpenAlex, Key, &[]),
    service!(crossref::Crossref, Nothing, &[]),
    service!(europe_pmc::EuropePmc, Nothing, &[]),
    service!(core_ac::Core, Key, &["core.ac.uk"]),
    service!(doaj::Doaj, Nothing, &[]),
    service!(semantic_scholar::SemanticScholar, Key, &[]),
    service!(zenodo::Zenodo, Nothing, &["zenodo.org"]),
    service!(datacite::DataCite, Nothing, &[]),
    service!(hal::Hal, Nothing, &[]),
    service!(osf::Osf, Key, &["osf.io", "api.osf.io"]),
    service!(openaire::OpenAire, Key, &[]),
    service!(figshare::Figshare, Nothing, &["figshare.com", "ndownloader.figshare.com"]),
    Service {
        name: super::LANDING_PAGE,
        base: local::DOI_ORG,
        needs: Needs::Nothing,
        hosts: &[],
        make: |terms| Box::new(LandingPage(terms)),
    },
    service!(wayback::Wayback, Nothing, &["web.archive.org", "archive.org"]),
];

/// Another name that people know the URLs in the line by.
const LINE_ALIAS: &str = "openalex_urls";

/// The names of all resolvers, in the order that serves people well.
pub fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|service| service.name)
}

/// A resolver that is asked.
pub(in crate::handler::fetch) struct Active {
    /// Its name.
    pub(in crate::handler::fetch) name: &'static str,
    /// It.
    pub(in crate::handler::fetch) resolver: Box<dyn Resolver>,
}

/// Which resolvers are asked, in which order.
pub(in crate::handler::fetch) struct Plan {
    active: Vec<Active>,
    off: Vec<Off>,
}

impl Plan {
    /// The plan of these settings, in their order.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(in crate::handler::fetch) fn new(
        settings: &[ResolverSettings],
        contact: Option<&str>,
    ) -> Result<Plan, PlanError> {
        let mut plan = Plan { active: Vec::new(), off: Vec::new() };
        for own in settings {
            let service = service(&own.name)?;
            match off(service, own, contact) {
                Some(why) => plan.off.push(Off { resolver: service.name, why }),
                None => plan.active.push(active(service, own, contact)?),
            }
        }
        let listed = |name| settings.iter().any(|own| is_name_of(&own.name, name));
        let unlisted = names().filter(|name| !listed(name));
        plan.off.extend(unlisted.map(|resolver| Off { resolver, why: OffReason::NotListed }));
        Ok(plan)
    }

    /// The plan of these.
    #[cfg(test)]
    pub(in crate::handler::fetch) fn of(active: Vec<Active>) -> Plan {
        Plan { active, off: Vec::new() }
    }

    /// The resolvers that are asked, in order.
    pub(in crate::handler::fetch) fn active(&self) -> &[Active] {
        &self.active
    }

    /// Those that are not, and why.
    pub(in crate::handler::fetch) fn off(&self) -> &[Off] {
        &self.off
    }

    /// The key under which a work is first asked about; `None` when nobody can be asked.
    pub(in crate::handler::fetch) fn first_key(
        &self,
        work: &Work,
        hint: Option<&str>,
    ) -> Option<Key> {
        self.active.iter().find_map(|active| {
            if let Some(first) = active.resolver.known(work).first() {
                let hint = hint.filter(|_| active.name == super::LINE);
                return key_of_file(&first.url, hint);
            }
            let ask = active.resolver.ask(work, &Step::default())?;
            Key::new(Some(active.name), ask.url.host_str()).ok()
        })
    }
}

/// The key under which a file is asked for: its host, and the service whose own host that is, else `hint`.
pub(in crate::handler::fetch) fn key_of_file(url: &Url, hint: Option<&str>) -> Option<Key> {
    let host = normalise_host(url.host_str()?).ok()?;
    let owner = SERVICES.iter().find(|service| service.hosts.contains(&&*host));
    Key::new(owner.map(|service| service.name).or(hint), Some(&host)).ok()
}

/// The resolver of that name, whatever it needs.
#[cfg(any(test, fuzzing))]
pub(super) fn made(name: &str, terms: Terms) -> Option<Box<dyn Resolver>> {
    service(name).ok().map(|service| (service.make)(terms))
}

fn is_name_of(text: &str, name: &str) -> bool {
    text == name || (name == super::LINE && text == LINE_ALIAS)
}

fn service(name: &str) -> Result<&'static Service, PlanError> {
    let found = SERVICES.iter().find(|service| is_name_of(name, service.name));
    found.ok_or_else(|| PlanError::Unknown(name.into()))
}

fn off(service: &Service, own: &ResolverSettings, contact: Option<&str>) -> Option<OffReason> {
    match (own.enabled, service.needs) {
        (Some(false), _) => Some(OffReason::Disabled),
        (_, Needs::Contact) if contact.is_none() => Some(OffReason::NoContact),
        (None, Needs::Key) if own.api_key.is_none() => Some(OffReason::NoKey),
        _ => None,
    }
}

fn active(
    service: &'static Service,
    own: &ResolverSettings,
    contact: Option<&str>,
) -> Result<Active, PlanError> {
    let bad = || PlanError::BaseUrl(service.name.into());
    let base = match &own.base_url {
        Some(base) => base.clone(),
        None => Url::parse(service.base).map_err(|_| bad())?,
    };
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(bad());
    }
    let terms = Terms { base, key: own.api_key.clone(), contact: contact.map(Box::from) };
    Ok(Active { name: service.name, resolver: (service.make)(terms) })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{never_panics, terms, work};
    use super::*;

    fn plan(settings: &[ResolverSettings], contact: Option<&str>) -> Plan {
        Plan::new(settings, contact).map_err(|error| error.to_string()).unwrap()
    }

    fn all() -> Vec<ResolverSettings> {
        names().map(ResolverSettings::named).collect()
    }

    fn why(plan: &Plan, name: &str) -> Option<OffReason> {
        plan.off().iter().find(|off| off.resolver == name).map(|off| off.why)
    }

    /// Each has a test of its own with an answer of its service; this one forgets none.
    #[test]
    fn nothing_makes_any_of_them_panic() {
        for name in names() {
            never_panics(&*made(name, terms("https://service.test/api")).unwrap(), "{}");
        }
    }

    #[test]
    fn every_service_can_be_made_and_is_named_once() {
        let with_keys: Vec<_> = all()
            .into_iter()
            .map(|own| ResolverSettings { api_key: Some(ApiKey::new("k")), ..own })
            .collect();
        let plan = plan(&with_keys, Some("me@lib.test"));
        assert!(plan.off().is_empty(), "{:?}", plan.off());
        let mut unique: Vec<&str> = names().collect();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), plan.active().len());
    }

    /// `config/default.toml` is where people look up what there is and where it is asked.
    #[test]
    fn the_configuration_knows_the_same_services_in_the_same_order() {
        use crate::config::{DEFAULT_TOML, RESOLVERS};
        assert_eq!(names().collect::<Vec<_>>(), RESOLVERS);
        for service in SERVICES.iter().filter(|service| service.name != super::super::LINE) {
            let name = service.name;
            let (_, section) = DEFAULT_TOML.split_once(&format!("\n[resolvers.{name}]")).unwrap();
            let section = section.split("\n[").next().unwrap();
            let base = format!("\n# base_url = \"{}\"", service.base);
            assert!(section.contains(&base), "{name}: no {base}");
            let says = |word: &str| section.lines().next().unwrap().contains(word);
            match service.needs {
                Needs::Nothing => {}
                Needs::Contact => assert!(says("needs fetch.contact_email"), "{name}"),
                Needs::Key => assert!(says("needs a key") || says("enabled = true"), "{name}"),
            }
        }
    }

    #[test]
    fn what_needs_what_is_not_there_is_off_and_says_why() {
        let without = plan(&all(), None);
        assert_eq!(why(&without, "unpaywall"), Some(OffReason::NoContact));
        assert_eq!(why(&without, "line"), None);
        let mut own = ResolverSettings::named("unpaywall");
        own.enabled = Some(false);
        let disabled = plan(&[own], Some("me@lib.test"));
        assert_eq!(why(&disabled, "unpaywall"), Some(OffReason::Disabled));
        assert_eq!(why(&disabled, "landing_page"), Some(OffReason::NotListed));
    }

    #[test]
    fn whoever_is_on_for_its_key_sends_it_and_nobody_else_does() {
        let works = crate::handler::fetch::resolve::trial::everything();
        for service in SERVICES {
            let base = Url::parse(service.base).unwrap();
            let key = Some(ApiKey::new("thekey"));
            let resolver = (service.make)(Terms { base, key, contact: Some("me@lib.test".into()) });
            let Some(ask) = resolver.ask(&works, &Step::default()) else { continue };
            let in_header = ask.secret.is_some_and(|(_, key)| key.reveal().contains("thekey"));
            let sends = in_header || ask.url.as_str().contains("thekey");
            assert_eq!(sends, service.needs == Needs::Key, "{}", service.name);
        }
    }

    #[test]
    fn a_wrong_name_and_a_wrong_address_are_refused() {
        let error = |own: ResolverSettings| Plan::new(&[own], None).err().unwrap().to_string();
        assert!(error(ResolverSettings::named("unpaywal")).contains("unpaywal"));
        let mut own = ResolverSettings::named("landing_page");
        own.base_url = Some(Url::parse("mailto:x@y").unwrap());
        assert!(error(own).contains("resolvers.landing_page.base_url"));
    }

    #[test]
    fn the_first_key_is_what_will_be_asked_first() {
        let plan = plan(&all(), Some("me@lib.test"));
        let key = |work: &Work| plan.first_key(work, Some("mirror")).map(|key| key.to_string());
        assert_eq!(key(&work("10.1/x")).as_deref(), Some("pmc at www.ncbi.nlm.nih.gov"));
        let paper = Work { arxiv: Some("2101.00001".into()), ..Work::default() };
        assert_eq!(key(&paper).as_deref(), Some("arxiv at arxiv.org"));
        let mut given = work("10.1/x");
        given.given.push(Url::parse("http://h.test/a.pdf").unwrap());
        assert_eq!(key(&given).as_deref(), Some("mirror at h.test"));
        given.given[0] = Url::parse("http://www.arxiv.org/pdf/2101.00001").unwrap();
        assert_eq!(key(&given).as_deref(), Some("arxiv at www.arxiv.org"));
        assert_eq!(key(&Work::default()), None);
    }
}
