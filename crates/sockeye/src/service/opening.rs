//! Whether a session may be opened: is there room, does the application want the client, under
//! which id. Does not open it; the transports do.

use http::StatusCode;
use http::request::Parts;
use sockeye_proto::SessionId;
use sockeye_proto::engine::Revision;

use super::answering::Checked;
use super::refusal::Refused;
use crate::admission::{Full, Place};
use crate::server::Server;

/// A handshake that is let in.
pub(super) struct Admitted {
    pub(super) place: Place,
    pub(super) id: SessionId,
    pub(super) revision: Revision,
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        match full {
            Full::Connections => Self::Unavailable(busy, "too many connections"),
            Full::Handshakes => Self::Unavailable(busy, "too many handshakes"),
            Full::Address => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::Unavailable(status, "too many connections from this address")
            }
        }
    }
}

pub(super) async fn admit(checked: &Checked, revision: Revision) -> Result<Admitted, Refused> {
    let server = &checked.server;
    if server.is_draining() {
        return Err(Refused::Unavailable(StatusCode::SERVICE_UNAVAILABLE, "shutting down"));
    }
    // Before the application is asked: what its hooks cost is bounded, too.
    let place = Place::take(server, || server.config().client_address.of(&checked.parts))?;
    let hooks = &server.config().hooks;
    let id = if hooks.allow_request.is_none() && hooks.generate_id.is_none() {
        check_revision(server, revision)?;
        random_id(server)?
    } else {
        let limit = server.config().handshake_timeout;
        let asked = tokio::time::timeout(limit, ask(server, &checked.parts, revision)).await;
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        asked.map_err(|_| Refused::Unavailable(busy, "the handshake took too long"))??
    };
    Ok(Admitted { place, id, revision })
}

/// In the order of the official server.
async fn ask(server: &Server, request: &Parts, revision: Revision) -> Result<SessionId, Refused> {
    let hooks = &server.config().hooks;
    if let Some(allow) = &hooks.allow_request {
        allow(request.clone()).await.map_err(Refused::Refusal)?;
    }
    check_revision(server, revision)?;
    let Some(generate) = &hooks.generate_id else { return random_id(server) };
    let id = generate(request.clone()).await.map_err(Refused::Id)?;
    let no_id = || "a session id has 20 characters of A-Z a-z 0-9 - _".to_owned();
    let id = SessionId::parse(&id).ok_or_else(|| Refused::Id(no_id()))?;
    if server.session(&id).is_some() { Err(id_in_use()) } else { Ok(id) }
}

fn check_revision(server: &Server, revision: Revision) -> Result<(), Refused> {
    match revision {
        Revision::V4 => Ok(()),
        Revision::V3 if server.config().allow_eio3 => Ok(()),
        Revision::V3 => Err(Refused::Revision(revision)),
    }
}

fn random_id(server: &Server) -> Result<SessionId, Refused> {
    server.new_session_id().map_err(|error| Refused::Id(error.to_string()))
}

/// Another session has it.
pub(super) fn id_in_use() -> Refused {
    Refused::Id("the session id is in use".to_owned())
}
