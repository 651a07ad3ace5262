//! The application's hooks on the way of a request: who is asked what, when, and what comes of it.

use std::sync::{Arc, Mutex};

use http::request::Parts;
use sockeye::{
    ConnectionErrorContext as Context, Cors, Refusal, Server, ServerBuilder, SessionCookie,
    Transport,
};

use crate::support::http::{get, header, text, upgrade};
use crate::support::{Host, Polling, WebSocket, until_empty};

const POLLING: &str = "EIO=4&transport=polling";
const WEBSOCKET: &str = "EIO=4&transport=websocket";

type List = Arc<Mutex<Vec<String>>>;

fn taken(list: &List) -> Vec<String> {
    std::mem::take(&mut *list.lock().expect("no holder panics"))
}

fn value(request: &Parts, name: &str) -> Option<String> {
    let query = request.uri.query().unwrap_or("").split('&');
    query
        .filter_map(|pair| pair.split_once('='))
        .find(|(have, _)| *have == name)
        .map(|pair| pair.1.to_owned())
}

/// Lets in whose query has no `refuse`, or refuses with its value in quotes; tells whom it was
/// asked about.
fn asking(asked: &List) -> ServerBuilder {
    let asked = asked.clone();
    Server::builder().allow_request(move |request: Parts| {
        asked.lock().expect("no holder panics").push(request.uri.to_string());
        async move {
            tokio::task::yield_now().await;
            match value(&request, "refuse") {
                None => Ok(()),
                Some(message) if message.is_empty() => Err(Refusal::default()),
                Some(message) => Err(Refusal::from(format!("\"{message}\""))),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a1_allow_request_is_asked_about_handshakes_and_nothing_else() {
    let asked = List::default();
    let host = Host::in_memory(asking(&asked).build());
    let client = Polling::join(&host).await;
    let mut probe = WebSocket::open(&host, &client.sid).await.expect("a handshake");
    probe.send("2probe").await;
    assert_eq!(probe.next().await.as_deref(), Some("3probe"));
    assert_eq!(taken(&asked), [format!("/socket.io/?{POLLING}")]);
    WebSocket::join(&host).await;
    assert_eq!(taken(&asked).len(), 1);
    // What is wrong otherwise is not worth the question.
    get(&host, "EIO=4&transport=pigeon", &[]).await;
    get(&host, &format!("{POLLING}&sid=unknown"), &[]).await;
    get(&host, WEBSOCKET, &[]).await;
    get(&host, POLLING, &[("origin", "http://evil.example")]).await;
    assert_eq!(taken(&asked), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn h02_a_refusal_is_403_over_http_and_400_before_the_101() {
    let asked = List::default();
    let host = Host::in_memory(asking(&asked).build());
    for (query, message) in [("refuse=", "Forbidden"), ("refuse=not", "\"not\"")] {
        let answer = get(&host, &format!("{POLLING}&{query}"), &[]).await;
        assert_eq!(answer.status(), 403);
        let body = serde_json::json!({ "code": 4, "message": message });
        assert_eq!(text(&answer).parse::<serde_json::Value>().expect("JSON"), body);

        let answer = upgrade(&host, &format!("{WEBSOCKET}&{query}"), &[]).await;
        assert_eq!((answer.status().as_u16(), text(&answer)), (400, message));
        assert_eq!(header(&answer, "connection"), "close");
    }
    // The application comes before the revision, as in Node.
    let answer = get(&host, "EIO=3&transport=polling&refuse=", &[]).await;
    assert_eq!(answer.status(), 403);
    let answer = get(&host, "EIO=3&transport=polling", &[]).await;
    assert_eq!(text(&answer), r#"{"code":5,"message":"Unsupported protocol version"}"#);
    until_empty(&host.io).await;
}

/// A server that tells of refusals: code, message, official name, and the context.
fn telling(builder: ServerBuilder) -> (Host, List) {
    let told = List::default();
    let into = told.clone();
    let io = builder
        .on_connection_error(move |error| {
            let name = error.context.name().unwrap_or("-");
            let context = match &error.context {
                Context::Transport { transport } => format!("{transport:?}"),
                Context::Session { sid } => sid.to_string(),
                Context::Method { method } => method.to_string(),
                Context::TransportMismatch { transport, previous } => {
                    format!("{transport} {}", previous.as_str())
                }
                Context::ProtocolMismatch { protocol, previous } => {
                    format!("{protocol} {previous}")
                }
                Context::TransportHandshake { error } => error.clone().unwrap_or_default(),
                Context::IdGeneration { error } => error.to_string(),
                Context::CrossOrigin { origin } => String::from_utf8_lossy(origin).into_owned(),
                Context::Protocol { protocol } => protocol.to_string(),
                other => format!("{other:?}"),
            };
            let code = error.code.map_or("-".to_owned(), |code| code.to_string());
            let line = format!("{code}|{}|{name}|{context}", error.message);
            assert_eq!(error.request.uri.path(), "/socket.io/");
            into.lock().expect("no holder panics").push(line);
        })
        .build();
    (Host::in_memory(io), told)
}

#[tokio::test(start_paused = true)]
async fn a3_the_hook_is_told_of_each_refusal_what_the_client_is_told_and_why() {
    let (host, told) = telling(asking(&List::default()));
    let session = Polling::join(&host).await;
    let sid = &session.sid;
    for (query, expected) in [
        ("EIO=4", "0|Transport unknown|-|None"),
        ("EIO=4&transport=__proto__", "0|Transport unknown|-|Some(\"__proto__\")"),
        (&format!("{POLLING}&sid=%22x"), "1|Session ID unknown|-|\"x"),
        (&format!("{WEBSOCKET}&sid={sid}"), "3|Bad request|TRANSPORT_MISMATCH|websocket polling"),
        (&format!("EIO=3&transport=polling&sid={sid}"), "3|Bad request|PROTOCOL_MISMATCH|3 4"),
        (WEBSOCKET, "3|Bad request|TRANSPORT_HANDSHAKE_ERROR|"),
        (&format!("{POLLING}&refuse=no"), "4|\"no\"|-|Refused"),
        ("EIO=3&transport=polling", "5|Unsupported protocol version|-|3"),
    ] {
        assert!(get(&host, query, &[]).await.status().is_client_error());
        assert_eq!(taken(&told), [expected], "{query}");
    }
    let evil = [("origin", "http://evil.example")];
    assert_eq!(get(&host, POLLING, &evil).await.status(), 403);
    assert_eq!(taken(&told), ["4|Forbidden|-|http://evil.example"]);

    let request = http::Request::put(format!("/socket.io/?{POLLING}")).header("host", "localhost");
    let request = request.body(String::new()).expect("a valid request");
    crate::support::http::send(&host, request).await.expect("an answer");
    assert_eq!(taken(&told), ["2|Bad handshake method|-|PUT"]);

    // Not one of Node's: a handshake that RFC 6455 does not allow.
    let answer =
        get(&host, WEBSOCKET, &[("connection", "Upgrade"), ("upgrade", "websocket")]).await;
    assert_eq!(answer.status(), 400);
    let missing = "the Sec-WebSocket-Key header is missing or invalid";
    let expected = format!("3|{missing}|TRANSPORT_HANDSHAKE_ERROR|{missing}");
    assert_eq!(taken(&told), [expected]);

    // Sessions that are served, and their ends, are no refusals.
    assert_eq!(session.post("1").await, 200);
    assert_eq!(taken(&told), [""; 0]);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a1_own_ids_are_used_and_those_that_are_none_or_taken_refuse_the_client() {
    let builder = Server::builder()
        .generate_id(async |request: Parts| value(&request, "id").ok_or("no id was asked for"));
    let (host, told) = telling(builder);
    let own = "abcdefghij-_KLMNO012";
    let first = get(&host, &format!("{POLLING}&id={own}"), &[]).await;
    assert!(text(&first).starts_with(&format!("0{{\"sid\":\"{own}\"")), "{}", text(&first));
    assert_eq!(taken(&told), [""; 0]);

    let shape = "a session id has 20 characters of A-Z a-z 0-9 - _";
    for (query, why) in [
        ("", "no id was asked for"),
        ("&id=short", shape),
        ("&id=abcdefghij-_KLMNO01!", shape),
        ("&id=abcdefghij-_KLMNO0123", shape),
        (&format!("&id={own}"), "the session id is in use"),
    ] {
        let answer = get(&host, &format!("{POLLING}{query}"), &[]).await;
        assert_eq!(text(&answer), r#"{"code":3,"message":"Bad request"}"#);
        let expected = format!("3|Bad request|ID_GENERATION_ERROR|{why}");
        assert_eq!(taken(&told), [expected.as_str()]);
        let answer = upgrade(&host, &format!("{WEBSOCKET}{query}"), &[]).await;
        assert_eq!((answer.status().as_u16(), text(&answer)), (400, "Bad request"));
        assert_eq!(taken(&told), [expected]);
    }
    assert_eq!(host.io.session_count(), 1, "the session whose id it is goes on");
    let other = "ABCDEFGHIJKLMNOPQRST";
    let mut websocket =
        WebSocket::open_with(&host, &format!("&id={other}"), &[]).await.expect("101");
    let open = websocket.next().await.expect("the open packet");
    assert!(open.contains(other), "{open}");
}

#[tokio::test(start_paused = true)]
async fn a_race_for_one_own_id_has_one_winner() {
    let builder = Server::builder().generate_id(async |_: Parts| {
        // All are asked before any is registered.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Ok::<_, String>("abcdefghij-_KLMNO012".to_owned())
    });
    let (host, _) = telling(builder);
    let mut tasks = Vec::new();
    for number in 0..10 {
        let host = host.clone();
        tasks.push(tokio::spawn(async move {
            if number % 2 == 0 {
                let answer = get(&host, POLLING, &[]).await;
                return answer.status() == 200;
            }
            match WebSocket::open(&host, "").await {
                Ok(mut websocket) => websocket.next().await.is_some(),
                Err(_) => false,
            }
        }));
    }
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.expect("it does not panic"));
    }
    assert_eq!(winners, 1);
    until_empty(&host.io).await;
}

/// A server whose hooks number the responses they see.
fn numbering() -> Server {
    let (initial, each) = (Mutex::new(0), Mutex::new(0));
    let next = |counter: &Mutex<u32>| {
        let mut counter = counter.lock().expect("no holder panics");
        *counter += 1;
        http::HeaderValue::from(*counter)
    };
    Server::builder()
        .cors(Cors::origin("http://page.example"))
        .cookie(SessionCookie::default())
        .initial_headers(move |headers, _| {
            headers.insert("x-initial", next(&initial));
        })
        .headers(move |headers, request| {
            headers.insert("x-each", next(&each));
            headers.insert("x-method", request.method.as_str().parse().expect("a method"));
        })
        .build()
}

#[tokio::test(start_paused = true)]
async fn h28_initial_headers_once_per_session_headers_on_each_response() {
    let host = Host::in_memory(numbering());
    let open = get(&host, POLLING, &[("origin", "http://page.example")]).await;
    assert_eq!((header(&open, "x-initial"), header(&open, "x-each")), ("1", "1"));
    assert_eq!(header(&open, "access-control-allow-origin"), "http://page.example");
    let sid = text(&open).split('"').nth(3).expect("an id").to_owned();
    let post = http::Request::post(format!("/socket.io/?{POLLING}&sid={sid}"))
        .header("host", "localhost")
        .body("40".to_owned())
        .expect("a valid request");
    let post = crate::support::http::send(&host, post).await.expect("an answer");
    assert_eq!((header(&post, "x-each"), header(&post, "x-method")), ("2", "POST"));
    let poll = get(&host, &format!("{POLLING}&sid={sid}"), &[]).await;
    assert_eq!((header(&poll, "x-each"), header(&poll, "x-method")), ("3", "GET"));
    let probe = upgrade(&host, &format!("{WEBSOCKET}&sid={sid}"), &[]).await;
    assert_eq!((probe.status().as_u16(), header(&probe, "x-each")), (101, "4"));
    for answer in [&post, &poll, &probe] {
        assert_eq!(header(answer, "x-initial"), "");
    }
    let websocket = upgrade(&host, WEBSOCKET, &[]).await;
    assert_eq!(websocket.status(), 101);
    assert_eq!((header(&websocket, "x-initial"), header(&websocket, "x-each")), ("2", "5"));
    let refused = get(&host, "EIO=3&transport=polling", &[]).await;
    assert_eq!((header(&refused, "x-initial"), header(&refused, "x-each")), ("", ""));
}

#[tokio::test(start_paused = true)]
async fn h27_the_cookie_comes_with_a_polling_handshake_and_nothing_else() {
    let host = Host::in_memory(numbering());
    let open = get(&host, POLLING, &[]).await;
    let sid = text(&open).split('"').nth(3).expect("an id").to_owned();
    let expected = format!("io={sid}; HttpOnly; SameSite=Lax; Path=/");
    assert_eq!(header(&open, "set-cookie"), expected);
    let poll = tokio::spawn({
        let (host, query) = (host.clone(), format!("{POLLING}&sid={sid}"));
        async move { get(&host, &query, &[]).await }
    });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(host.io.session_count_over(Transport::Polling), 1);
    host.io.shutdown(std::time::Duration::from_secs(5)).await;
    assert_eq!(header(&poll.await.expect("an answer"), "set-cookie"), "");

    let host = Host::in_memory(numbering());
    let websocket = upgrade(&host, WEBSOCKET, &[]).await;
    assert_eq!((websocket.status().as_u16(), header(&websocket, "set-cookie")), (101, ""));
}

#[tokio::test(start_paused = true)]
async fn a4_internet_explorer_is_told_to_leave_payloads_alone() {
    let host = Host::in_memory(Server::default());
    let ie = "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko";
    for (agent, expected) in [(ie, "0"), ("Mozilla/4.0 (compatible;MSIE 6.0)", "0"), ("curl", "")] {
        let answer = get(&host, POLLING, &[("user-agent", agent)]).await;
        assert_eq!(header(&answer, "x-xss-protection"), expected, "{agent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a7_on_upgrade_sees_the_sockets_whose_connection_changes() {
    let seen = List::default();
    let into = seen.clone();
    let io = Server::builder()
        .on_upgrade(move |socket| {
            let line = format!("{} {}", socket.namespace().name(), socket.transport().as_str());
            into.lock().expect("no holder panics").push(line);
            assert_ne!(socket.namespace().name(), "/panics", "a panic of the test");
        })
        .build();
    let failures = List::default();
    let into = failures.clone();
    io.on_error(move |_, event, error| {
        into.lock().expect("no holder panics").push(format!("{event} {}", error.code()));
    });
    drop((io.of("/panics"), io.of("/later")));
    let host = Host::in_memory(io);
    let client = Polling::join(&host).await;
    assert_eq!(client.post("40/panics,").await, 200);
    client.get().await.expect("the CONNECT is answered");
    let mut websocket = WebSocket::open(&host, &client.sid).await.expect("a handshake");
    websocket.send("2probe").await;
    assert_eq!(websocket.next().await.as_deref(), Some("3probe"));
    assert_eq!(taken(&seen), [""; 0], "it has not gone over yet");
    websocket.send("5").await;
    let is_over = || host.io.session_count_over(Transport::WebSocket) == 1;
    crate::support::until("it has gone over", is_over).await;
    websocket.send("40/later,").await;
    assert!(websocket.next().await.expect("CONNECT").starts_with("40/later,"));
    let mut lines = taken(&seen);
    lines.sort();
    assert_eq!(lines, ["/ websocket", "/panics websocket"]);
    assert_eq!(taken(&failures), ["upgrade internal"]);

    WebSocket::join(&host).await;
    assert_eq!(taken(&seen), [""; 0], "it was over WebSocket all along");
}
