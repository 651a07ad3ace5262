//! What operators look at: metrics and health, on an address of their own.
//! Does not know what is counted where.

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sockeye::Server;

use crate::app::App;

/// Upper bounds of what is measured in seconds: from a handler that only looks into memory to a
/// disk that has stalled.
const SECONDS: [f64; 11] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The numbers of the process.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Keeps from now on what is counted; to be called before servers are built.
    ///
    /// # Errors
    /// It was called before.
    pub fn install() -> Result<Self> {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS)?;
        let handle = builder.install_recorder().context("metrics are kept already")?;
        Ok(Self(handle))
    }

    /// In the text format of Prometheus, version 0.0.4.
    fn render(&self, io: &Server) -> String {
        io.sample_metrics();
        self.0.run_upkeep();
        self.0.render()
    }
}

/// `/metrics`, and the health that the public address tells too.
pub fn router(app: &App, io: &Server, metrics: Metrics) -> Router {
    let metrics = Router::new().route("/metrics", get(render)).with_state((io.clone(), metrics));
    app.health(io).merge(metrics)
}

async fn render(State((io, metrics)): State<(Server, Metrics)>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render(&io))
}
