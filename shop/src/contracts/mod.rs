//! All that the services share: the words of the shop as they cross a border, and the lines between services.
//!
//! A service names `contracts` and itself, never a sister: what one needs of another is asked over a
//! [client](clients) or heard as an [event](events). Nothing here decides anything about an order, a payment or a
//! shelf.

mod announced;
pub mod clients;
pub mod events;
pub mod keys;
pub mod line;
pub mod money;
pub mod numbers;
pub mod rpc;
pub mod service;
pub mod who;
