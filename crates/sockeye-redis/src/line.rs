//! A connection that asks and publishes, made again when it is needed.
//! Does not know what is asked, nor which nodes there are beside its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, RedisResult, ServerError, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::redis::{Place, Redis};

/// How long Redis may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is waited for at least before one who waits no longer says that none comes.
const HANG_TIME: Duration = Duration::from_millis(250);
/// What a server says that is no primary any more, or not yet.
const UNUSABLE: [&str; 3] = ["READONLY", "LOADING", "MASTERDOWN"];

pub(crate) struct Line {
    redis: Redis,
    place: Place,
    live: Mutex<Option<Live>>,
}

#[derive(Clone)]
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
        let Live { mut connection, is_lost } = self.connection().await?;
        let count = commands.cmd_iter().count();
        let hang = Hang::new(|| is_lost.store(true, Ordering::Release));
        let answers = connection.req_packed_commands(commands, 0, count).await;
        hang.end();
        let is_unusable = match &answers {
            Ok(answers) => answers.iter().filter_map(server_error).any(is_unusable),
            Err(error) => error.is_unrecoverable_error() || error.is_timeout(),
        };
        if is_unusable {
            self.close().await;
        }
        answers
    }

    async fn connection(&self) -> RedisResult<Live> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| !live.is_lost.load(Ordering::Acquire)) {
            return Ok(live.clone());
        }
        // What was lost is known before anything is sent into nowhere.
        let is_lost = Arc::new(AtomicBool::new(false));
        let lost = is_lost.clone();
        let pushed = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                lost.store(true, Ordering::Release);
            }
        };
        // It is rare, and a large future.
        let connecting = self.redis.connect(&self.place, pushed, Some(ANSWER_TIMEOUT));
        let connection = Box::pin(connecting).await?;
        Ok(live.insert(Live { connection, is_lost }).clone())
    }

    /// The connection is not needed any more.
    pub(crate) async fn close(&self) {
        *self.live.lock().await = None;
    }
}

/// An answer is waited for. One who has waited for a while and does so no longer has an opinion of
/// whoever was asked: the next is not to wait as long for the same.
pub(crate) struct Hang<F: FnMut()> {
    begun: Instant,
    is_waiting: bool,
    hangs: F,
}

impl<F: FnMut()> Hang<F> {
    pub(crate) fn new(hangs: F) -> Self {
        Self { begun: Instant::now(), is_waiting: true, hangs }
    }

    /// The answer is there.
    pub(crate) fn end(mut self) {
        self.is_waiting = false;
    }
}

impl<F: FnMut()> Drop for Hang<F> {
    fn drop(&mut self) {
        if self.is_waiting && self.begun.elapsed() >= HANG_TIME {
            (self.hangs)();
        }
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
