//! A node of the clusters in `tests/cluster`, whose README says what it must do.
//! The same as `tests/cluster/node-server.mjs`, on the public API.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::cluster::ServerSideEmitError;
use sockeye::{
    Broadcast, ConnectionStateRecovery, Data, HandlerError, Namespace, OwnedArgs, RawArgs, Server,
    ServerBuilder, ServerSideEvent, Socket, SocketId,
};
use sockeye_redis::{
    ClassicBus, ClassicOptions, EmitterError, Redis, RedisEmitter, ShardedBus, ShardedOptions,
    StreamsBus, StreamsOptions, SubscriptionMode,
};

#[derive(Deserialize)]
struct Config {
    name: String,
    port: u16,
    redis: String,
    adapter: String,
    #[serde(default)]
    specific: bool,
    #[serde(default)]
    recovery: bool,
}

/// What a node is asked to do: `["act", act, …arguments]`.
#[derive(Deserialize)]
struct Act {
    what: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    local: bool,
    #[serde(default)]
    volatile: bool,
    #[serde(default)]
    event: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    close: bool,
    #[serde(default = "patience")]
    timeout: u64,
}

/// What a machine may need that stands still for a while.
fn patience() -> u64 {
    15_000
}

#[derive(Clone)]
struct Node {
    io: Server,
    name: String,
    /// The events of other servers.
    heard: Arc<Mutex<Vec<Value>>>,
    /// What a process without sockets would speak by.
    emitter: RedisEmitter,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config: Config = serde_json::from_str(&std::env::var("NODE")?)?;
    let mut builder = Server::builder();
    if config.recovery {
        builder = builder.connection_state_recovery(ConnectionStateRecovery::default());
    }
    let io = with_bus(builder, &config)?.build();
    let redis = Redis::open(&config.redis)?;
    let emitter = match config.adapter.as_str() {
        "streams" => RedisEmitter::streams(redis, StreamsOptions::default()),
        _ => RedisEmitter::classic(redis, "socket.io"),
    };
    let node = Node { io: io.clone(), name: config.name, heard: Arc::default(), emitter };
    for name in ["/", "/other"] {
        serve(&node, &io.of(name));
    }
    let app = Router::new().layer(io.layer());
    let listener = sockeye::listen(format!("127.0.0.1:{}", config.port)).await?;
    say(&io).await;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        _ = terminate.recv() => {
            io.shutdown(Duration::from_secs(3)).await;
        }
    }
    Ok(())
}

fn with_bus(
    builder: ServerBuilder,
    config: &Config,
) -> Result<ServerBuilder, Box<dyn std::error::Error>> {
    let redis = Redis::open(&config.redis)?;
    let builder = builder.cluster_request_timeout(Duration::from_secs(5));
    let subscription_mode = match config.adapter.as_str() {
        "classic" => {
            let publish_on_specific_response_channel = config.specific;
            let options =
                ClassicOptions { publish_on_specific_response_channel, ..Default::default() };
            return Ok(builder.cluster(ClassicBus::with_options(redis, options)));
        }
        "streams" => return Ok(builder.cluster(StreamsBus::new(redis))),
        "static" => SubscriptionMode::Static,
        "dynamic" => SubscriptionMode::Dynamic,
        "dynamic-private" => SubscriptionMode::DynamicPrivate,
        other => return Err(format!("there is no adapter {other}").into()),
    };
    let options = ShardedOptions { subscription_mode, ..ShardedOptions::default() };
    Ok(builder.cluster(ShardedBus::with_options(redis, options)))
}

/// Says that it listens, once it hears.
#[expect(clippy::print_stdout, reason = "the tests wait for this line")]
async fn say(io: &Server) {
    while io.cluster_health().is_some_and(|health| health.is_deaf) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("listening");
}

fn serve(node: &Node, namespace: &Namespace) {
    namespace.on_connection(async |socket: Socket| {
        if socket.recovered() {
            return;
        }
        let auth: Value = socket.auth().unwrap_or_default();
        let rooms: Vec<String> = serde_json::from_value(auth["rooms"].clone()).unwrap_or_default();
        socket.join(&rooms);
        if !auth["data"].is_null() {
            socket.set_shared_data(&auth["data"]).expect("JSON is JSON");
        }
    });
    let acting = node.clone();
    namespace.on(
        "act",
        sockeye::with(acting, async |node: Node, Data(act): Data<Act>, RawArgs(args): RawArgs| {
            node.act(act, args).await
        }),
    );
    let heard = node.heard.clone();
    namespace.on_server_side_event("hello", move |event: ServerSideEvent| {
        let args: Result<Vec<Value>, _> = event.args().rest();
        let args = args.unwrap_or_default();
        heard.lock().expect("no holder panics").push(json!(args));
        std::future::ready(())
    });
    let name = node.name.clone();
    namespace.on_server_side_event("who", move |event: ServerSideEvent| {
        let asked: Result<Value, _> = event.data();
        let answer = json!({ "name": name, "asked": asked.unwrap_or_default() });
        std::future::ready(Ok::<_, HandlerError>(answer))
    });
}

impl Node {
    async fn act(&self, act: Act, args: OwnedArgs) -> Result<Value, HandlerError> {
        let namespace = self.io.of(act.namespace.as_deref().unwrap_or("/"));
        let mut to: Broadcast = namespace.to(&act.to).except(&act.except);
        if act.local {
            to = to.local();
        }
        if act.volatile {
            to = to.volatile();
        }
        match act.what.as_str() {
            "emit" => to.emit(&act.event, args)?,
            "direct" => {
                let id = SocketId::parse(&act.id);
                let socket = id.and_then(|id| namespace.socket(&id));
                socket.ok_or_else(|| failed("it is not here"))?.emit(&act.event, args)?;
            }
            "ask" => {
                let asked = to.timeout(Duration::from_millis(act.timeout));
                let all = asked.emit_with_ack::<Value>(&act.event, args)?.collect().await;
                let answers: Vec<_> = all.answers.into_iter().map(|(_, answer)| answer).collect();
                return Ok(json!({ "answers": answers, "whole": all.failures.is_empty() }));
            }
            "emitter" => self.act_by_emitter(act, args).await.map_err(failed)?,
            "join" => to.sockets_join(&act.rooms),
            "leave" => to.sockets_leave(&act.rooms),
            "disconnect" => to.disconnect_sockets(act.close),
            "fetch" => {
                let mut sockets = Vec::new();
                for socket in to.fetch_sockets().await.map_err(failed)? {
                    let handshake = socket.handshake().map_err(failed)?;
                    let mut rooms: Vec<_> =
                        socket.rooms().iter().map(ToString::to_string).collect();
                    rooms.sort();
                    sockets.push(json!({
                        "id": socket.id().as_str(),
                        "rooms": rooms,
                        "data": socket.data::<Value>().unwrap_or_default(),
                        "auth": handshake.auth,
                        "query": handshake.query["tag"],
                    }));
                }
                return Ok(json!(sockets));
            }
            "hello" => namespace.server_side_emit("hello", args).map_err(failed)?,
            "who" => {
                return Ok(match namespace.server_side_emit_with_ack("who", args).await {
                    Ok(answers) => json!({ "answers": answers as Vec<Value>, "whole": true }),
                    Err(ServerSideEmitError::Incomplete(some)) => {
                        json!({ "answers": some.answers, "whole": false })
                    }
                    Err(error) => return Err(failed(error)),
                });
            }
            "heard" => return Ok(json!(*self.heard.lock().expect("no holder panics"))),
            "count" => {
                let count = namespace.node_count().await.map_err(failed)?;
                return Ok(json!(count));
            }
            other => return Err(HandlerError::new("UNKNOWN", format!("what is {other}?"))),
        }
        Ok(Value::Null)
    }
}

impl Node {
    /// As a process without sockets would.
    async fn act_by_emitter(&self, act: Act, args: OwnedArgs) -> Result<(), EmitterError> {
        let to = self.emitter.to(&act.to).except(&act.except);
        match act.event.as_str() {
            "(join)" => to.sockets_join(&act.rooms).await,
            "(leave)" => to.sockets_leave(&act.rooms).await,
            "(disconnect)" => to.disconnect_sockets(act.close).await,
            "(server side)" => self.emitter.server_side_emit("hello", args).await,
            event => to.compress(false).emit(event, args).await,
        }
    }
}

fn failed(error: impl std::fmt::Display) -> HandlerError {
    HandlerError::new("FAILED", error.to_string())
}
