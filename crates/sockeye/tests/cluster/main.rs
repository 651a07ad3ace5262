//! Clusters: what every bus must do, on the bus within a process, with and without heartbeats; and
//! what the server does with any bus. Does not know other buses, which run the same checks.

mod buses;
mod failing;
mod log;
mod logged;
mod messages;
mod rooms;

mod known {
    sockeye_cluster_kit::conformance!(async { crate::buses::InProcess::known() });
}

mod logged_conformance {
    sockeye_cluster_kit::conformance!(async { crate::logged::Logged::default() });
    sockeye_cluster_kit::log_conformance!(async { crate::logged::Logged::default() });
}

mod heartbeats {
    sockeye_cluster_kit::conformance!(async { crate::buses::InProcess::with_heartbeats() });
}
