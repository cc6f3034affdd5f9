//! A service that needs nobody.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use purlin::http::{Edge, layers};
use purlin::telemetry::Metrics;

use super::run;
use super::station::Station;
use crate::cascade::plan::{OTHER, OTHER_PLACES, OTHER_SERVICE_MS};

/// Serves until told to end.
pub(super) async fn be() -> Result<()> {
    let station = Arc::new(Station::new(OTHER_PLACES, OTHER_SERVICE_MS));
    let router = Router::new().route(OTHER, get(answer)).with_state(Arc::clone(&station));
    let router = layers(router, Edge::new("other", &Metrics::new()));
    run(0, router, |_| {}, || station.said().to_vec()).await
}

async fn answer(State(station): State<Arc<Station>>) -> &'static str {
    station.work().await;
    "done"
}
