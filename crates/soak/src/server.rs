//! The server as a process of its own: what it sends is numbered, and what it gets is checked.
//! Told what to do by lines on standard input; each is answered by a line of JSON.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::{
    Auth, ConnectionStateRecovery, Data, Extension, HandlerError, Server, Socket, State,
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The heartbeat: a client whose network has died is gone after twice this.
pub(crate) const PING: Duration = Duration::from_secs(5);
/// For how long a socket may be taken up again.
const ABSENCE_MAX: Duration = Duration::from_secs(30);
/// What fills an event up to the size of a short message.
const FILL_BYTES: usize = 200;
const VIOLATIONS_SHOWN_MAX: usize = 20;

/// What a client says of itself.
#[derive(Clone, Copy, Deserialize)]
struct Client {
    client: u64,
}

/// The last number that came over this connection.
#[derive(Clone, Copy, Default)]
struct Seen(u64);

#[derive(Clone)]
struct Shared(Arc<Inner>);

struct Inner {
    /// The last number of each room. Held while its event is sent, and while somebody joins.
    rooms: Vec<Mutex<u64>>,
    /// The last number of each client.
    clients: Mutex<HashMap<u64, u64>>,
    violations: Mutex<Vec<String>>,
}

impl Shared {
    fn room(&self, number: usize) -> MutexGuard<'_, u64> {
        self.0.rooms[number].lock().expect("no holder panics")
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.0.clients.lock().expect("no holder panics")
    }

    fn violations(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.violations.lock().expect("no holder panics")
    }
}

/// Serves until standard input ends or says `end`.
pub(crate) async fn serve(tick: Duration, rooms: usize) -> Result<()> {
    let inner = Inner {
        rooms: (0..rooms).map(|_| Mutex::default()).collect(),
        clients: Mutex::default(),
        violations: Mutex::default(),
    };
    let shared = Shared(Arc::new(inner));
    let recovery = ConnectionStateRecovery::default().max_disconnection_duration(ABSENCE_MAX);
    let io = Server::builder()
        .ping_interval(PING)
        .ping_timeout(PING)
        .connect_timeout(2 * PING)
        .connection_state_recovery(recovery)
        .state(shared.clone())
        .build();
    io.on_connection(connected);
    io.on("count", count);
    let errors = shared.clone();
    io.on_error(move |_, event, error| {
        errors.violations().push(format!("the server: the handler of {event} failed: {error}"));
    });
    let listener = sockeye::listen("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let app = Router::new().layer(io.layer());
    let http = tokio::spawn(async move { axum::serve(listener, app).await });
    let ticks = tokio::spawn(tick_all(io.clone(), shared.clone(), tick));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match &*line {
            "stats" => println!("{}", stats(&io)),
            "quiet" => {
                ticks.abort();
                let last: Vec<u64> = (0..rooms).map(|room| *shared.room(room)).collect();
                println!("{}", json!(last));
            }
            "audit" => println!("{}", audit(&shared)),
            _ => break,
        }
    }
    io.shutdown(PING).await;
    http.abort();
    Ok(())
}

fn stats(io: &Server) -> Value {
    let root = io.of("/");
    json!({
        "sessions": io.session_count(),
        "sockets": root.socket_count(),
        "rooms": root.room_count(),
    })
}

fn audit(shared: &Shared) -> Value {
    let violations = shared.violations();
    let shown: Vec<_> = violations.iter().take(VIOLATIONS_SHOWN_MAX).collect();
    let clients: Vec<(u64, u64)> =
        shared.clients().iter().map(|(who, last)| (*who, *last)).collect();
    json!({ "violations": violations.len(), "shown": shown, "clients": clients })
}

async fn connected(socket: Socket, Auth(who): Auth<Client>, State(shared): State<Shared>) {
    socket.data().insert(who);
    // A client that comes back sends again what was not acknowledged.
    socket.data().insert(Seen::default());
    if socket.recovered() {
        return;
    }
    let number = who.client as usize % shared.0.rooms.len();
    let last = shared.room(number);
    socket.join(room_name(number));
    // Gone already, it hears nothing.
    let _ = socket.emit("hello", *last);
}

/// A client's event: its numbers come without gaps, and over one connection none comes twice.
async fn count(
    socket: Socket,
    Extension(who): Extension<Client>,
    Data(number): Data<u64>,
    State(shared): State<Shared>,
) -> Result<u64, HandlerError> {
    let client = who.client;
    let seen = socket.data().update(|Seen(seen)| std::mem::replace(seen, number));
    let mut clients = shared.clients();
    let last = clients.entry(client).or_default();
    if seen.is_some_and(|seen| seen > 0 && number != seen + 1) || number > *last + 1 {
        let text = format!("client {client}: {number} came behind {seen:?}, {last} was the last");
        shared.violations().push(text);
    }
    *last = number.max(*last);
    Ok(number)
}

async fn tick_all(io: Server, shared: Shared, tick: Duration) {
    let rooms = shared.0.rooms.len();
    let fill = "x".repeat(FILL_BYTES);
    let mut interval = tokio::time::interval(tick / u32::try_from(rooms).unwrap_or(u32::MAX));
    for room in (0..rooms).cycle() {
        interval.tick().await;
        let mut last = shared.room(room);
        *last += 1;
        let sent = io.to(room_name(room)).emit("tick", (&fill, *last));
        sent.expect("numbers and text can be written");
    }
}

fn room_name(number: usize) -> String {
    format!("room {number}")
}
