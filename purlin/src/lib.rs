//! A framework for event-driven microservices in which every pattern is joined by one commit.

pub mod aggregate;
pub mod bus;
pub mod chaos;
pub mod http;
pub mod message;
pub mod projection;
pub mod resilience;
pub mod saga;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod testing;
