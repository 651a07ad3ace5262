//! Where the data are: the Redis that the address names or, in cluster mode, the one node that has
//! the slot of all our names. Does not know what is kept there.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisError, ServerErrorKind,
};

/// Redirections that are followed: while a slot moves, the nodes need not agree on where it is.
const REDIRECTIONS_MAX: usize = 5;

/// What the addresses of clusters begin with.
const CLUSTER: &str = "redis-cluster://";

pub(super) struct Place {
    /// One; of a cluster, some of its nodes.
    clients: Vec<Client>,
    is_cluster: bool,
    prefix: String,
    timeout: Duration,
}

impl Place {
    /// # Errors
    /// It is no address of Redis; or one of a cluster, and the names would not be in one place.
    pub(super) fn new(url: &str, prefix: &str, timeout: Duration) -> Result<Self> {
        let is_cluster = url.starts_with(CLUSTER);
        if is_cluster && !has_hash_tag(prefix) {
            bail!("in cluster mode redis-prefix needs a hash tag, such as {{sockeye-chat}}:");
        }
        let clients = read(url)?.into_iter().map(Client::open).collect::<Result<_, _>>()?;
        Ok(Self { clients, is_cluster, prefix: prefix.to_owned(), timeout })
    }

    /// Without the password.
    pub(super) fn name(&self) -> String {
        let address = |client: &Client| client.get_connection_info().addr().to_string();
        let all: Vec<_> = self.clients.iter().map(address).collect();
        format!("Redis at {}", all.join(", "))
    }

    /// A connection to where the data are; what Redis says by itself goes to `pushed`.
    ///
    /// # Errors
    /// Redis is not there, or does not let us in; or the slot is just being moved.
    pub(super) async fn connect(
        &self,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection> {
        let pushed = move |push: PushInfo| -> Result<(), ()> {
            pushed(push);
            Ok(())
        };
        let config = self.config().set_push_sender(pushed);
        let client = self.find().await?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
    }

    async fn find(&self) -> Result<Client> {
        let mut failure = None;
        for client in self.clients.iter().cloned() {
            if !self.is_cluster {
                return Ok(client);
            }
            match self.follow(client).await {
                Ok(client) => return Ok(client),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("there is no address")?)
    }

    /// From one node of a cluster to the one that has the data.
    async fn follow(&self, mut client: Client) -> Result<Client> {
        for _ in 0..REDIRECTIONS_MAX {
            let config = self.config();
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            match self.probe(&mut connecting.await?).await {
                Ok(()) => return Ok(client),
                Err(error) => client = redirected(&client, error)?,
            }
        }
        bail!("the nodes of the cluster do not agree on where our names are")
    }

    /// Whether the data are here, as a name tells that there is nothing of.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        redis::cmd("EXISTS").arg(format!("{}none", self.prefix)).query_async(connection).await
    }

    /// # Errors
    /// It is in cluster mode, which the address does not say.
    pub(super) async fn check(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        let asked = redis::cmd("INFO").arg("cluster").query_async::<String>(connection).await;
        // Who may not ask is not told.
        if !self.is_cluster && asked.is_ok_and(|info| info.contains("cluster_enabled:1")) {
            bail!("it is in cluster mode: its address begins with {CLUSTER}");
        }
        Ok(())
    }
}

/// What each address of a URL says, as if it stood there alone.
///
/// # Errors
/// It is no address of Redis.
fn read(url: &str) -> Result<Vec<ConnectionInfo>> {
    let (login, hosts) = match url.strip_prefix(CLUSTER) {
        Some(rest) => rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts)),
        None => return Ok(vec![with_resp3(url.into_connection_info()?)]),
    };
    let at = if login.is_empty() { "" } else { "@" };
    let read = |host: &str| {
        let info = format!("redis://{login}{at}{host}").into_connection_info()?;
        ensure!(info.redis_settings().db() == 0, "a cluster has the database 0 alone");
        Ok(with_resp3(info))
    };
    hosts.split(',').map(read).collect()
}

/// Connections push, which takes RESP3.
fn with_resp3(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(settings)
}

/// Whether it is an address of Redis.
pub(crate) fn check_url(text: &str) -> Result<String, String> {
    let is_ours = |info: &ConnectionInfo| {
        matches!(info.addr(), ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_))
    };
    if read(text).is_ok_and(|all| all.iter().all(is_ours)) {
        return Ok(text.to_owned());
    }
    let one = "redis://[user[:password]@]host[:port][/database]";
    Err(format!("expected {one} or {CLUSTER}[user[:password]@]host[:port][,host[:port]...]"))
}

/// What is between the first `{` and the `}` behind it is all that a cluster looks at.
fn has_hash_tag(prefix: &str) -> bool {
    let tag = prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.is_some_and(|(tag, _)| !tag.is_empty())
}

/// Whom the node `client` has named.
fn redirected(client: &Client, error: RedisError) -> Result<Client> {
    let is_moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
    let to = error.redirect_node().filter(|_| is_moved).and_then(|(to, _)| to.rsplit_once(':'));
    let Some((host, port)) = to.and_then(|(host, port)| Some((host, port.parse().ok()?))) else {
        return Err(error.into());
    };
    let info = client.get_connection_info().clone();
    let host = match info.addr() {
        // It is reached as we have reached this one.
        ConnectionAddr::Tcp(same, _) if host.is_empty() || host == "?" => same.clone(),
        _ => host.to_owned(),
    };
    Ok(Client::open(info.set_addr(ConnectionAddr::Tcp(host, port)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_server_or_some_of_a_cluster() {
        let addresses = |url| {
            let all = read(url).ok()?;
            Some(all.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(" "))
        };
        for (url, expected) in [
            ("redis://a:7/3", Some("a:7")),
            ("redis-cluster://a:7", Some("a:7")),
            ("redis-cluster://me:se%40cret@a:7,b,c:9", Some("a:7 b:6379 c:9")),
            ("redis-cluster://a/1", None),
            ("redis-cluster://", None),
            ("a:7", None),
        ] {
            assert_eq!(addresses(url).as_deref(), expected, "{url}");
            assert_eq!(check_url(url).is_ok(), expected.is_some(), "{url}");
        }
        for info in read("redis-cluster://me:se%40cret@a,b").expect("addresses") {
            assert_eq!(info.redis_settings().username(), Some("me"));
            assert_eq!(info.redis_settings().password(), Some("se@cret"));
        }
    }

    #[test]
    fn a_hash_tag_is_something_between_the_first_braces() {
        for (prefix, has) in [
            ("sockeye-chat:", false),
            ("{sockeye-chat}:", true),
            ("a{b}c{d}", true),
            ("{}:{a}", false),
            ("}{a", false),
        ] {
            assert_eq!(has_hash_tag(prefix), has, "{prefix}");
        }
    }
}
