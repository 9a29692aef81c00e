//! Which requests go through a proxy.

use std::net::IpAddr;

use url::{Host, Url};

/// The proxies of an installation, as people configure them (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxySettings {
    /// For `http:` URLs: `http://[user:password@]host:port`; `None` or empty: none.
    pub http: Option<String>,
    /// For `https:` URLs, likewise.
    pub https: Option<String>,
    /// Hosts that are asked directly, separated by commas: `*`, names (which include their
    /// subdomains), addresses, networks (`10.0.0.0/8`), each but networks with an optional `:port`.
    pub no_proxy: String,
}

impl ProxySettings {
    /// One proxy for everything.
    #[must_use]
    pub fn everywhere(proxy: &str) -> ProxySettings {
        let proxy = Some(proxy.to_owned());
        ProxySettings { http: proxy.clone(), https: proxy, no_proxy: String::new() }
    }
}

/// The hosts that are asked directly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    All,
    Domain { name: String, port: Option<u16> },
    Address { address: IpAddr, port: Option<u16> },
    Network { first: IpAddr, prefix: u32 },
}

impl NoProxy {
    /// Reads a list. What cannot be understood matches nothing.
    pub(super) fn parse(list: &str) -> NoProxy {
        let words = list.split([',', ' ', '\t']).map(str::trim).filter(|word| !word.is_empty());
        NoProxy(words.filter_map(entry).collect())
    }

    /// Whether this URL is asked directly.
    pub(super) fn covers(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| Some(wanted) == port);
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
            Some(Host::Domain(_)) | None => None,
        };
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        self.0.iter().any(|entry| match entry {
            Entry::All => true,
            Entry::Domain { name, port } => same_port(port) && is_within(host, name),
            Entry::Address { address: own, port } => same_port(port) && address == Some(*own),
            Entry::Network { first, prefix } => {
                address.is_some_and(|address| in_network(address, *first, *prefix))
            }
        })
    }
}

fn entry(word: &str) -> Option<Entry> {
    if word == "*" {
        return Some(Entry::All);
    }
    if let Some((first, prefix)) = word.split_once('/') {
        let first: IpAddr = first.parse().ok()?;
        let prefix = prefix.parse().ok()?;
        return Some(Entry::Network { first, prefix });
    }
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Some(Entry::Address { address, port: None });
    }
    let (host, port) = match word.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (word, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Some(Entry::Address { address, port });
    }
    let name = host.trim_start_matches("*").trim_matches('.').to_ascii_lowercase();
    (!name.is_empty()).then_some(Entry::Domain { name, port })
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn in_network(address: IpAddr, first: IpAddr, prefix: u32) -> bool {
    let shared = match (address, first) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => return false,
    };
    shared >= prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_addresses_and_networks() {
        let covers = |list: &str, url: &str| NoProxy::parse(list).covers(&Url::parse(url).unwrap());
        for (list, url) in [
            ("*", "http://anything/"),
            ("example.org", "http://example.org/"),
            ("example.org", "https://a.EXAMPLE.org/"),
            (".example.org", "http://example.org./"),
            ("*.example.org", "http://a.example.org/"),
            ("x, example.org:8080", "http://example.org:8080/"),
            ("example.org:443", "https://example.org/"),
            ("10.0.0.0/8", "http://10.1.2.3/"),
            ("127.0.0.1", "http://127.0.0.1:9/"),
            ("127.0.0.1:9", "http://127.0.0.1:9/"),
            ("[::1]", "http://[::1]/"),
            ("fd00::/8", "http://[fd12::1]/"),
        ] {
            assert!(covers(list, url), "{list} {url}");
        }
        for (list, url) in [
            ("", "http://example.org/"),
            ("example.org", "http://notexample.org/"),
            ("a.example.org", "http://example.org/"),
            ("example.org:8080", "http://example.org/"),
            ("10.0.0.0/8", "http://11.0.0.1/"),
            ("10.0.0.0/99", "http://10.0.0.1/"),
            ("10.0.0.0/x", "http://10.0.0.0/"),
            ("127.0.0.1:9", "http://127.0.0.1:10/"),
            (".", "http://example.org/"),
        ] {
            assert!(!covers(list, url), "{list} {url}");
        }
    }
}
