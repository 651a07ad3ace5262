//! A long-polling client whose requests are its test's to make, in whatever order.

use ::http::{Method, Request, StatusCode};

use super::{Host, http};

/// The separator of packets in a payload.
const SEPARATOR: char = '\u{1e}';

/// One session; each request opens a connection of its own.
#[derive(Clone)]
pub(crate) struct Polling {
    host: Host,
    pub(crate) sid: String,
}

impl Polling {
    /// Opens a session and joins `/`.
    pub(crate) async fn join(host: &Host) -> Self {
        let client = Self::open(host).await;
        assert_eq!(client.post("40").await, StatusCode::OK);
        let packets = client.get().await.expect("the CONNECT is answered");
        assert!(packets[0].starts_with("40{\"sid\":"), "{packets:?}");
        client
    }

    /// Opens a session.
    pub(crate) async fn open(host: &Host) -> Self {
        let mut client = Self { host: host.clone(), sid: String::new() };
        let packets = client.get().await.expect("a session is opened");
        let open: serde_json::Value = serde_json::from_str(&packets[0][1..]).expect("JSON");
        client.sid = open["sid"].as_str().expect("a session id").to_owned();
        client
    }

    /// The same client, whose requests come to another server.
    pub(crate) fn through(&self, host: &Host) -> Self {
        Self { host: host.clone(), sid: self.sid.clone() }
    }

    /// The packets of a GET, or the status that it was refused with.
    ///
    /// # Cancel safety
    /// Dropped, the client has gone away from the request.
    pub(crate) async fn get(&self) -> Result<Vec<String>, StatusCode> {
        let (status, body) = self.request(Method::GET, "").await.ok_or(StatusCode::IM_A_TEAPOT)?;
        if status != StatusCode::OK {
            return Err(status);
        }
        Ok(body.split(SEPARATOR).map(str::to_owned).collect())
    }

    /// The status of a POST with these packets.
    pub(crate) async fn post(&self, payload: &str) -> StatusCode {
        let answer = self.request(Method::POST, payload).await;
        answer.map_or(StatusCode::IM_A_TEAPOT, |(status, _)| status)
    }

    /// As [`post`](Self::post), for several packets.
    pub(crate) async fn post_all(&self, packets: &[String]) -> StatusCode {
        self.post(&packets.join(&SEPARATOR.to_string())).await
    }

    /// Status and body; `None` if the server cut the connection.
    async fn request(&self, method: Method, body: &str) -> Option<(StatusCode, String)> {
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        let request = Request::builder()
            .method(method)
            .uri(format!("/socket.io/?EIO=4&transport=polling{sid}"))
            .header("host", "localhost")
            .body(body.to_owned())
            .expect("a valid request");
        let answer = http::send(&self.host, request).await?;
        Some((answer.status(), http::text(&answer).to_owned()))
    }
}
