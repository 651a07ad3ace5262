//! The test server of `conformance/README.md`, on the public API.

#[path = "conformance/engine.rs"]
mod engine;
#[path = "conformance/listening.rs"]
mod listening;

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State as AxumState};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use sockeye::{
    Ack, AckError, Auth, CloseDescription, CollectedAcks, ConnectError, Data, DisconnectReason,
    Namespace, OwnedArgs, RawArgs, Reply, Server, Socket, State, Transport,
};

const RECORDS_MAX: usize = 10_000;
const NAMESPACES: [&str; 4] = ["/", "/chat", "/admin", "/slow"];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<VecDeque<Value>>>);

impl Log {
    fn add(&self, socket: &Socket, event: &str, more: Value) {
        let auth: Value = socket.auth().unwrap_or_default();
        let Some(mark) = auth["mark"].as_str() else { return };
        let mut record = json!({
            "mark": mark,
            "namespace": socket.namespace().name(),
            "id": socket.id().as_str(),
            "event": event,
        });
        if let (Some(record), Some(more)) = (record.as_object_mut(), more.as_object()) {
            record.extend(more.clone());
        }
        let mut records = self.0.lock().expect("no holder panics");
        records.push_back(record);
        if records.len() > RECORDS_MAX {
            records.pop_front();
        }
    }
}

/// `socket.data` of this server.
#[derive(Clone, Default)]
struct Values(BTreeMap<String, Value>);

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = std::env::var("SERVER_OPTIONS").unwrap_or_else(|_| "{}".into());
    let options: Value = serde_json::from_str(&options).expect("SERVER_OPTIONS is JSON");
    let log = Log::default();
    let refusals = engine::Refusals::default();
    let io = build(&options, log.clone(), &refusals);
    let errors = log.clone();
    io.on_error(move |socket, _, error| listening::record_refusal(&errors, socket, error));
    for name in NAMESPACES {
        listen_to(&io.of(name));
    }
    io.of("/admin").middleware(admin_token);
    io.of("/admin").middleware(admin_plain);
    io.of("/slow").middleware(slow);

    let app = Router::new()
        .route("/stats", get(stats))
        .route("/log", get(records))
        .with_state((io.clone(), log))
        .route("/refusals", get(refused))
        .with_state(refusals);
    let port = std::env::var("PORT").expect("PORT is set");
    let listener = sockeye::listen(format!("127.0.0.1:{port}")).await?;
    say(&format!("listening on {port}"));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let (told, is_told) = tokio::sync::oneshot::channel();
    let serving = sockeye::serve(listener, io.wrap(app)).with_graceful_shutdown(async move {
        terminate.recv().await;
        let _ = told.send(());
    });
    let mut serving = pin!(serving.into_future());
    let mut ending = pin!(async {
        let _ = is_told.await;
        io.shutdown(Duration::from_secs(3)).await;
    });
    tokio::select! {
        served = &mut serving => {
            ending.await;
            served
        }
        // The sessions have ended. Their last answers leave, unless a peer takes none.
        () = &mut ending => {
            let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the tests wait for this line")]
fn say(line: &str) {
    println!("{line}");
}

fn build(options: &Value, log: Log, refusals: &engine::Refusals) -> Server {
    let mut builder = Server::builder().state(log.clone()).ack_timeout(Duration::from_secs(60));
    builder = engine::with_options(builder, options, refusals);
    if options["hooks"] == true {
        builder = builder.on_upgrade(move |socket| {
            log.add(socket, "upgrade", json!({ "transport": socket.transport().as_str() }));
        });
    }
    let time = |name: &str| options[name].as_u64().map(Duration::from_millis);
    if let Some(time) = time("pingInterval") {
        builder = builder.ping_interval(time);
    }
    if let Some(time) = time("pingTimeout") {
        builder = builder.ping_timeout(time);
    }
    if let Some(time) = time("upgradeTimeout") {
        builder = builder.upgrade_timeout(time);
    }
    if let Some(time) = time("connectTimeout") {
        builder = builder.connect_timeout(time);
    }
    if let Some(bytes) = options["maxHttpBufferSize"].as_u64() {
        builder = builder.max_http_buffer_size(bytes as usize);
    }
    if let Some(allow) = options["allowEIO3"].as_bool() {
        builder = builder.allow_eio3(allow);
    }
    if let Some(allow) = options["allowUpgrades"].as_bool() {
        builder = builder.allow_upgrades(allow);
    }
    if let Some(names) = options["transports"].as_array() {
        let names = names.iter().filter_map(Value::as_str);
        builder = builder.transports(names.filter_map(Transport::parse));
    }
    if options["serveClient"] == true {
        builder = builder.serve_client("node_modules/socket.io/client-dist").expect("the files");
    }
    if let Some(options) = options.get("connectionStateRecovery") {
        builder = builder.connection_state_recovery(engine::recovery(options));
    }
    if let Some(rules) = options.get("cors") {
        builder = builder.cors(engine::cors(rules));
    }
    builder.build()
}

async fn stats(AxumState((io, _)): AxumState<(Server, Log)>) -> impl IntoResponse {
    let namespaces = NAMESPACES.map(|name| io.of(name));
    let sockets: usize = namespaces.iter().map(Namespace::socket_count).sum();
    let rooms: usize = namespaces.iter().map(Namespace::room_count).sum();
    let sessions = io.session_count();
    let pid = std::process::id();
    let polling = io.session_count_over(Transport::Polling);
    let websocket = io.session_count_over(Transport::WebSocket);
    json!({
        "pid": pid,
        "sessions": sessions,
        "transports": { "polling": polling, "websocket": websocket },
        "sockets": sockets,
        "rooms": rooms + sockets,
    })
    .to_string()
}

async fn refused(
    AxumState(refusals): AxumState<engine::Refusals>,
    Query(query): Query<BTreeMap<String, String>>,
) -> impl IntoResponse {
    let mark = query.get("mark").cloned().unwrap_or_default();
    Value::Array(refusals.of(&mark)).to_string()
}

async fn records(
    AxumState((_, log)): AxumState<(Server, Log)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> impl IntoResponse {
    let mark = query.get("mark").cloned().unwrap_or_default();
    let records = log.0.lock().expect("no holder panics");
    let records: Vec<_> = records.iter().filter(|r| r["mark"] == mark.as_str()).cloned().collect();
    Value::Array(records).to_string()
}

async fn admin_token(socket: Socket, Auth(auth): Auth<Value>) -> Result<(), ConnectError> {
    tokio::task::yield_now().await;
    if auth["token"] != "letmein" {
        let data = json!({ "code": "E_TOKEN", "given": auth["token"] });
        return Err(ConnectError::new("not authorized").with_data(&data));
    }
    socket.data().insert(Values(BTreeMap::from([("user".into(), json!("admin"))])));
    Ok(())
}

async fn admin_plain(Auth(auth): Auth<Value>) -> Result<(), ConnectError> {
    if auth["plain"] == true { Err(ConnectError::new("plain refusal")) } else { Ok(()) }
}

async fn slow(
    socket: Socket,
    Auth(auth): Auth<Value>,
    State(log): State<Log>,
) -> Result<(), ConnectError> {
    log.add(&socket, "middleware", json!({ "connected": socket.is_connected() }));
    if let Some(early) = auth.get("early") {
        // Nobody may be there to hear it.
        let _ = socket.emit("early", early);
    }
    if let Some(room) = auth["room"].as_str() {
        socket.join(room);
    }
    let delay = auth["delay"].as_u64().unwrap_or(100);
    tokio::time::sleep(Duration::from_millis(delay)).await;
    log.add(&socket, "middleware-end", json!({}));
    match auth["refuse"].as_str() {
        Some(message) => Err(ConnectError::new(message)),
        None => Ok(()),
    }
}

fn listen_to(namespace: &Namespace) {
    namespace.on_connection(
        async |socket: Socket, Auth(auth): Auth<Value>, State(log): State<Log>| {
            log.add(&socket, "connection", json!({ "rooms": sorted_rooms(&socket) }));
            if let Some(welcome) = auth.get("welcome") {
                let _ = socket.emit("welcome", welcome);
            }
        },
    );
    namespace.on_disconnecting(
        async |socket: Socket, reason: DisconnectReason, State(log): State<Log>| {
            let rooms = sorted_rooms(&socket);
            log.add(&socket, "disconnecting", json!({ "reason": reason.as_str(), "rooms": rooms }));
        },
    );
    namespace.on_disconnect(
        async |socket: Socket,
               reason: DisconnectReason,
               CloseDescription(why): CloseDescription,
               State(log): State<Log>| {
            let (rooms, reason) = (sorted_rooms(&socket), reason.as_str());
            let end = json!({ "reason": reason, "rooms": rooms, "description": why });
            log.add(&socket, "disconnect", end);
        },
    );
    answers(namespace);
    rooms(namespace);
    listening::listen_to(namespace);
    namespace.on("volatile", volatile);
    namespace.on("stream", stream);
    namespace.on("broadcast", broadcast);
    namespace.on("operators", operators);
    namespace.on("disconnect-me", disconnect_me);
    namespace.on("disconnect-then-join", async |socket: Socket, Data(room): Data<String>| {
        socket.disconnect(false);
        socket.join(&room);
    });
    namespace.on("throw", async |Data(message): Data<String>| {
        if message.len() < usize::MAX {
            panic!("{message}");
        }
    });
    namespace.on("emit-named", async |socket: Socket, Data(name): Data<String>| {
        Reply(if socket.emit(&name, ()).is_ok() { "ok" } else { "refused" }.to_owned())
    });
}

fn answers(namespace: &Namespace) {
    namespace.on("echo", async |socket: Socket, RawArgs(args): RawArgs, ack: Ack| {
        let _ = if ack.is_wanted() { ack.send(args) } else { socket.emit("echo", args) };
    });
    namespace.on("7", async |socket: Socket, RawArgs(args): RawArgs, _ack: Ack| {
        let _ = socket.emit("seven", args);
    });
    namespace.on("silence", async |_ack: Ack| {});
    namespace.on("later", async |Data(ms): Data<u64>, RawArgs(args): RawArgs, ack: Ack| {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let _ = ack.send(args);
    });
    namespace.on("twice", async |socket: Socket, RawArgs(args): RawArgs, _ack: Ack| {
        let _ = socket.emit("twice", args.clone());
        let _ = socket.emit("twice", args);
    });
    namespace.on("ask", ask);
    namespace.on("ask-timeout", ask_timeout);
    let record =
        async |socket: Socket, Data(value): Data<Value>, State(log): State<Log>, _a: Ack| {
            log.add(&socket, "record", json!({ "value": value }));
        };
    namespace.on("record", record);
    namespace.on("whoami", whoami);
    namespace.on(
        "data-set",
        async |socket: Socket, Data(key): Data<String>, Data(value): Data<Value>| {
            socket.data().update_or_default(|Values(values)| drop(values.insert(key, value)));
        },
    );
    namespace.on("data-get", async |socket: Socket, Data(key): Data<String>| {
        let values: Values = socket.data().get().unwrap_or_default();
        Reply(values.0.get(&key).cloned().unwrap_or_default())
    });
}

fn rooms(namespace: &Namespace) {
    namespace.on("join", async |socket: Socket, Data(rooms): Data<Value>| {
        match rooms {
            Value::String(room) => socket.join(&room),
            list => socket.join(serde_json::from_value::<Vec<String>>(list).unwrap_or_default()),
        };
        Reply((sorted_rooms(&socket),))
    });
    namespace.on("leave", async |socket: Socket, Data(room): Data<String>| {
        socket.leave(&room);
        Reply((sorted_rooms(&socket),))
    });
    namespace.on("rooms", async |socket: Socket| Reply((sorted_rooms(&socket),)));
}

fn sorted_rooms(socket: &Socket) -> Vec<String> {
    let mut rooms: Vec<String> = socket.rooms().iter().map(|room| room.to_string()).collect();
    rooms.sort();
    rooms
}

async fn ask(socket: Socket, Data(event): Data<String>, RawArgs(args): RawArgs, ack: Ack) {
    let limit = Duration::from_secs(60);
    if let Ok(answer) = socket.timeout(limit).emit_with_ack_args(&event, args).await {
        let _ = ack.send(answer);
    }
}

async fn ask_timeout(
    socket: Socket,
    Data(ms): Data<u64>,
    Data(event): Data<String>,
    RawArgs(args): RawArgs,
    ack: Ack,
) {
    let limit = Duration::from_millis(ms);
    let answer = socket.timeout(limit).emit_with_ack_args(&event, args).await;
    let _ = match answer {
        Ok(answer) => ack.send(Before(vec![json!("ok")], answer)),
        Err(AckError::Timeout) => ack.send("timeout"),
        Err(_) => Ok(()),
    };
}

/// Values, and arguments as they came behind them.
struct Before(Vec<Value>, OwnedArgs);

impl sockeye::EmitArgs for Before {
    fn write(&self, out: &mut sockeye::ArgsWriter<'_>) -> Result<(), sockeye::EncodeError> {
        self.0.iter().try_for_each(|value| out.arg(value))?;
        self.1.write(out)
    }
}

async fn whoami(socket: Socket) -> Reply<Value> {
    let query: BTreeMap<String, String> =
        axum::extract::Query::try_from_uri(&socket.handshake().url().parse().unwrap_or_default())
            .map(|Query(query)| query)
            .unwrap_or_default();
    let data: Values = socket.data().get().unwrap_or_default();
    Reply(json!({
        "id": socket.id().as_str(),
        "namespace": socket.namespace().name(),
        "connected": socket.is_connected(),
        "transport": socket.transport().as_str(),
        "rooms": sorted_rooms(&socket),
        "data": data.0,
        "auth": socket.auth::<Value>().unwrap_or_default(),
        "query": query,
    }))
}

async fn volatile(socket: Socket, Data(count): Data<u64>, RawArgs(args): RawArgs, _a: Ack) {
    for i in 0..count {
        let _ = socket.volatile().emit("volatile", Before(vec![json!(i)], args.clone()));
    }
    let _ = socket.emit("volatile-end", count);
}

async fn stream(
    socket: Socket,
    Data(event): Data<String>,
    Data(count): Data<u64>,
    Data(bytes): Data<usize>,
) {
    let fill = "x".repeat(bytes);
    for i in 0..count {
        if socket.emit(&event, (i, &fill)).is_err() {
            // The client has gone: what is left would be written for nobody.
            return;
        }
        if i % 10 == 9 {
            tokio::task::yield_now().await;
        }
    }
}

async fn broadcast(socket: Socket, Data(spec): Data<Value>, RawArgs(args): RawArgs, ack: Ack) {
    let list = |name: &str| -> Vec<String> {
        serde_json::from_value(spec[name].clone()).unwrap_or_default()
    };
    let from_server = spec["from"] == "server";
    let mut to = if from_server { socket.namespace().broadcast() } else { socket.broadcast() };
    to = to.to(list("to")).except(list("except"));
    if spec["compress"] == false {
        to = to.compress(false);
    }
    if spec["volatile"] == true {
        to = to.volatile();
    }
    let event = spec["event"].as_str().unwrap_or("broadcast");
    let Some(ms) = spec["timeout"].as_u64() else {
        let _ = to.emit(event, args);
        let _ = ack.send(());
        return;
    };
    let Ok(asked) = to.timeout(Duration::from_millis(ms)).emit_with_ack::<Value>(event, args)
    else {
        return;
    };
    let CollectedAcks { answers, failures } = asked.collect().await;
    let mut answers: Vec<_> = answers.into_iter().map(|(_, answer)| answer).collect();
    answers.sort_by_cached_key(Value::to_string);
    let _ = ack.send((if failures.is_empty() { "ok" } else { "timeout" }, answers));
}

async fn operators(socket: Socket, Data(first): Data<String>, Data(second): Data<String>) {
    let base = socket.namespace().to(&first);
    let both = base.clone().to(&second);
    let nobody = both.clone().except([&first, &second]);
    for (to, word) in
        [(&both, "both"), (&base, "first"), (&nobody, "nobody"), (&base, "first again")]
    {
        let _ = to.emit("operators", word);
    }
}

async fn disconnect_me(socket: Socket, Data(close): Data<bool>, RawArgs(args): RawArgs, _a: Ack) {
    let _ = socket.emit("bye", args);
    socket.disconnect(close);
}
