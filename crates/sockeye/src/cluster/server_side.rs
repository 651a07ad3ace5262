//! Events that servers send to each other, and who listens to them.
//! Does not know how they travel.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sockeye_proto::socket::{
    ArgsCursor, ArgsWriter, EmitArgs, EncodeError, EncodedPacket, Name, OwnedArgs, ToName,
};

use super::link::{Answer, Link};
use super::message::{ClusterBody, NodeId, RequestId};
use super::{Incomplete, ServerSideEmitError};
use crate::error::HandlerError;
use crate::handler::BoxFuture;
use crate::namespace::Namespace;
use crate::panics;
use crate::reply::{AckTarget, IntoReply};
use crate::server::Server;

/// What Node's servers keep for themselves.
const RESERVED_SERVER_EVENTS: [&str; 3] = ["connect", "connection", "new_namespace"];

/// The events of other servers that are being handled at one time, in one namespace. What comes
/// beyond that is passed over, with a warning.
const HANDLING_MAX: usize = 10_000;

type Run =
    dyn Fn(ServerSideEvent) -> BoxFuture<Result<Option<OwnedArgs>, HandlerError>> + Send + Sync;

/// Who listens in one namespace.
#[derive(Default)]
pub(crate) struct ServerSide {
    listeners: RwLock<Vec<(Box<str>, Arc<Run>)>>,
    handling: Arc<AtomicUsize>,
}

/// Where an answer goes.
pub(super) type ReplyTo = (Arc<Link>, RequestId, Option<NodeId>);

/// An event that another server has sent with [`Namespace::server_side_emit`].
#[derive(Clone, Debug)]
pub struct ServerSideEvent {
    namespace: Namespace,
    name: Arc<str>,
    args: OwnedArgs,
}

impl ServerSideEvent {
    /// The namespace it was sent in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its name; of a number its digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first argument, read as a `T`. A missing one is `null`.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, crate::ArgError> {
        self.args().next()
    }

    /// Reads its arguments one by one, or all together.
    pub fn args(&self) -> ArgsCursor<'_> {
        self.args.cursor()
    }

    /// Its arguments as JSON, with the binary attachments beside it.
    pub fn raw_args(&self) -> &OwnedArgs {
        &self.args
    }
}

impl ServerSide {
    fn add(&self, event: &str, run: Arc<Run>) {
        self.listeners.write().push((event.into(), run));
    }

    /// An event came. Its first listener begins before this returns, so that events begin in
    /// their order; what listeners wait for goes on in the background.
    pub(super) fn handle(&self, namespace: &Namespace, event: &OwnedArgs, reply: Option<ReplyTo>) {
        let mut cursor = event.cursor();
        let name: Arc<str> = match cursor.next() {
            Ok(serde_json::Value::String(name)) => name.into(),
            Ok(serde_json::Value::Number(number)) => number.to_string().into(),
            _ => return,
        };
        let listeners: Vec<_> = {
            let all = self.listeners.read();
            let named = all.iter().filter(|(event, _)| **event == *name);
            named.map(|(_, run)| run.clone()).collect()
        };
        // As in Node nobody answers where nobody listens, and who asked waits for the others.
        if listeners.is_empty() {
            return;
        }
        let Some(handling) = Handling::begin(&self.handling) else {
            tracing::warn!(event = &*name, "too many events of servers are being handled");
            return;
        };
        let args = cursor.rest_owned();
        let event = ServerSideEvent { namespace: namespace.clone(), name, args };
        let mut work = Box::pin(async move {
            let _handling = handling;
            handle_all(event, listeners, reply).await;
        });
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(work);
        }
    }
}

/// Runs the listeners of an event one after the other. The first that has something to say
/// answers; if none has, the answer is empty.
async fn handle_all(event: ServerSideEvent, listeners: Vec<Arc<Run>>, mut reply: Option<ReplyTo>) {
    let send = |(link, request, to): ReplyTo, answer: OwnedArgs| {
        let answer = answer.into_first();
        let body = ClusterBody::ServerSideEmitResponse { request, answer };
        link.answer(&event.namespace.name_shared(), to.as_ref(), body);
    };
    for listener in listeners {
        let answer = guarded(&listener, event.clone()).await.unwrap_or_else(|error| {
            tracing::warn!(event = event.name(), %error, "a listener of servers' events failed");
            OwnedArgs::list(&raw(&format!("[{}]", error.to_json())), Vec::new())
        });
        if let Some(answer) = answer
            && let Some(reply) = reply.take()
        {
            send(reply, answer);
        }
    }
    if let Some(reply) = reply {
        send(reply, OwnedArgs::default());
    }
}

/// Runs a listener; a panic is a failure.
async fn guarded(
    listener: &Arc<Run>,
    event: ServerSideEvent,
) -> Result<Option<OwnedArgs>, HandlerError> {
    let panicked = |_| HandlerError::panicked();
    let mut running = panics::catch(|| listener(event)).map_err(panicked)?;
    std::future::poll_fn(move |cx| match panics::catch(|| running.as_mut().poll(cx)) {
        Ok(poll) => poll,
        Err(error) => Poll::Ready(Err(panicked(error))),
    })
    .await
}

/// Counts an event while it is handled.
struct Handling(Arc<AtomicUsize>);

impl Handling {
    fn begin(count: &Arc<AtomicUsize>) -> Option<Self> {
        let handling = Self(count.clone());
        (count.fetch_add(1, Ordering::Relaxed) < HANDLING_MAX).then_some(handling)
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("what was written as JSON is JSON")
}

/// An event's name, and its arguments behind it.
struct Named<'a, A>(&'a Name<'a>, &'a A);

impl<A: EmitArgs> EmitArgs for Named<'_, A> {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        out.name(self.0);
        self.1.write(out)
    }
}

impl Namespace {
    /// Listens to an event that other servers of the cluster send with
    /// [`server_side_emit`](Self::server_side_emit). What the listener returns answers the server
    /// that asks, as with [`on`](Self::on); of several listeners, which run one after the other,
    /// the first that says something. Events begin in the order in which they came; where a
    /// listener waits for something, the next event begins meanwhile.
    ///
    /// ```
    /// # let io = sockeye::Server::default();
    /// io.on_server_side_event("reload", |event: sockeye::ServerSideEvent| async move {
    ///     let what: String = event.data()?;
    ///     println!("reloading {what}");
    ///     Ok::<_, sockeye::HandlerError>(true)
    /// });
    /// ```
    pub fn on_server_side_event<F, Fut>(&self, event: impl ToName, listener: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoReply> + Send + 'static,
    {
        let run = move |event: ServerSideEvent| -> BoxFuture<_> {
            let target = AckTarget { namespace: event.namespace.name_shared(), id: 0 };
            let running = listener(event);
            Box::pin(async move {
                let reply = running.await.into_reply(Some(&target))?;
                Ok(reply.as_ref().and_then(answer_of))
            })
        };
        self.server_side().add(&event.to_name().into_text(), Arc::new(run));
    }

    /// Sends an event to the other servers of the cluster, not to clients nor to this server
    /// itself. Without a cluster there is nobody.
    ///
    /// # Errors
    /// The name is one of `connect`, `connection` and `new_namespace`, or the arguments cannot be
    /// written.
    pub fn server_side_emit(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<(), EncodeError> {
        let event = server_event(&event.to_name(), &args)?;
        if let Some(link) = self.link() {
            let body = ClusterBody::ServerSideEmit { event, request: None };
            link.say(&self.name_shared(), body);
        }
        Ok(())
    }

    /// As [`server_side_emit`](Self::server_side_emit), and waits for the answer of every other
    /// server, at most for
    /// [`cluster_request_timeout`](crate::ServerBuilder::cluster_request_timeout). Each answer's
    /// first argument is read as a `T`; they are in no particular order. A server that goes is not
    /// waited for.
    ///
    /// # Errors
    /// As [`server_side_emit`](Self::server_side_emit); and where answers are missing (also when
    /// a server has no listener for the event) or are not a `T`, with those that came.
    ///
    /// # Cancel safety
    /// Dropped, it forgets the answers; the event has been sent.
    pub async fn server_side_emit_with_ack<T: DeserializeOwned>(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<Vec<T>, ServerSideEmitError<T>> {
        let event = server_event(&event.to_name(), &args)?;
        drop(args);
        let Some(link) = self.link() else { return Ok(Vec::new()) };
        let ask = |request| ClusterBody::ServerSideEmit { event, request: Some(request) };
        let mut asked = link.ask(&self.name_shared(), ask);
        let (mut answers, mut unread, mut missing) = (Vec::new(), None, 0);
        let all = async {
            while let Some(answer) = asked.next().await {
                match answer {
                    Answer::Emitted(args) => match args.cursor().next() {
                        Ok(answer) => answers.push(answer),
                        Err(error) => unread = Some(error),
                    },
                    Answer::Failed => missing = 1,
                    Answer::Ack(..) | Answer::Sockets(_) => {}
                }
            }
        };
        if tokio::time::timeout(link.config().request_timeout, all).await.is_err() {
            missing = asked.give_up().nodes;
        }
        match unread {
            Some(error) => Err(ServerSideEmitError::Data { answers, error }),
            None if missing > 0 => Err(Incomplete { answers, missing }.into()),
            None => Ok(answers),
        }
    }
}

fn server_event(name: &Name<'_>, args: &impl EmitArgs) -> Result<OwnedArgs, EncodeError> {
    if let Some(name) = name.as_text().filter(|name| RESERVED_SERVER_EVENTS.contains(name)) {
        return Err(EncodeError::Reserved(name.to_owned()));
    }
    OwnedArgs::write(&Named(name, args))
}

/// The arguments of an acknowledgement's packet.
fn answer_of(packet: &EncodedPacket) -> Option<OwnedArgs> {
    let attachments = packet.attachments().map(bytes::Bytes::copy_from_slice).collect();
    OwnedArgs::list(&raw(packet.json()), attachments)
}

impl Server {
    /// [`Namespace::on_server_side_event`] of `/`.
    pub fn on_server_side_event<F, Fut>(&self, event: impl ToName, listener: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoReply> + Send + 'static,
    {
        self.root().on_server_side_event(event, listener);
    }

    /// [`Namespace::server_side_emit`] of `/`.
    ///
    /// # Errors
    /// As there.
    pub fn server_side_emit(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<(), EncodeError> {
        self.root().server_side_emit(event, args)
    }

    /// [`Namespace::server_side_emit_with_ack`] of `/`.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn server_side_emit_with_ack<T: DeserializeOwned>(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<Vec<T>, ServerSideEmitError<T>> {
        self.root().server_side_emit_with_ack(event, args).await
    }
}

impl fmt::Debug for ServerSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerSide({} listeners)", self.listeners.read().len())
    }
}
