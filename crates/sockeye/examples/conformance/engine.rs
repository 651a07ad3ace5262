//! The Engine.IO part of the test server's contract: options with hooks, cookies and compression,
//! and the record of refused requests. Does not know sockets or events.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::http::request::Parts;
use serde_json::{Value, json};
use sockeye::{
    ConnectionError, ConnectionErrorContext, ConnectionStateRecovery, CookiePriority, Cors,
    HttpCompression, Parser, PerMessageDeflate, Refusal, SameSite, ServerBuilder, SessionCookie,
    WindowBits,
};

const REFUSALS_MAX: usize = 10_000;

/// The requests that were refused, with their marks.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Vec<(String, Value)>>>);

impl Refusals {
    pub(crate) fn of(&self, mark: &str) -> Vec<Value> {
        let refusals = self.0.lock().expect("no holder panics");
        let marked = refusals.iter().filter(|(have, _)| have == mark);
        marked.map(|(_, refusal)| refusal.clone()).collect()
    }

    fn add(&self, error: &ConnectionError<'_>) {
        let Some(mark) = query_value(error.request, "mark") else { return };
        let refusal = json!({
            "code": error.code,
            "message": message_of(error),
            "context": context_of(error),
        });
        let mut refusals = self.0.lock().expect("no holder panics");
        refusals.push((mark, refusal));
        if refusals.len() > REFUSALS_MAX {
            refusals.remove(0);
        }
    }
}

pub(crate) fn with_options(
    mut builder: ServerBuilder,
    options: &Value,
    refusals: &Refusals,
) -> ServerBuilder {
    if options["parser"] == "msgpack" {
        builder = builder.parser(Parser::MessagePack);
    }
    match &options["cookie"] {
        Value::Bool(true) => builder = builder.cookie(SessionCookie::default()),
        Value::Object(_) => builder = builder.cookie(cookie(&options["cookie"])),
        _ => {}
    }
    match &options["httpCompression"] {
        Value::Bool(false) => builder = builder.http_compression(None),
        Value::Object(own) => {
            let mut compression = HttpCompression::default();
            if let Some(bytes) = own.get("threshold").and_then(Value::as_u64) {
                compression.threshold_bytes = bytes as usize;
            }
            builder = builder.http_compression(Some(compression));
        }
        _ => {}
    }
    if let Some(own) = options["perMessageDeflate"].as_object() {
        builder = builder.per_message_deflate(Some(deflate(own)));
    }
    if let Some(text) = options["initialPacket"].as_str() {
        builder = builder.initial_packet(text);
    }
    if options["hooks"] == true { with_hooks(builder, refusals.clone()) } else { builder }
}

/// With Node's defaults, where both sides keep contexts.
fn deflate(own: &serde_json::Map<String, Value>) -> PerMessageDeflate {
    let flag = |name: &str| own.get(name) == Some(&Value::Bool(true));
    let number = |name: &str| own.get(name).and_then(Value::as_u64);
    let bits = |name: &str| {
        let bits = number(name).map(|bits| WindowBits::new(bits as u8).expect("8 to 15"));
        bits.unwrap_or(WindowBits::MAX)
    };
    PerMessageDeflate {
        server_no_context_takeover: flag("serverNoContextTakeover"),
        client_no_context_takeover: flag("clientNoContextTakeover"),
        server_max_window_bits: bits("serverMaxWindowBits"),
        client_max_window_bits: bits("clientMaxWindowBits"),
        threshold_bytes: number("threshold").map_or(1024, |bytes| bytes as usize),
        ..PerMessageDeflate::default()
    }
}

pub(crate) fn recovery(options: &Value) -> ConnectionStateRecovery {
    let mut recovery = ConnectionStateRecovery::default();
    if let Some(ms) = options["maxDisconnectionDuration"].as_u64() {
        recovery = recovery.max_disconnection_duration(Duration::from_millis(ms));
    }
    if let Some(skip) = options["skipMiddlewares"].as_bool() {
        recovery = recovery.skip_middlewares(skip);
    }
    recovery
}

pub(crate) fn cors(options: &Value) -> Cors {
    let origins = match &options["origin"] {
        Value::String(origin) => vec![origin.clone()],
        list => serde_json::from_value(list.clone()).expect("origins are a list"),
    };
    let any = origins.iter().any(|origin| origin == "*");
    let mut rules = if any { Cors::any() } else { Cors::origins(origins) };
    rules = rules.credentials(options["credentials"].as_bool().unwrap_or(false));
    let names = |name: &str| -> Option<Vec<&str>> {
        options[name].as_array().map(|list| list.iter().filter_map(Value::as_str).collect())
    };
    if let Some(names) = names("methods") {
        rules = rules.methods(&names);
    }
    if let Some(names) = names("allowedHeaders") {
        rules = rules.allowed_headers(&names);
    }
    if let Some(names) = names("exposedHeaders") {
        rules = rules.exposed_headers(&names);
    }
    match options["maxAge"].as_u64() {
        Some(seconds) => rules.max_age(Duration::from_secs(seconds)),
        None => rules,
    }
}

fn cookie(options: &Value) -> SessionCookie {
    let text = |name: &str| options[name].as_str();
    let flag = |name: &str| options[name].as_bool().unwrap_or(false);
    let mut cookie = SessionCookie::new(text("name").unwrap_or("io"))
        .http_only(options["httpOnly"] != false)
        .secure(flag("secure"))
        .partitioned(flag("partitioned"));
    if let Some(path) = options.get("path") {
        cookie = cookie.path(path.as_str());
    }
    if let Some(domain) = text("domain") {
        cookie = cookie.domain(domain);
    }
    if let Some(seconds) = options["maxAge"].as_u64() {
        cookie = cookie.max_age(Duration::from_secs(seconds));
    }
    if let Some(ms) = options["expires"].as_u64() {
        cookie = cookie.expires(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
    }
    if let Some(same_site) = options.get("sameSite") {
        cookie = cookie.same_site(match same_site.as_str() {
            Some("strict") => Some(SameSite::Strict),
            Some("none") => Some(SameSite::None),
            Some(_) => Some(SameSite::Lax),
            None => None,
        });
    }
    cookie.priority(match text("priority") {
        Some("low") => Some(CookiePriority::Low),
        Some("high") => Some(CookiePriority::High),
        Some(_) => Some(CookiePriority::Medium),
        None => None,
    })
}

fn with_hooks(builder: ServerBuilder, refusals: Refusals) -> ServerBuilder {
    builder
        .allow_request(async |request: Parts| {
            tokio::task::yield_now().await;
            match query_value(&request, "refuse") {
                None => Ok(()),
                Some(message) if message.is_empty() => Err(Refusal::default()),
                Some(message) => Err(Refusal::from(message)),
            }
        })
        .generate_id(async |request: Parts| {
            tokio::task::yield_now().await;
            match query_value(&request, "id") {
                None => Ok(random_id()),
                Some(id) if id == "fail" => Err("no id"),
                Some(id) => Ok(id),
            }
        })
        .initial_headers(|headers, request| {
            let tag = query_value(request, "tag").unwrap_or_default();
            headers.insert("x-initial", tag.parse().expect("a header's value"));
        })
        .headers(|headers, request| {
            headers.insert("x-each", request.method.as_str().parse().expect("a method"));
        })
        .on_connection_error(move |error| refusals.add(error))
}

fn random_id() -> String {
    let mut entropy = [0; 15];
    getrandom::fill(&mut entropy).expect("the system has randomness");
    sockeye::SocketId::from_entropy(entropy).to_string()
}

fn query_value(request: &Parts, name: &str) -> Option<String> {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&request.uri).ok()?;
    query.0.into_iter().rfind(|(have, _)| have == name).map(|(_, value)| value)
}

/// Node tells the hook the official message also where the client gets the application's own.
fn message_of(error: &ConnectionError<'_>) -> String {
    let is_own = matches!(error.context, ConnectionErrorContext::Refused);
    if is_own { "Forbidden".to_owned() } else { error.message.to_owned() }
}

/// As Node's, member by member.
fn context_of(error: &ConnectionError<'_>) -> Value {
    use ConnectionErrorContext as Context;
    let name = error.context.name();
    match &error.context {
        Context::Transport { transport } => json!({ "transport": transport }),
        Context::Session { sid } => json!({ "sid": sid }),
        Context::Method { method } => json!({ "method": method }),
        Context::TransportMismatch { transport, previous } => {
            let previous = previous.as_str();
            json!({ "name": name, "transport": transport, "previousTransport": previous })
        }
        Context::ProtocolMismatch { protocol, previous } => {
            json!({ "name": name, "protocol": protocol, "previousProtocol": previous })
        }
        Context::TransportHandshake { .. } => json!({ "name": name }),
        Context::IdGeneration { error } => json!({ "name": name, "error": error }),
        Context::Refused => json!({ "message": error.message }),
        Context::Protocol { protocol } => json!({ "protocol": protocol }),
        other => json!({ "other": format!("{other:?}") }),
    }
}
