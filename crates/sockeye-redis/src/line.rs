//! A connection that asks and publishes, made again when it is needed.
//! Does not know what is asked, nor which nodes there are beside its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, RedisResult, ServerError, Value};
use tokio::sync::Mutex;

use crate::redis::{Place, Redis};

/// How long Redis may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a server says that is no primary any more, or not yet.
const UNUSABLE: [&str; 3] = ["READONLY", "LOADING", "MASTERDOWN"];

pub(crate) struct Line {
    redis: Redis,
    place: Place,
    live: Mutex<Option<Live>>,
}

struct Live {
    connection: MultiplexedConnection,
    is_lost: Arc<AtomicBool>,
}

impl Line {
    pub(crate) fn new(redis: Redis, place: Place) -> Self {
        Self { redis, place, live: Mutex::new(None) }
    }

    /// Runs commands in one round trip; the answer to each, which may be an error. They are not
    /// sent again where that fails: they may have been run.
    ///
    /// # Cancel safety
    /// The commands may or may not be run.
    pub(crate) async fn run(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection().await?;
        let count = commands.cmd_iter().count();
        let answers = connection.req_packed_commands(commands, 0, count).await;
        let is_unusable = match &answers {
            Ok(answers) => answers.iter().filter_map(server_error).any(is_unusable),
            Err(error) => error.is_unrecoverable_error() || error.is_timeout(),
        };
        if is_unusable {
            self.close().await;
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
        let connection = self.redis.connect(&self.place, pushed, Some(ANSWER_TIMEOUT)).await?;
        *live = Some(Live { connection: connection.clone(), is_lost });
        Ok(connection)
    }

    /// The connection is not needed any more.
    pub(crate) async fn close(&self) {
        *self.live.lock().await = None;
    }
}

/// What an answer says went wrong.
pub(crate) fn server_error(answer: &Value) -> Option<&ServerError> {
    match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

/// Whoever is asked next may be another.
fn is_unusable(error: &ServerError) -> bool {
    UNUSABLE.contains(&error.code())
}
