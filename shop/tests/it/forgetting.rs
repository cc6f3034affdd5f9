//! A user who is forgotten is gone, from what is answered and from the disk.

use std::path::Path;

use http::Method;
use purlin::store::personal::MasterKey;
use serde_json::json;

use crate::shop::Shop;

/// Whether any file of the shop's data has these bytes.
fn is_on_disk(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder.join("data")).expect("a folder");
    let files = files.map(|file| file.expect("a file").path()).filter(|path| path.is_file());
    let texts = files.map(|file| std::fs::read(file).expect("it is readable"));
    texts.into_iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_forgotten_is_gone() {
    let mut shop = Shop::start().await;
    let (client, admin) = (shop.client(), shop.client().admin().await);
    let new =
        json!({ "email": "Grace.Hopper@example.org", "name": "Grace Hopper", "password": "correct horse" });
    let made = client.post_key("/users", &new, "k1").await.expect(201);
    assert_eq!((&made["email"], &made["name"]), (&new["email"], &new["name"]));
    let grace = client.log_in("grace.hopper@example.org", "correct horse").await;
    assert_eq!(grace.get("/users/me").await.expect(200), made);
    client.post("/users", &new).await.problem(409);
    for text in ["Hopper", "hopper@example"] {
        assert!(!is_on_disk(&shop.folder, text), "`{text}` stands in plain in a file");
    }

    let credentials = json!({ "email": new["email"], "password": new["password"] });
    let session = client.post_key("/sessions", &credentials, "s1").await.expect(201);
    assert_eq!(client.post_key("/sessions", &credentials, "s1").await.expect(201), session);
    let token = session["token"].as_str().unwrap();
    assert!(!is_on_disk(&shop.folder, token), "it is kept sealed");
    let path = format!("/users/{}", made["id"].as_str().unwrap());
    let delete = async |who: &crate::client::Client, key: &str| {
        who.send(Method::DELETE, &path, &[("idempotency-key", key)], None).await.unwrap()
    };
    assert_eq!(delete(&admin, "d1").await.status, 204);
    assert_eq!(delete(&admin, "d1").await.header("idempotent-replayed"), Some("true"));
    delete(&admin, "d2").await.problem(404);
    let me = admin.get("/users/me").await.expect(200);
    let own = format!("/users/{}", me["id"].as_str().unwrap());
    let stays = admin.send(Method::DELETE, &own, &[], None).await.unwrap().problem(409);
    assert_eq!(stays["type"], "/problems/last-administrator");
    assert_eq!(admin.get("/users/me").await.expect(200), me);
    grace.get("/users/me").await.problem(404);
    grace.post("/orders", &json!({ "items": [] })).await.problem(404);
    assert_eq!(client.post_key("/sessions", &credentials, "s1").await.status, 410);
    client.post("/sessions", &credentials).await.problem(401);
    assert_eq!(client.post_key("/users", &new, "k1").await.problem(410)["type"], "/problems/forgotten");

    // The address is nobody's, and who comes back is somebody else, also for a shop that starts again.
    let again = client.post("/users", &new).await.expect(201);
    assert_ne!(again["id"], made["id"]);
    assert_eq!(shop.stop().await, Some(0));
    shop.restart().await;
    let client = shop.client();
    let grace = client.log_in("grace.hopper@example.org", "correct horse").await;
    assert_eq!(grace.get("/users/me").await.expect(200), again);
    assert_eq!(client.post_key("/users", &new, "k1").await.status, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_master_key_a_shop_does_not_start_and_says_which_it_is() {
    let key = format!("--master-key={}=", "A".repeat(43));
    let mut shop = Shop::with(&[&key]).await;
    shop.client().customer("ada").await.get("/users/me").await.expect(200);
    assert_eq!(shop.stop().await, Some(0));
    let name =
        |key: &str| MasterKey::parse(key.trim_start_matches("--master-key=")).unwrap().name().to_owned();
    let other = format!("--master-key={}=", "Q".repeat(43));
    let said = shop.refuses(&[]).await;
    assert!(said.contains(&format!("master key `{}`, and it was given none", name(&key))), "{said}");
    let said = shop.refuses(&[&other]).await;
    assert!(said.contains(&name(&key)) && said.contains(&name(&other)), "{said}");
    shop.restart_with(&[&key]).await;
    let credentials = json!({ "email": "ada@example.org", "password": "correct horse" });
    shop.client().post("/sessions", &credentials).await.expect(201);
}
