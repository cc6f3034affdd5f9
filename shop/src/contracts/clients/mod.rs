//! What each service is asked by others.

mod breakers;
mod inventory;
mod keys;
mod orders;
mod payments;
mod products;
mod shipping;
mod users;

pub use breakers::{Breakers, Holding};
pub use inventory::Inventory;
pub use keys::Keys;
pub use orders::Orders;
pub use payments::{Charged, Payments};
pub use products::{Product, Products};
pub use shipping::Shipping;
pub use users::Users;
