//! What the contract says about listeners, catch-alls and middlewares of events.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sockeye::{
    Binary, Data, EventName, HandlerError, Listener, Namespace, Outgoing, RawArgs, Reply, Socket,
    State, with,
};

use super::{Before, Log};

const REFUSED: &str = "refused";

/// What clients have added, by their words for it.
#[derive(Default)]
struct Added(BTreeMap<String, Listener>);

pub(super) fn listen_to(namespace: &Namespace) {
    namespace.on("send", async |socket: Socket, RawArgs(args): RawArgs, _: sockeye::Ack| {
        let _ = socket.send(args);
    });
    namespace.on("emit-number", async |socket: Socket, Data(number): Data<i64>, args: RawArgs| {
        let _ = socket.emit(number, args.0);
    });
    namespace.on("conflate", conflate);
    namespace.on("listen", listen);
    namespace.on("unlisten", unlisten);
    namespace.on("watch", watch);
    namespace.on("unwatch", unwatch);
    namespace.on("judge", judge);
}

/// A middleware's refusal is recorded; other failures have no record.
pub(super) fn record_refusal(log: &Log, socket: &Socket, error: &HandlerError) {
    if error.code() == REFUSED {
        log.add(socket, "error", json!({ "message": error.message() }));
    }
}

fn keep(socket: &Socket, word: String, listener: Listener) {
    socket.data().update_or_default(|Added(all)| all.insert(word, listener));
}

fn take_off(socket: &Socket, word: &str) {
    let listener = socket.data().update_or_default(|Added(all)| all.remove(word));
    if let Some(listener) = listener {
        socket.off_listener(&listener);
    }
}

async fn conflate(socket: Socket, Data(key): Data<String>, Data(count): Data<u32>) {
    for number in 0..count {
        let _ = socket.conflate(&*key).emit("conflated", number);
    }
    let _ = socket.emit("conflated-end", count);
}

async fn listen(
    socket: Socket,
    Data(event): Data<String>,
    Data(word): Data<String>,
    Data(how): Data<String>,
) -> Reply<usize> {
    let heard = async |word: String, socket: Socket, RawArgs(args): RawArgs| {
        let _ = socket.emit("heard", Before(vec![json!(word)], args));
    };
    let answer = async |word: String| Ok::<_, HandlerError>(word);
    let listener = match &*how {
        "once" => socket.once(event.clone(), with(word.clone(), heard)),
        "answer" => socket.on(event.clone(), with(word.clone(), answer)),
        _ => socket.on(event.clone(), with(word.clone(), heard)),
    };
    keep(&socket, word, listener);
    Reply(socket.listener_count(event))
}

async fn unlisten(
    socket: Socket,
    Data(event): Data<String>,
    Data(word): Data<Option<String>>,
) -> Reply<usize> {
    match word {
        Some(word) => take_off(&socket, &word),
        None => drop(socket.off(&event)),
    }
    Reply(socket.listener_count(event))
}

async fn watch(
    socket: Socket,
    Data(direction): Data<String>,
    Data(word): Data<String>,
    Data(first): Data<bool>,
    State(log): State<Log>,
) {
    let saw = async |word: String,
                     socket: Socket,
                     EventName(event): EventName,
                     RawArgs(args): RawArgs| {
        let _ = socket.emit("saw", Before(vec![json!(word), json!(event)], args));
    };
    let told = word.clone();
    let outgoing = move |socket: &Socket, event: &Outgoing<'_>| {
        let more = json!({ "word": told, "name": event.name(), "args": readable(event) });
        log.add(socket, "outgoing", more);
    };
    let listener = match (&*direction, first) {
        ("out", false) => socket.on_any_outgoing(outgoing),
        ("out", true) => socket.prepend_any_outgoing(outgoing),
        (_, false) => socket.on_any(with(word.clone(), saw)),
        (_, true) => socket.prepend_any(with(word.clone(), saw)),
    };
    keep(&socket, word, listener);
}

async fn unwatch(socket: Socket, Data(direction): Data<String>, Data(word): Data<Option<String>>) {
    match (&*direction, word) {
        (_, Some(word)) => take_off(&socket, &word),
        ("out", None) => drop(socket.off_any_outgoing()),
        (_, None) => drop(socket.off_any()),
    }
}

/// The arguments, binary ones as lists of bytes.
fn readable(event: &Outgoing<'_>) -> Vec<Value> {
    let mut all = Vec::new();
    let mut args = event.args();
    while !args.is_empty() {
        let bytes = args.clone().next::<Binary>();
        let value = args.next::<Value>().unwrap_or_default();
        all.push(bytes.map_or(value, |bytes| json!(&*bytes)));
    }
    all
}

async fn judge(
    socket: Socket,
    Data(event): Data<String>,
    Data(word): Data<String>,
    Data(delay): Data<u64>,
    Data(refuse): Data<Option<String>>,
) {
    let delay = Duration::from_millis(delay);
    let judge = async |(event, word, delay, refuse): (String, String, Duration, Option<String>),
                       socket: Socket,
                       EventName(name): EventName| {
        if name != event {
            return Ok(());
        }
        tokio::time::sleep(delay).await;
        let _ = socket.emit("judged", &word);
        refuse.map_or(Ok(()), |message| Err(HandlerError::new(REFUSED, message)))
    };
    socket.event_middleware(with((event, word, delay, refuse), judge));
}
