//! Where Redis is: one server, a cluster, or what sentinels watch; and connections to it.
//! Does not know what is asked.

#[cfg(feature = "rustls")]
mod tls;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion,
    PushInfo, RedisError, RedisResult, TlsMode,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

#[cfg(feature = "rustls")]
pub use self::tls::Tls;
use self::url::{SentinelTarget, Target};

/// How long Redis may take to be connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Redis is and how to get in. Nothing is connected yet; a clone is a handle to the same.
///
/// | URL | what is there |
/// |---|---|
/// | `redis://[user[:password]@]host[:port][/database]` | one server |
/// | `unix://path` | one server |
/// | `redis-cluster://[user[:password]@]host[:port][,host[:port]…]` | a Redis Cluster |
/// | `redis-sentinel://[user[:password]@]host[:port][,…][/database]?service=name` | by sentinels |
///
/// The ports of sentinels are 26379 where none is said; the user and the password are the
/// servers', those of the sentinels are `sentinel_username` and `sentinel_password` behind the
/// `?`.
///
/// Redis 7 is needed, and its protocol RESP3 is used, whatever the URL says. With a feature for
/// TLS (`aws-lc-rs`, `ring`, or `rustls` with a provider of one's own) `rediss://`,
/// `rediss-cluster://` and `rediss-sentinel://` are encrypted, to sentinels as well.
///
/// A primary that fails is followed to its replica, by what the cluster or the sentinels say. So is
/// a slot that moves to another node.
#[derive(Clone)]
pub struct Redis(Arc<Kind>);

enum Kind {
    Server(Client),
    Cluster {
        /// How to get into every node; the address is the first's.
        info: Box<ConnectionInfo>,
        seeds: Vec<Arc<str>>,
    },
    Sentinel {
        client: Mutex<SentinelClient>,
        service: String,
    },
}

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The one server that takes everything.
    Only,
    /// A node of a cluster, at `host:port`.
    Node(Arc<str>),
}

impl Redis {
    /// Takes a URL.
    ///
    /// # Errors
    /// It is no such URL, or asks for TLS without a feature for it.
    pub fn open(url: &str) -> Result<Self, RedisError> {
        #[cfg(feature = "rustls")]
        if url.starts_with("rediss") {
            tls::ensure_provider();
        }
        Self::with(url::read(url)?)
    }

    /// Takes a URL of those with TLS, and whom to trust.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use sockeye_redis::{Redis, Tls};
    ///
    /// let tls = Tls { ca_certificates: Some(std::fs::read("ca.pem")?), ..Tls::default() };
    /// let redis = Redis::open_with_tls("rediss-cluster://a.example:6379,b.example:6379", tls)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// It is no such URL, or a certificate or key cannot be read.
    #[cfg(feature = "rustls")]
    pub fn open_with_tls(url: &str, tls: Tls) -> Result<Self, RedisError> {
        tls::ensure_provider();
        let mut target = url::read(url)?;
        match &mut target {
            Target::Server(info) => tls.add_to(info)?,
            Target::Cluster(infos) => infos.iter_mut().try_for_each(|info| tls.add_to(info))?,
            Target::Sentinel(target) => {
                target.sentinels.iter_mut().try_for_each(|info| tls.add_to(info))?;
                target.tls = Some(tls);
            }
        }
        Self::with(target)
    }

    fn with(target: Target) -> Result<Self, RedisError> {
        let kind = match target {
            Target::Server(info) => Kind::Server(Client::open(info)?),
            Target::Cluster(infos) => {
                let seeds = infos.iter().map(|info| info.addr().to_string().into()).collect();
                let info = infos.into_iter().next();
                Kind::Cluster { info: Box::new(info.expect("a list has a first")), seeds }
            }
            Target::Sentinel(target) => {
                let service = target.service.clone();
                Kind::Sentinel { client: Mutex::new(sentinel_client(target)?), service }
            }
        };
        Ok(Self(Arc::new(kind)))
    }

    /// The nodes of a cluster that the URL names.
    pub(crate) fn seeds(&self) -> Option<&[Arc<str>]> {
        match &*self.0 {
            Kind::Cluster { seeds, .. } => Some(seeds),
            Kind::Server(_) | Kind::Sentinel { .. } => None,
        }
    }

    /// A connection; what the server says by itself goes to `pushed`.
    pub(crate) async fn connect(
        &self,
        place: &Place,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
        answer_timeout: Option<Duration>,
    ) -> RedisResult<MultiplexedConnection> {
        let pushed = move |info: PushInfo| -> Result<(), ()> {
            pushed(info);
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(answer_timeout)
            .set_push_sender(pushed);
        let client = self.client(place).await?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn client(&self, place: &Place) -> RedisResult<Client> {
        match (&*self.0, place) {
            (Kind::Server(client), _) => Ok(client.clone()),
            (Kind::Cluster { info, .. }, Place::Node(address)) => {
                let address = at(info.addr(), address)?;
                Client::open(info.as_ref().clone().set_addr(address))
            }
            (Kind::Cluster { .. }, Place::Only) => unreachable!("a cluster's places are its nodes"),
            // It asks each time: that is how a failover is followed.
            (Kind::Sentinel { client, .. }, _) => {
                let asking = async { client.lock().await.async_get_client().await };
                let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
                timeout(CONNECT_TIMEOUT, asking).await.map_err(late)?
            }
        }
    }
}

/// An address of the same sort.
fn at(sort: &ConnectionAddr, address: &str) -> RedisResult<ConnectionAddr> {
    let wrong = || RedisError::from((ErrorKind::InvalidClientConfig, "no node's address"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let (host, port) = (host.to_owned(), port.parse().map_err(|_| wrong())?);
    match sort {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            Ok(ConnectionAddr::TcpTls { host, port, insecure, tls_params })
        }
        _ => Ok(ConnectionAddr::Tcp(host, port)),
    }
}

fn sentinel_client(target: SentinelTarget) -> RedisResult<SentinelClient> {
    let settings = target.sentinels[0].redis_settings().clone();
    let is_tls = matches!(target.sentinels[0].addr(), ConnectionAddr::TcpTls { .. });
    let addresses = target.sentinels.iter().map(|info| info.addr().clone());
    let master = SentinelServerType::Master;
    let mut builder = SentinelClientBuilder::new(addresses, target.service, master)?
        .set_client_to_redis_db(settings.db())
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if let Some(username) = settings.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = target.username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = target.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if is_tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    #[cfg(feature = "rustls")]
    if let Some(tls) = target.tls {
        builder = builder.set_client_to_redis_certificates(tls.certificates());
    }
    builder.build()
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest may hold a password.
        match &*self.0 {
            Kind::Server(client) => {
                let address = client.get_connection_info().addr().to_string();
                f.debug_tuple("Redis").field(&address).finish()
            }
            Kind::Cluster { seeds, .. } => f.debug_tuple("Redis").field(seeds).finish(),
            Kind::Sentinel { service, .. } => f.debug_tuple("Redis").field(service).finish(),
        }
    }
}
