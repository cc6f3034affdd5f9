//! Making, submitting and cancelling orders.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use purlin::http::{Attempt, Decided, Path, Problem, Write, WriteRequest};
use purlin::message::Uuid;
use purlin::store::Commit;
use serde::Deserialize;

use super::super::Orders;
use super::super::checkout::{self, PlaceOrder};
use super::super::order::{Checkout, Item, Order, OrderError};
use super::owns;
use crate::contracts::events::{Flow, Payment, ShipTo};
use crate::contracts::numbers::{MOST_LINES, Quantity};
use crate::contracts::who::Known;

/// The longest text of a destination or a token, in bytes.
const LONGEST: usize = 500;

#[derive(Debug, Deserialize)]
pub(super) struct NewOrder {
    items: Vec<NewItem>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewItem {
    product_id: Uuid,
    quantity: Quantity,
}

#[derive(Debug, Deserialize)]
pub(super) struct Submission {
    payment: Payment,
    ship_to: ShipTo,
    #[serde(default)]
    flow: Flow,
}

pub(super) async fn draft(State(orders): State<Orders>, known: Known, write: Write<NewOrder>) -> Response {
    let Write { request, body } = write;
    let run = |attempt| orders.draft(known, attempt, &body);
    orders.base.keys.run(&known.caller(), &request, run).await
}

pub(super) async fn add_item(
    State(orders): State<Orders>,
    known: Known,
    Path(id): Path<Uuid>,
    write: Write<NewItem>,
) -> Response {
    let Write { request, body } = write;
    let run = |_| orders.add_item(known, id, body);
    orders.base.keys.run(&known.caller(), &request, run).await
}

pub(super) async fn submit(
    State(orders): State<Orders>,
    known: Known,
    Path(id): Path<Uuid>,
    write: Write<Submission>,
) -> Response {
    let Write { request, body } = write;
    if let Some(problem) = complaint(&body) {
        return problem.into_response();
    }
    let run = |_| orders.submit(known, id, &body);
    let response = orders.base.keys.run(&known.caller(), &request, run).await;
    orders.go_on(id, &response);
    response
}

pub(super) async fn cancel(
    State(orders): State<Orders>,
    known: Known,
    Path(id): Path<Uuid>,
    request: WriteRequest,
) -> Response {
    if !matches!(request.body.trim_ascii(), b"" | b"{}" | b"null") {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body");
        return problem.detail("cancelling takes no body").into_response();
    }
    let run = |_| orders.cancel(known, id);
    let response = orders.base.keys.run(&known.caller(), &request, run).await;
    orders.go_on(id, &response);
    response
}

impl Orders {
    /// Has the checkout of an order go on at once, if the answer says that there is something to do.
    fn go_on(&self, id: Uuid, response: &Response) {
        if response.status().is_success() {
            self.sagas.kick(id);
        }
    }

    async fn draft(&self, known: Known, attempt: Attempt, new: &NewOrder) -> Result<Decided, Problem> {
        let none = Order::default();
        let (exists, items) = tokio::join!(self.users.exists(known.id), self.priced(&none, &new.items));
        exists?;
        let items = items?;
        let drafted = self.orders.change(attempt.id, |order| order.draft(known.id, items.clone())).await?;
        let shown = self.shown(attempt.id, &drafted.root).await?;
        Decided::new(Commit::new().append_all(drafted.append), StatusCode::CREATED, &shown)?
            .header(header::LOCATION, format!("/orders/{}", attempt.id))
    }

    async fn add_item(&self, known: Known, id: Uuid, new: NewItem) -> Result<Decided, Problem> {
        let order = self.orders.load(id).await?;
        owns(known.id, &order)?;
        // Before anybody else is asked about the item: nothing he says could make the order a draft again.
        order.is_draft()?;
        let Some(item) = self.priced(&order, &[new]).await?.pop() else { return Err(Problem::bug()) };
        let added = self.orders.change(id, |order| order.add_item(item.clone())).await?;
        let shown = self.shown(id, &added.root).await?;
        Decided::new(Commit::new().append_all(added.append), StatusCode::OK, &shown)
    }

    async fn submit(&self, known: Known, id: Uuid, with: &Submission) -> Result<Decided, Problem> {
        let now = self.base.clock.now();
        let Submission { flow, payment, ship_to } = with;
        let checkout = Checkout { flow: *flow, payment: payment.clone(), ship_to: ship_to.clone() };
        let submitted = self.orders.change(id, |order| {
            owns(known.id, order)?;
            order.submit(id, checkout.clone(), now)
        });
        let submitted = submitted.await?;
        if *flow == Flow::Choreographed && !self.choreographed {
            return Err(no_such_flow());
        }
        let begun = match flow {
            Flow::Orchestrated => {
                let (lines, total) = (submitted.root.lines(), submitted.root.total()?);
                let (payment, ship_to) = (payment.clone(), ship_to.clone());
                let order = PlaceOrder { order_id: id, lines, total, payment, ship_to };
                self.sagas.start(checkout::KIND, id, &order)?
            }
            Flow::Choreographed => self.deadlines.begin(Commit::new(), id, now),
        };
        let shown = self.shown(id, &submitted.root).await?;
        Decided::new(begun.append_all(submitted.append), StatusCode::ACCEPTED, &shown)?
            .header(header::LOCATION, format!("/orders/{id}/saga"))
    }

    async fn cancel(&self, known: Known, id: Uuid) -> Result<Decided, Problem> {
        let cancelled = self.orders.change(id, |order| {
            owns(known.id, order)?;
            order.cancel(id, "cancelled by the customer")
        });
        let cancelled = cancelled.await?;
        let orchestrated = cancelled.root.flow == Some(Flow::Orchestrated);
        let begun = !cancelled.append.events.is_empty() && orchestrated;
        let shown = self.shown(id, &cancelled.root).await?;
        let commit = if begun { self.sagas.cancel(id, "cancelled by the customer") } else { Commit::new() };
        Decided::new(commit.append_all(cancelled.append), StatusCode::ACCEPTED, &shown)
    }

    /// Lines with the names and prices of this moment, if there are such products, and enough of them together
    /// with what is in the order already.
    async fn priced(&self, order: &Order, wanted: &[NewItem]) -> Result<Vec<Item>, Problem> {
        let mut ids: Vec<Uuid> = wanted.iter().map(|item| item.product_id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        if wanted.len() > MOST_LINES {
            return Err(OrderError::TooManyLines.into());
        }
        let (products, levels) = tokio::join!(self.products.find(&ids), self.inventory.levels(&ids));
        let (products, levels) = (products?, levels?);
        let item = |new: &NewItem| {
            let product = products.get(&new.product_id).ok_or_else(|| unknown(new.product_id))?;
            let NewItem { product_id, quantity: Quantity(quantity) } = *new;
            Ok(Item { product_id, name: product.name.clone(), quantity, price: product.price })
        };
        let items = wanted.iter().map(item).collect::<Result<Vec<_>, Problem>>()?;
        let before = order.items.iter().chain(&items);
        for id in ids {
            let needed: i64 = before
                .clone()
                .filter(|item| item.product_id == id)
                .map(|item| i64::from(item.quantity))
                .sum();
            let available = levels.get(&id).copied().unwrap_or_default();
            if needed > available {
                return Err(unavailable(id, needed, available));
            }
        }
        Ok(items)
    }
}

fn no_such_flow() -> Problem {
    Problem::new(StatusCode::CONFLICT, "flow-unavailable").detail(
        "no event reaches the payments, which are in a process apart: submit the order with `\"flow\": \"orchestrated\"`",
    )
}

fn unknown(product_id: Uuid) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found").detail(format!("there is no product {product_id}"))
}

fn unavailable(product_id: Uuid, needed: i64, available: i64) -> Problem {
    Problem::new(StatusCode::CONFLICT, "product-unavailable")
        .detail(format!("product {product_id}: {needed} are wanted, {available} can be ordered"))
        .with("product_id", product_id.to_string())
}

/// What is wrong with a submission, besides its shape.
fn complaint(with: &Submission) -> Option<Problem> {
    let ShipTo { name, street, city, postcode, country } = &with.ship_to;
    let texts = [
        ("payment.token", &with.payment.token),
        ("ship_to.name", name),
        ("ship_to.street", street),
        ("ship_to.city", city),
        ("ship_to.postcode", postcode),
        ("ship_to.country", country),
    ];
    let (field, _) = texts.into_iter().find(|(_, text)| text.len() > LONGEST)?;
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body");
    Some(problem.detail(format!("`{field}`: at most {LONGEST} bytes are taken")).with("field", field))
}
