//! The catalogue of the first start.

use purlin::aggregate::UpdateError;
use purlin::message::Uuid;
use purlin::store::{Cause, Commit, CommitError, Revision, Row};
use serde::{Deserialize, Serialize};

use super::Products;
use super::catalogue::enter;
use super::product::{ProductError, ProductEvent};
use crate::contracts::money::Money;

/// The products of the first start: always the same ids, so that a start that was cut short is simply repeated.
const CATALOGUE: [(&str, &str, i64, i64); 8] = [
    ("01990000-0000-7000-8000-000000000001", "Desk lamp", 3_990, 100_000),
    ("01990000-0000-7000-8000-000000000002", "Office chair", 18_900, 100_000),
    ("01990000-0000-7000-8000-000000000003", "Standing desk", 44_900, 100_000),
    ("01990000-0000-7000-8000-000000000004", "Notebook, dotted", 1_250, 100_000),
    ("01990000-0000-7000-8000-000000000005", "Fountain pen", 5_400, 100_000),
    ("01990000-0000-7000-8000-000000000006", "Ink, blue-black", 990, 100_000),
    ("01990000-0000-7000-8000-000000000007", "Coffee mug", 1_490, 100_000),
    ("01990000-0000-7000-8000-000000000008", "Grandfather clock, the only one", 249_000, 1),
];

/// Says that the first catalogue was made, whatever has become of it since.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seeded {}

impl Row for Seeded {
    const COLLECTION: &'static str = "seeded";
}

impl Products {
    /// Makes the catalogue of the first start, in one commit, unless that was done before.
    pub(super) async fn first_catalogue(&self) -> Result<(), Cause> {
        if self.base.store.get::<Seeded>("catalogue").await?.is_some() {
            return Ok(());
        }
        let mut commit = Commit::new().put_expecting("catalogue", &Seeded {}, Revision::Absent, None);
        for (id, name, cents, stock) in CATALOGUE {
            let (id, price) = (id.parse::<Uuid>()?, Money::eur(cents));
            self.inventory.open(&format!("catalogue/{id}"), id, stock).await?;
            let made = self.products.change(id, |product| product.create(name, price)).await;
            let made: purlin::aggregate::Change<_> = match made {
                Err(UpdateError::Refused(ProductError::Exists)) => continue,
                made => made?,
            };
            debug_assert!(matches!(made.root.uncommitted(), [ProductEvent::Created { .. }]));
            commit = enter(commit.append_all(made.append), id, made.root.state());
        }
        match self.base.store.commit(commit).await {
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
