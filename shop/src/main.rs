//! The shop: the reference system of purlin. One program, a role per process or all roles in one.
#![allow(unreachable_pub, reason = "a program has no outside: `pub` means that another room may use it")]
#![allow(dead_code)]

mod config;
mod contracts;
mod inventory;
mod orders;
mod payments;
mod products;
mod shipping;
mod users;

fn main() {}
