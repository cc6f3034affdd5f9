//! The protos as code.
#![allow(missing_docs, clippy::all, unused_qualifications)]

tonic::include_proto!("shop");
pub mod keys {
    tonic::include_proto!("shop.keys");
}
pub mod users {
    tonic::include_proto!("shop.users");
}
pub mod products {
    tonic::include_proto!("shop.products");
}
pub mod inventory {
    tonic::include_proto!("shop.inventory");
}
pub mod orders {
    tonic::include_proto!("shop.orders");
}
pub mod payments {
    tonic::include_proto!("shop.payments");
}
pub mod breakers {
    tonic::include_proto!("shop.breakers");
}
pub mod shipping {
    tonic::include_proto!("shop.shipping");
}
