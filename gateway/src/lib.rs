//! stub
pub mod auth;
pub mod config;
pub mod core;
