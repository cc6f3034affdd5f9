//! A cancelled order ends cancelled, whenever the wish comes.

use std::time::Duration;

use serde_json::json;

use crate::invariants;
use crate::shop::Shop;

const FLOWS: [&str; 2] = ["orchestrated", "choreographed"];

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_was_accepted_is_kept_and_all_is_given_back() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 1000).await;
    let (mut accepted, mut late) = (0, 0);
    for flow in FLOWS {
        for token in ["tok_ok", "tok_slow", "tok_timeout", "tok_flaky"] {
            for delay in [0, 3, 6, 10, 15, 20, 30, 45, 70, 400] {
                let order = ada.draft(&product, 1).await;
                ada.submit(&order, token, flow).await.expect(202);
                tokio::time::sleep(Duration::from_millis(delay)).await;
                let answer = ada.post_empty(&format!("/orders/{order}/cancel")).await;
                if answer.status == 409 {
                    late += 1;
                    answer.problem(409);
                    assert_eq!(
                        ada.order(&order).await["status"],
                        "shipped",
                        "{flow} {token} after {delay} ms"
                    );
                    continue;
                }
                accepted += 1;
                let shown = answer.expect(202);
                let kinds: Vec<_> = shown["history"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
                assert!(kinds.contains(&&json!("cancel_requested")), "{shown}");
                // Once more is no matter.
                ada.post_empty(&format!("/orders/{order}/cancel")).await.expect(202);
                let ended = ada.ended(&order).await;
                assert_eq!(ended["status"], "cancelled", "{flow} {token} after {delay} ms");
                assert!(ended["reason"].as_str().unwrap().contains("cancelled by the customer"), "{ended}");
                ada.post_empty(&format!("/orders/{order}/cancel")).await.expect(202);
            }
        }
    }
    assert!(accepted > 20 && late > 0, "{accepted} in time, {late} too late");
    invariants::hold(&admin, &shop.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_cancelled_at_once_and_then_nothing_else_is_done_with_it() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    let order = ada.draft(&product, 1).await;
    let shown = ada.post_empty(&format!("/orders/{order}/cancel")).await.expect(202);
    assert_eq!(shown["status"], "cancelled");
    ada.submit(&order, "tok_ok", "orchestrated").await.problem(409);
    let item = json!({ "product_id": product, "quantity": 1 });
    ada.post(&format!("/orders/{order}/items"), &item).await.problem(409);
    ada.get(&format!("/orders/{order}/saga")).await.problem(404);
    invariants::hold(&admin, &shop.operator()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_card_is_down_waits_until_it_is_cancelled() {
    let shop = Shop::start().await;
    let (admin, ada) = (shop.client().admin().await, shop.client().customer("ada").await);
    let product = admin.product("Lamp", 250, 10).await;
    for flow in FLOWS {
        let order = ada.draft(&product, 4).await;
        ada.submit(&order, "tok_down", flow).await.expect(202);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(ada.order(&order).await["status"], "submitted");
        assert_eq!(admin.stock(&product).await, 6);
        let saga = ada.saga(&order).await;
        let pay = saga["steps"].as_array().unwrap().iter().find(|step| step["name"] == "process-payment");
        let pay = pay.unwrap_or_else(|| panic!("{saga}"));
        assert!(pay["attempts"].as_u64() > Some(1) && pay["state"] == "running", "{saga}");
        ada.post_empty(&format!("/orders/{order}/cancel")).await.expect(202);
        assert_eq!(ada.ended(&order).await["status"], "cancelled");
        assert_eq!(admin.stock(&product).await, 10);
    }
    assert_eq!(admin.all("/admin/ledger").await.len(), 0);
    invariants::hold(&admin, &shop.operator()).await;
}
