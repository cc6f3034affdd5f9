//! A client of the shop's public API.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Somebody who talks to the shop over one connection of his own.
#[derive(Clone)]
pub(crate) struct Client {
    http: Hyper<HttpConnector, Full<Bytes>>,
    gateway: String,
    token: Option<String>,
}

/// What the shop answered, when it did what was asked.
pub(crate) struct Answer {
    pub(crate) body: Value,
}

impl Answer {
    /// A text of the answer.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        Ok(self.body[name]
            .as_str()
            .with_context(|| format!("`{name}` is missing: {}", self.body))?
            .to_owned())
    }
}

impl Client {
    pub(crate) fn new(gateway: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Hyper::builder(TokioExecutor::new()).build(connector);
        Self { http, gateway: gateway.to_owned(), token: None }
    }

    pub(crate) async fn log_in(mut self, email: &str, password: &str) -> Result<Self> {
        let session = self.post("/sessions", &json!({ "email": email, "password": password })).await?;
        self.token = Some(format!("Bearer {}", session.text("token")?));
        Ok(self)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, body.to_string().into()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.gateway));
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let request = request.header("content-type", "application/json").body(Full::new(body))?;
        let response = self.http.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path} was answered with {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(Answer { body: serde_json::from_slice(&body)? })
    }
}
