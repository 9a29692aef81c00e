//! Services on loopback: what the tests of resolvers share.

use super::server::{Reply, Request, Server};
use super::*;

/// A rig whose resolvers are `names`, all of them at this server (each below a path of its own name).
pub(super) fn rig(server: &Server, names: &[&str]) -> Rig {
    Rig::with(|settings| {
        settings.contact_email = Some("me@lib.test".to_owned());
        settings.resolvers = names
            .iter()
            .map(|name| ResolverSettings {
                base_url: Some(Url::parse(&server.url(&format!("/{name}"))).unwrap()),
                enabled: Some(true),
                ..ResolverSettings::named(name)
            })
            .collect();
    })
}

/// The line that all of them are asked about.
pub(super) fn wanted() -> Value {
    json!({ "doi": "10.1234/ABC" })
}

/// Whether a request is for the resolver of that name.
pub(super) fn is_for(request: &Request, name: &str) -> bool {
    request.target.starts_with(&format!("/{name}/"))
}

/// What Unpaywall says of a DOI it does not know.
pub(super) fn absent() -> Reply {
    Reply::of(404, "", br#"{"HTTP_status_code":404,"error":true,"message":"x"}"#)
}

/// The `Host` of a request.
pub(super) fn host_of(request: &Request) -> String {
    let head = request.head.to_ascii_lowercase();
    let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    host.trim().to_owned()
}

/// The port in it.
pub(super) fn port_of(request: &Request) -> String {
    host_of(request).rsplit(':').next().unwrap().to_owned()
}
