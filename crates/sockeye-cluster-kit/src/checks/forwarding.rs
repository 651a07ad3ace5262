//! Clients that long-poll through a balancer which is not sticky: another node than that of their
//! session is asked.

use http_body_util::BodyExt;
use hyper::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use sockeye::{RawArgs, Server, Socket};

use crate::{Buses, Cluster};

/// Both ways; text and binary, short and long; a GET that waits; an id of nobody.
pub async fn requests_find_the_node_of_their_session(buses: impl Buses) {
    let mut cluster = Cluster::of(buses, 0).await;
    for _ in 0..2 {
        cluster.add_with(Server::builder().forward_requests(true)).await;
    }
    cluster.until_complete().await;
    for (home, other) in [(0, 1), (1, 0)] {
        let (home, other) = (&cluster.nodes[home], &cluster.nodes[other]);
        home.on("echo", async |socket: Socket, RawArgs(args): RawArgs| socket.emit("echo", args));
        let (_, opened) = request(home, "GET", "", "").await;
        let sid = opened.split('"').nth(3).expect("the id of a session").to_owned();
        assert_eq!(request(other, "POST", &sid, "40").await, (200, "ok".into()));
        let (status, connected) = request(other, "GET", &sid, "").await;
        assert!(status == 200 && connected.starts_with("40{"), "{connected}");
        let binary = "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAAEC/w==";
        let long = format!("42[\"echo\",\"{}\"]", "ü".repeat(50_000));
        for number in 0..20 {
            for event in [&format!("42[\"echo\",{number}]"), binary, &long] {
                assert_eq!(request(other, "POST", &sid, event).await, (200, "ok".into()));
                assert_eq!(request(other, "GET", &sid, "").await, (200, event.to_owned()));
            }
        }
        let waiting = {
            let (other, sid) = (other.clone(), sid.clone());
            tokio::spawn(async move { request(&other, "GET", &sid, "").await })
        };
        assert_eq!(request(home, "POST", &sid, "42[\"echo\"]").await, (200, "ok".into()));
        assert_eq!(waiting.await.expect("it is answered"), (200, "42[\"echo\"]".into()));
        let unknown = format!("{}{}", "A".repeat(16), &sid[16..]);
        let (status, refused) = request(other, "GET", &unknown, "").await;
        assert!(status == 400 && refused.starts_with("{\"code\":1,"), "{refused}");
        assert_eq!(request(other, "POST", &sid, "1").await, (200, "ok".into()));
    }
}

async fn request(io: &Server, method: &str, sid: &str, body: &str) -> (u16, String) {
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let uri = format!("/socket.io/?EIO=4&transport=polling{sid}");
    let request = Request::builder().method(method).uri(uri).body(body.to_owned());
    let service = TowerToHyperService::new(io.service());
    let answer = service.call(request.expect("a request")).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}
