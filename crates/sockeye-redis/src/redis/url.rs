//! URLs of Redis with what they say of many servers. Does not know connections.

use redis::{ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError};

const SENTINEL_PORT: u16 = 26_379;

/// What a URL says.
#[derive(Debug)]
pub(super) enum Target {
    Server(ConnectionInfo),
    /// Some nodes of a cluster.
    Cluster(Vec<ConnectionInfo>),
    Sentinel(SentinelTarget),
}

#[derive(Debug)]
pub(super) struct SentinelTarget {
    /// Where the sentinels are, and how to get into the servers they watch.
    pub(super) sentinels: Vec<ConnectionInfo>,
    pub(super) service: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    #[cfg(feature = "rustls")]
    pub(super) tls: Option<super::Tls>,
}

pub(super) fn read(url: &str) -> Result<Target, RedisError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(wrong("it has no scheme", url));
    };
    match scheme {
        "redis-cluster" | "rediss-cluster" => {
            let nodes = servers(scheme, rest, None)?;
            if nodes.iter().any(|node| node.redis_settings().db() != 0) {
                return Err(wrong("a cluster has the database 0 alone", scheme));
            }
            Ok(Target::Cluster(nodes))
        }
        "redis-sentinel" | "rediss-sentinel" => {
            let sentinels = servers(scheme, rest, Some(SENTINEL_PORT))?;
            let query = rest.split_once('?').map_or("", |(_, query)| query);
            let option = |name: &str| {
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
            };
            let service = option("service").filter(|service| !service.is_empty());
            let service =
                service.ok_or_else(|| wrong("it needs `?service=` and a name", scheme))?;
            let (username, password) = (option("sentinel_username"), option("sentinel_password"));
            Ok(Target::Sentinel(SentinelTarget {
                sentinels,
                service,
                username,
                password,
                #[cfg(feature = "rustls")]
                tls: None,
            }))
        }
        _ => {
            if authority(rest).0.contains(',') {
                let what = "several hosts are of `redis-cluster://` or `redis-sentinel://`";
                return Err(wrong(what, scheme));
            }
            Ok(Target::Server(with_resp3(url.into_connection_info()?)))
        }
    }
}

/// Each host of a list, as if the URL named it alone.
fn servers(
    scheme: &str,
    rest: &str,
    default_port: Option<u16>,
) -> Result<Vec<ConnectionInfo>, RedisError> {
    let scheme = if scheme.starts_with("rediss") { "rediss" } else { "redis" };
    let (authority, path) = authority(rest);
    let path = path.split('?').next().unwrap_or_default();
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    let server = |host: &str| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = default_port.filter(|_| !has_port);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let info = format!("{scheme}://{login}{host}{port}{path}").into_connection_info()?;
        Ok(with_resp3(info))
    };
    hosts.split(',').map(server).collect()
}

/// The part with the hosts, and what follows.
fn authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// Subscriptions and commands share a connection, which takes RESP3.
fn with_resp3(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(settings)
}

/// Of the URL nothing with a password is told.
fn wrong(why: &'static str, scheme: &str) -> RedisError {
    let scheme = scheme.split(':').next().unwrap_or_default().to_owned();
    RedisError::from((ErrorKind::InvalidClientConfig, why, scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(|info| info.addr().to_string()).collect()
    }

    #[test]
    fn one_server() {
        let Ok(Target::Server(info)) = read("redis://me:se%40cret@host:7/3") else {
            panic!("it is one server's");
        };
        assert_eq!(info.addr().to_string(), "host:7");
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("me"), Some("se@cret")));
        assert_eq!((settings.db(), settings.protocol()), (3, ProtocolVersion::RESP3));
    }

    #[test]
    fn several_nodes_share_what_is_said_of_one() {
        let Ok(Target::Cluster(nodes)) = read("redis-cluster://me:pass@a,b:7001,[::1]:7002/")
        else {
            panic!("it is a cluster's");
        };
        assert_eq!(addresses(&nodes), ["a:6379", "b:7001", "::1:7002"]);
        assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("pass")));
    }

    #[test]
    fn sentinels_and_the_service_they_watch() {
        let url = "redis-sentinel://:pass@a,b:7001/2?service=main&sentinel_password=other";
        let Ok(Target::Sentinel(target)) = read(url) else { panic!("it is one of sentinels") };
        assert_eq!(addresses(&target.sentinels), ["a:26379", "b:7001"]);
        assert_eq!((&*target.service, target.password.as_deref()), ("main", Some("other")));
        let settings = target.sentinels[0].redis_settings();
        assert_eq!((settings.password(), settings.db()), (Some("pass"), 2));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, why) in [
            ("host:7", "no scheme"),
            ("http://host", ""),
            ("redis://user:pass@a,b", "redis-cluster"),
            ("redis-cluster://user:pass@a/2", "database 0"),
            ("redis-cluster://user:pass@a,,b", ""),
            ("redis-sentinel://user:pass@a", "service"),
        ] {
            let error = read(url).expect_err(url).to_string();
            assert!(error.contains(why) && !error.contains("pass@"), "{error}");
        }
    }
}
