//! Sagas: what their users write, what a failure at any place leaves behind.

mod types;
