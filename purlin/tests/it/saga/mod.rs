//! Sagas: what their users write, what a failure at any place leaves behind.

mod crash;
mod failure;
mod functions;
mod outside;
mod recovery;
mod types;
mod undo;
mod world;
