//! Sagas: what their users write, what a failure at any place leaves behind.

mod crash;
mod crowd;
mod failure;
mod functions;
mod machine;
mod outside;
mod recovery;
mod transacted;
mod types;
mod undo;
mod world;
