//! Which addresses may be asked: only public ones, unless the configuration says otherwise.
//!
//! A line of input, a redirect or a DNS answer must never make this program talk to its own machine
//! or network. The lists are IANA's special-purpose registries (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// An address that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {why} and private addresses are refused (--allow-private lets them)")]
pub(super) struct Refused {
    /// The name or address.
    pub(super) what: String,
    /// What kind of address it is.
    pub(super) why: &'static str,
}

/// IPv4 blocks that are not the public Internet: first address, prefix length, kind.
const V4_BLOCKS: [(Ipv4Addr, u32, &str); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared (carrier-grade NAT)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Holds the metadata services of most clouds (169.254.169.254).
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a retired relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
    // Public by its number, but the host agent of every Azure machine.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a metadata service"),
];

/// IPv6 blocks that are not the public Internet, the most telling first.
const V6_BLOCKS: [(Ipv6Addr, u32, &str); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, "an embedded IPv4 address"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a local NAT64 address"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "a discard address"),
    // Teredo, ORCHID, benchmarks and what else is not for hosts.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "private"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// `::ffff:0:0/96`, where an IPv4 address is written as IPv6.
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// `64:ff9b::/96` (RFC 6052): on an IPv6-only network every public IPv4 host looks like this.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// `2002::/16` (RFC 3056): the IPv4 address follows the prefix.
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
/// `2000::/3`: all that is handed out as global unicast.
const GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What kind of address this is when it is not a public one.
pub(super) fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => not_public_v4(v4),
        IpAddr::V6(v6) => not_public_v6(v6),
    }
}

fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u32::from(address);
    V4_BLOCKS
        .iter()
        .find(|(first, prefix, _)| (bits ^ u32::from(*first)).leading_zeros() >= *prefix)
        .map(|(_, _, kind)| *kind)
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(address);
    let within =
        |(first, prefix): (Ipv6Addr, u32)| (bits ^ u128::from(first)).leading_zeros() >= prefix;
    let embedded = |shift: u32| {
        #[expect(clippy::cast_possible_truncation, reason = "exactly these 32 bits are wanted")]
        let v4 = (bits >> shift) as u32;
        not_public_v4(Ipv4Addr::from(v4))
    };
    if within(MAPPED) || within(NAT64) {
        return embedded(0);
    }
    if within(SIX_TO_FOUR) {
        return embedded(80);
    }
    let listed = V6_BLOCKS.iter().find(|(first, prefix, _)| within((*first, *prefix)));
    match listed {
        Some((_, _, kind)) => Some(kind),
        None if within(GLOBAL) => None,
        None => Some("not a global address"),
    }
}

/// Refuses a URL whose host is, without asking anybody, not public: a literal address or a name that
/// always means this machine (RFC 6761). Any other name is checked where it is resolved.
///
/// # Errors
/// [`Refused`], naming the host.
pub(super) fn check_host(url: &Url) -> Result<(), Refused> {
    let why = match url.host() {
        Some(Host::Ipv4(v4)) => not_public(v4.into()),
        Some(Host::Ipv6(v6)) => not_public(v6.into()),
        Some(Host::Domain(name)) => is_localhost(name).then_some("loopback"),
        None => None,
    };
    let what = || url.host_str().unwrap_or_default().to_owned();
    why.map_or(Ok(()), |why| Err(Refused { what: what(), why }))
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    matches!(name.as_str(), "localhost" | "localhost.localdomain" | "ip6-localhost")
        || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let public = [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "168.63.129.17",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ];
        for text in public {
            assert_eq!(not_public(text.parse().unwrap()), None, "{text}");
        }
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "4000::1",
        ];
        for text in refused {
            assert!(not_public(text.parse().unwrap()).is_some(), "{text}");
        }
    }

    #[test]
    fn a_private_host_is_seen_in_every_spelling() {
        let check = |text: &str| check_host(&Url::parse(text).unwrap()).is_err();
        for text in [
            "http://127.0.0.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost:8080/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://user@127.0.0.1/",
        ] {
            assert!(check(text), "{text}");
        }
        for text in ["http://example.org/", "http://localhost.example.org/", "http://8.8.8.8/"] {
            assert!(!check(text), "{text}");
        }
    }
}
