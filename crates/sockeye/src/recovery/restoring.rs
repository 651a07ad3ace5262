//! A client wants to go on with the socket that it had: what is left of that, and whether all is
//! there that it missed. Does not know connections.

use std::sync::Arc;
use std::time::Duration;

use sockeye_proto::socket::EncodedPacket;
use tokio::time::{Instant, timeout};

use super::log::{Absence, Log};
use super::offset::Position;
use super::sessions::Session;
use super::shared::Shared;
use super::{Claim, Origin, Recoverable, Recovery, Restored};
use crate::handler::BoxFuture;
use crate::metrics::{self, Recovery as Outcome};
use crate::panics;

/// For how long nobody is recovered after an event was delivered that ought to be in the cluster's
/// log and may not be, or may be read there later.
const UNCERTAIN_FOR: Duration = Duration::from_secs(10);

/// What a client has missed.
struct Missed {
    /// The client has everything up to here.
    known: Position,
    /// What the log here must tell.
    absence: Absence,
    /// What stands before that.
    read: Vec<EncodedPacket>,
}

/// A session that has been taken away. Dropped, it waits on: its client may come again.
struct Taken {
    recovery: Arc<Recovery>,
    /// Until it is kept.
    session: Option<Session>,
}

impl Taken {
    fn session(&self) -> &Session {
        self.session.as_ref().expect("it has not been kept")
    }

    fn keep(mut self) -> Session {
        self.session.take().expect("it has not been kept")
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.recovery.sessions.keep(session);
        }
    }
}

impl Recovery {
    /// A client wants to go on with the socket that it had. `None`: it cannot.
    pub(crate) fn restore(self: &Arc<Self>, claim: Claim) -> BoxFuture<Option<Restored>> {
        let recovery = self.clone();
        Box::pin(async move {
            let Some(shared) = &recovery.shared else { return recovery.find(&claim).await };
            // Without the log nothing could be told: what is kept stays there for another time.
            if shared.position().is_none() || !shared.is_reading() {
                metrics::recovery(Outcome::Unknown);
                return None;
            }
            let found = timeout(shared.wait_max(), recovery.find(&claim)).await;
            found.unwrap_or_else(|_| {
                tracing::warn!(id = ?claim.id, "not recovered: the cluster's log did not answer");
                metrics::recovery(Outcome::Lost);
                None
            })
        })
    }

    async fn find(self: &Arc<Self>, claim: &Claim) -> Option<Restored> {
        let Some(taken) = self.take(claim).await else {
            metrics::recovery(Outcome::Unknown);
            return None;
        };
        let missed = match &self.shared {
            None => self.find_missed_here(claim, taken.session()),
            Some(shared) => self.find_missed(shared, claim, taken.session()).await,
        };
        let session = taken.keep();
        let Some(Missed { known, absence, read }) = missed else {
            tracing::debug!(id = ?claim.id, "not recovered: what was missed is not known");
            metrics::recovery(Outcome::Lost);
            panics::discard(session);
            return None;
        };
        let Session { id, mut membership, rooms, data, .. } = session;
        let mut origin = membership.clone();
        membership.start = known;
        if self.shared.is_some() {
            // Whoever takes it up later, elsewhere, is not told the offset again.
            origin.start = origin.start.max(known);
        }
        let (socket, left_own) = (membership.socket(), !membership.is_in_own());
        let origin = Origin { membership: origin, rooms: rooms.clone(), absence, read };
        let recoverable = Box::new(Recoverable {
            id,
            membership,
            origin: Some(Box::new(origin)),
            is_recovered: true,
            is_entered: false,
            ending: None,
        });
        Some(Restored { id: socket, left_own, recoverable, rooms, data })
    }

    /// Takes the session away. A client that goes while others are asked for it does not take it
    /// along.
    async fn take(self: &Arc<Self>, claim: &Claim) -> Option<Taken> {
        let (recovery, taking) = (self.clone(), self.sessions.take(claim.id));
        let taking = async move {
            let session = taking.await?;
            Some(Taken { recovery, session: Some(session) })
        };
        match self.shared {
            None => taking.await,
            // What has been asked for may be taken, whoever waits for it.
            Some(_) => tokio::spawn(taking).await.ok().flatten(),
        }
    }

    /// What the client must be told, if that is all here.
    fn find_missed_here(&self, claim: &Claim, session: &Session) -> Option<Missed> {
        let log = self.log.lock();
        let known = log.known(claim.offset.as_deref(), session.membership.start)?;
        let Session { ended_at, received_until, .. } = *session;
        let absence = Absence { known, ended_at, received_until };
        let is_complete = log.is_complete(&session.membership, &absence);
        is_complete.then(|| Missed { known, absence, read: Vec::new() })
    }

    /// As [`find_missed_here`](Self::find_missed_here), where the log is the cluster's: what is not
    /// here any more, or was broadcast before this node was there, is read.
    async fn find_missed(
        &self,
        shared: &Shared,
        claim: &Claim,
        session: &Session,
    ) -> Option<Missed> {
        let membership = &session.membership;
        let offset = claim.offset.as_deref();
        if session.needs_offset && offset.is_none() {
            return None;
        }
        let known = self.log.lock().known(offset, membership.start)?;
        if membership.gap.is_some_and(|gap| gap.seq > known) {
            return None;
        }
        shared.wait_for(known, || self.log.lock().head()).await;
        // Read first: what it does not know of is in the log here.
        let read_to = shared.position()?;
        let absence = |known| Absence { known, ended_at: session.ended_at, received_until: None };
        let until = {
            let log = self.log.lock();
            if !self.is_certain(&log) {
                return None;
            }
            if log.is_complete(membership, &absence(known)) {
                return Some(Missed { known, absence: absence(known), read: Vec::new() });
            }
            log.head().max(read_to)
        };
        let read = shared.read(membership, known, until, self.read_limits).await?;
        Some(Missed { known, absence: absence(until), read })
    }

    /// Whether what is here and in the cluster's log is all that has been delivered.
    pub(super) fn is_certain(&self, log: &Log) -> bool {
        let age = log.unlogged_at().map(|at| Instant::now().saturating_duration_since(at));
        age.is_none_or(|age| age > UNCERTAIN_FOR)
    }
}
