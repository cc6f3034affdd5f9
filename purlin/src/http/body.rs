//! Reading a request's body within limits.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use super::Problem;

/// The largest body that is read: 1 MiB.
pub const BODY_LIMIT: usize = 1 << 20;

/// How much more of a body that is too large is thrown away, so that the client is done sending and hears the answer.
const DRAIN_LIMIT: usize = 32 << 20;

/// How long a body may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// The whole body, or the problem with it: too large, broken off, or too slow.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    tokio::time::timeout(READ_TIMEOUT, collect(headers, body)).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn collect(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(refuse(headers, body).await);
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken_off())?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_LIMIT {
            return Err(refuse(headers, body).await);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Refuses a body that is too large, after the client has sent it, unless the client waits to be asked for it.
async fn refuse(headers: &HeaderMap, mut body: Body) -> Problem {
    let mut dropped = 0;
    while dropped < DRAIN_LIMIT && !headers.contains_key(header::EXPECT) {
        match body.frame().await {
            Some(Ok(frame)) => dropped += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => break,
        }
    }
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large")
        .detail(format!("the body is larger than {BODY_LIMIT} bytes"))
}

fn broken_off() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "truncated-body").detail("the body broke off before its end")
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow")
        .detail(format!("the body did not arrive within {} s", READ_TIMEOUT.as_secs()))
}
