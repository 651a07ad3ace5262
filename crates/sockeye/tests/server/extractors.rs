//! What handlers can be given, and what becomes of what is missing or wrong.
//! FEATURES B4 (`handshake`, `data`), H 69; own extractors.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::{
    Ack, Args, Auth, Binary, ConnectError, Data, EventName, Extension, FromParts, HandlerError,
    Handshake, Namespace, OnEvent, Parts, RawArgs, Rejection, Reply, Server, Socket, SocketId,
    State, with,
};

use crate::support::{Host, WebSocket};

#[derive(Clone, Deserialize)]
struct User {
    name: String,
}

/// Joins with this `auth`.
async fn join(host: &Host, auth: &str) -> (WebSocket, String) {
    let mut client = WebSocket::open(host, "").await.expect("a handshake");
    client.next().await.expect("the open packet");
    client.send(&format!("40{auth}")).await;
    let answer = client.next().await.expect("the CONNECT is answered");
    (client, answer)
}

async fn ask(client: &mut WebSocket, event: &str) -> Value {
    client.send(&format!("420[{event}]")).await;
    let answer = client.next().await.expect("an answer");
    let answer = answer.strip_prefix("430").unwrap_or_else(|| panic!("{answer}"));
    serde_json::from_str(answer).expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn whom_an_event_concerns_and_what_is_kept_for_handlers() {
    let io = Server::builder().state(7_u32).build();
    io.middleware(
        async |socket: Socket, auth: Result<Auth<User>, Rejection>, State(n): State<u32>| {
            assert_eq!(n, 7);
            let Ok(Auth(user)) = auth else { return Err(ConnectError::new("who?")) };
            socket.data().insert(user);
            Ok(())
        },
    );
    #[expect(clippy::too_many_arguments, reason = "as many as a handler may have")]
    async fn all(
        socket: Socket,
        id: SocketId,
        namespace: Namespace,
        handshake: Arc<Handshake>,
        Extension(User { name }): Extension<User>,
        Auth(auth): Auth<Value>,
        State(state): State<u32>,
        EventName(event): EventName,
    ) -> Reply<Value> {
        assert!(socket.id() == id && socket.namespace().name() == namespace.name());
        // H69: the query is that of the connection's request.
        assert_eq!(handshake.query_value("transport").as_deref(), Some("websocket"));
        assert_eq!(handshake.url(), socket.handshake().url());
        Reply(json!([namespace.name(), name, auth, state, event]))
    }
    io.on("all", all);
    let host = Host::in_memory(io);
    let (mut client, _) = join(&host, "{\"name\":\"Ann\"}").await;
    let expected = json!([["/", "Ann", { "name": "Ann" }, 7, "all"]]);
    assert_eq!(ask(&mut client, "\"all\"").await, expected);
    let (_, refused) = join(&host, "{\"name\":1}").await;
    assert_eq!(refused, "44{\"message\":\"who?\"}");
}

#[tokio::test(start_paused = true)]
async fn arguments_one_by_one_all_together_and_unread() {
    let io = Server::default();
    io.on("some", async |Data(a): Data<u8>, Data(b): Data<String>, RawArgs(rest): RawArgs| {
        Ok::<_, HandlerError>((a, b, rest.raw().to_owned()))
    });
    io.on("later", async |RawArgs(args): RawArgs| {
        Ok::<_, HandlerError>(args.cursor().next::<u8>()? + 1)
    });
    io.on("all", async |Data(a): Data<u8>, Args((b, c)): Args<(bool, Vec<u8>)>| Reply((a, b, c)));
    io.on("list", async |Args(list): Args<Vec<u32>>| Reply(list.iter().sum::<u32>()));
    io.on("bytes", async |Data(first): Data<Binary>, Data(deep): Data<Vec<Binary>>| {
        Reply((first.len(), deep.iter().map(|bytes| bytes.len()).sum::<usize>()))
    });
    let host = Host::in_memory(io);
    let (mut client, _) = join(&host, "").await;
    assert_eq!(ask(&mut client, "\"some\",1,\"b\",[2],{}").await, json!([[1, "b", "[2],{}"]]));
    assert_eq!(ask(&mut client, "\"all\",1,true,[2]").await, json!([1, true, [2]]));
    assert_eq!(ask(&mut client, "\"list\",1,2,3").await, json!([6]));
    assert_eq!(ask(&mut client, "\"list\"").await, json!([0]));
    assert_eq!(ask(&mut client, "\"later\",1").await, json!([2]));
    assert_eq!(ask(&mut client, "\"later\",\"x\"").await[0]["code"], "bad_arguments");
    let error = ask(&mut client, "\"some\",1").await;
    assert_eq!(error[0]["code"], "bad_arguments");
    assert!(error[0]["message"].as_str().expect("text").starts_with("argument 2: "), "{error}");
    // What is not expected is repeated in part only, however long it is.
    let long = format!("\"all\",1,\"{}\"", "é".repeat(50_000));
    let error = ask(&mut client, &long).await;
    let message = error[0]["message"].as_str().expect("text");
    assert!(message.starts_with("arguments: ") && message.len() < 500, "{message}");
    let error = ask(&mut client, "\"bytes\",1").await;
    assert!(error[0]["message"].as_str().expect("text").contains("binary data"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_none_and_what_is_wrong_is_an_error_all_the_same() {
    let io = Server::default();
    io.on("data", async |first: Option<Data<u8>>, second: Option<Data<u8>>| {
        Reply((first.map(|Data(n)| n), second.map(|Data(n)| n)))
    });
    io.on("args", async |args: Option<Args<(u8,)>>| Reply(args.map(|Args((n,))| n)));
    io.on("auth", async |auth: Option<Auth<User>>| Reply(auth.map(|Auth(user)| user.name)));
    io.on("kept", async |state: Option<State<u32>>, own: Option<Extension<User>>| {
        Reply((state.is_some(), own.is_some()))
    });
    io.on("state", async |State(_): State<u32>| {});
    io.on("own", async |Extension(_): Extension<User>| {});
    io.on("any", async |data: Result<Data<u8>, Rejection>| {
        Reply(data.map_or_else(|error| error.to_string(), |Data(n)| n.to_string()))
    });
    let host = Host::in_memory(io.clone());
    let (mut client, _) = join(&host, "").await;
    assert_eq!(ask(&mut client, "\"data\"").await, json!([null, null]));
    assert_eq!(ask(&mut client, "\"data\",null,2").await, json!([null, 2]));
    assert_eq!(ask(&mut client, "\"data\",1,\"x\"").await[0]["code"], "bad_arguments");
    assert_eq!(ask(&mut client, "\"args\"").await, json!([null]));
    assert_eq!(ask(&mut client, "\"args\",5").await, json!([5]));
    assert_eq!(ask(&mut client, "\"args\",null").await[0]["code"], "bad_arguments");
    assert_eq!(ask(&mut client, "\"auth\"").await, json!([null]));
    assert_eq!(ask(&mut client, "\"kept\"").await, json!([false, false]));
    assert_eq!(ask(&mut client, "\"any\",5").await, json!(["5"]));
    assert!(ask(&mut client, "\"any\",\"x\"").await[0].as_str().is_some_and(|t| t.len() > 5));
    for (event, whose) in [("state", "the server's state has no u32"), ("own", "has no ")] {
        let error = ask(&mut client, &format!("\"{event}\"")).await;
        assert!(error[0]["message"].as_str().expect("text").contains(whose), "{error}");
    }
    let (mut ann, _) = join(&host, "{\"name\":\"Ann\"}").await;
    assert_eq!(ask(&mut ann, "\"auth\"").await, json!(["Ann"]));
    let (mut other, _) = join(&host, "{\"name\":1}").await;
    assert_eq!(ask(&mut other, "\"auth\"").await[0]["code"], "bad_arguments");
}

/// An own extractor: the second argument must be as long as the first says.
struct Measured(String);

impl FromParts<OnEvent> for Measured {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        let len: usize = parts.next_argument()?;
        let text: String = parts.next_argument()?;
        if text.len() == len { Ok(Self(text)) } else { Err(Rejection::new("not so long")) }
    }
}

#[tokio::test(start_paused = true)]
async fn own_extractors_functions_closures_and_what_they_capture() {
    async fn function(Measured(text): Measured) -> Result<String, Rejection> {
        Ok(text)
    }
    let io = Server::default();
    io.on("function", function);
    let word = "captured".to_owned();
    io.on(
        "with",
        with((word.clone(), 1), async |(word, n): (String, u8), Data(m): Data<u8>| {
            tokio::task::yield_now().await;
            Ok::<_, HandlerError>((word, n + m))
        }),
    );
    io.on("closure", move |Data(n): Data<usize>, _: Socket| {
        let word = word.clone();
        async move { Reply(word.repeat(n)) }
    });
    io.on("panics", async |_: Panics| {});
    let host = Host::in_memory(io);
    let (mut client, _) = join(&host, "").await;
    assert_eq!(ask(&mut client, "\"function\",2,\"ab\"").await, json!(["ab"]));
    let error = ask(&mut client, "\"function\",3,\"ab\"").await;
    assert_eq!(error[0]["message"], "not so long");
    assert_eq!(ask(&mut client, "\"with\",2").await, json!([["captured", 3]]));
    assert_eq!(ask(&mut client, "\"closure\",2").await, json!(["capturedcaptured"]));
    assert_eq!(ask(&mut client, "\"panics\"").await[0]["code"], "internal");
}

struct Panics;

impl FromParts<OnEvent> for Panics {
    fn from_parts(_: &mut Parts<'_>) -> Result<Self, Rejection> {
        panic!("on purpose")
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_refused_for_its_arguments_is_still_answered() {
    let io = Server::default();
    io.on("event", async |ack: Ack, Data(n): Data<u8>| drop(ack.send(n)));
    let host = Host::in_memory(io);
    let (mut client, _) = join(&host, "").await;
    assert_eq!(ask(&mut client, "\"event\",\"x\"").await[0]["code"], "bad_arguments");
    assert_eq!(ask(&mut client, "\"event\",5").await, json!([5]));
}
