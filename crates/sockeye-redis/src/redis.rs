//! Where Redis is, and connections to it: one that asks and publishes, made again when it is
//! needed. Does not know what is published.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo,
    PushKind, RedisError, RedisResult, Value,
};
use tokio::sync::Mutex;

/// How long Redis may take to be connected, and to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Redis is and how to get in. Nothing is connected yet; a clone is a handle to the same.
#[derive(Clone)]
pub struct Redis(Client);

impl Redis {
    /// Takes a URL: `redis://[user[:password]@]host[:port][/database]`, or `unix://path`. Redis 7
    /// is needed (its protocol RESP3 is used, whatever the URL says).
    ///
    /// # Errors
    /// It is no such URL.
    pub fn open(url: &str) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self(Client::open(info.set_redis_settings(settings))?))
    }

    /// A connection; what the server says by itself goes to `pushed`.
    pub(crate) async fn connect(
        &self,
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
        self.0.get_multiplexed_async_connection_with_config(&config).await
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest may hold a password.
        f.debug_tuple("Redis").field(&self.0.get_connection_info().addr().to_string()).finish()
    }
}

/// A connection that asks and publishes.
pub(crate) struct Commands {
    redis: Redis,
    live: Mutex<Option<Live>>,
}

struct Live {
    connection: MultiplexedConnection,
    is_lost: Arc<AtomicBool>,
}

impl Commands {
    pub(crate) fn new(redis: Redis) -> Self {
        Self { redis, live: Mutex::new(None) }
    }

    /// Runs commands in one round trip; the answer to each. They are not sent again where that
    /// fails: they may have been run.
    ///
    /// # Cancel safety
    /// The commands may or may not be run.
    pub(crate) async fn run(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection().await?;
        let count = commands.cmd_iter().count();
        let answers = connection.req_packed_commands(commands, 0, count).await;
        if let Err(error) = &answers
            && (error.is_unrecoverable_error() || error.is_timeout())
        {
            *self.live.lock().await = None;
        }
        answers
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| !live.is_lost.load(Ordering::Acquire)) {
            return Ok(live.connection.clone());
        }
        // What was lost is known before anything is sent into nowhere.
        let is_lost = Arc::new(AtomicBool::new(false));
        let lost = is_lost.clone();
        let pushed = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                lost.store(true, Ordering::Release);
            }
        };
        let connection = self.redis.connect(pushed, Some(ANSWER_TIMEOUT)).await?;
        *live = Some(Live { connection: connection.clone(), is_lost });
        Ok(connection)
    }

    /// The connection is not needed any more.
    pub(crate) async fn close(&self) {
        *self.live.lock().await = None;
    }
}
