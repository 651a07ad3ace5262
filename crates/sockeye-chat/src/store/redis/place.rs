//! Where the data are: the Redis that the address names or, in a cluster, the one node of it that
//! has the slot of all our names. Does not know what is kept there.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisError, ServerErrorKind,
};

/// Redirections that are followed: while a slot moves, the nodes need not agree on where it is.
const REDIRECTIONS_MAX: usize = 5;

pub(super) struct Place {
    client: Client,
    prefix: String,
    timeout: Duration,
}

impl Place {
    /// # Errors
    /// It is no address of Redis.
    pub(super) fn new(url: &str, prefix: &str, timeout: Duration) -> Result<Self> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        Ok(Self { client, prefix: prefix.to_owned(), timeout })
    }

    /// Without the password.
    pub(super) fn name(&self) -> String {
        format!("Redis at {}", self.client.get_connection_info().addr())
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

    /// Outside clusters the names need no hash tag, and nothing is asked.
    async fn find(&self) -> Result<Client> {
        let mut client = self.client.clone();
        if !has_hash_tag(&self.prefix) {
            return Ok(client);
        }
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

    /// Whether the data are here, and would all be, as names tell that there is nothing of.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let names = ["none", "nobody", "nowhere"].map(|name| format!("{}{name}", self.prefix));
        redis::cmd("EXISTS").arg(&names).query_async(connection).await
    }

    /// # Errors
    /// The names are not all in one place.
    pub(super) async fn check(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        let probed = self.probe(connection).await;
        probed.context("in cluster mode the prefix needs a hash tag, such as {sockeye-chat}:")
    }
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
