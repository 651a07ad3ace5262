//! An extractor for axum, and refusals as its responses.
//! Does not know the router; the handler's response makes the connection.

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::Request;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;

use super::{Refusal, Server};
use crate::net::{AnyStream, WebSocket};

/// A request for a WebSocket connection, as an argument of an axum handler for GET.
///
/// A request that is none is refused before the handler runs: with 405, 400 or 426 and a body
/// that says why.
///
/// ```no_run
/// use axum::extract::State;
/// use axum::response::Response;
/// use axum::routing::get;
/// use sockeye_ws::net::{Server, WebSocketUpgrade};
///
/// async fn echo(State(server): State<Server>, upgrade: WebSocketUpgrade) -> Response {
///     upgrade
///         .accept(&server, |mut websocket| async move {
///             while let Some(Ok(message)) = websocket.next().await {
///                 if message.is_data() && websocket.send(message).await.is_err() {
///                     break;
///                 }
///             }
///         })
///         .await
/// }
///
/// let server = Server::builder().origins(["https://example.com"]).build();
/// let app: axum::Router = axum::Router::new().route("/echo", get(echo)).with_state(server);
/// ```
#[derive(Debug)]
#[must_use = "the handler's response makes the connection"]
pub struct WebSocketUpgrade {
    request: Request<()>,
}

impl<S: Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.version_mut() = parts.version;
        *request.headers_mut() = parts.headers.clone();
        // Only one can have the stream; what else is known of the request, both may see.
        let on_upgrade = parts.extensions.remove::<OnUpgrade>();
        *request.extensions_mut() = parts.extensions.clone();
        if let Some(on_upgrade) = on_upgrade {
            request.extensions_mut().insert(on_upgrade);
        }
        let verified = Server::verify(&request).map(drop);
        verified.map_err(|error| error.refusal().unwrap_or_else(Refusal::forbidden))?;
        Ok(Self { request })
    }
}

impl WebSocketUpgrade {
    /// Runs the server's checks and makes the response. If the request is let in, `handler` gets
    /// the connection in a task of its own, once the client has the response.
    pub async fn accept<H, F>(mut self, server: &Server, handler: H) -> Response
    where
        H: FnOnce(WebSocket<AnyStream>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (response, upgrade) = server.upgrade(&mut self.request).await;
        if let Some(upgrade) = upgrade {
            tokio::spawn(async move {
                // Failed, the client has gone before the response reached it.
                let Ok(websocket) = upgrade.await else { return };
                // A task of its own, so that the memory of this larger one goes.
                tokio::spawn(handler(websocket));
            });
        }
        response.map(Body::from)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_response().map(Body::from)
    }
}
