//! A connection that there is no place for: told so, where the protocol has a word for it, and closed.

use std::time::Duration;

use http::StatusCode;
use purlin::http::{PROBLEM_JSON, Problem};
use purlin::message::TraceContext;
use purlin::telemetry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sniff::{Protocol, sniff};

/// How long all of it may take.
const MOST: Duration = Duration::from_secs(1);

/// How many are told at once; further ones are closed without a word.
pub(super) const AT_ONCE: usize = 64;

/// How much of a request is read, so that closing behind the answer does not take the answer away.
const READ: u64 = 64 << 10;

/// Answers 503 to whatever is asked over HTTP/1, and closes.
pub(super) async fn turn_away(stream: TcpStream) {
    let trace = TraceContext::root();
    let _ = tokio::time::timeout(MOST, telemetry::in_trace(trace, say(stream, trace))).await;
}

async fn say(mut stream: TcpStream, trace: TraceContext) -> std::io::Result<()> {
    if let Some(Protocol::Http1(_)) = sniff(&mut stream).await? {
        stream.write_all(answer(trace).as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(READ), &mut tokio::io::sink()).await?;
    }
    Ok(())
}

fn answer(trace: TraceContext) -> String {
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded")
        .detail("this address has as many connections as it may: close some, or use those that are open");
    problem.instance = Some("/".to_owned());
    let body = problem.render();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\nretry-after: 1\r\n\
         traceparent: {trace}\r\nconnection: close\r\n\r\n{}",
        body.len(),
        String::from_utf8_lossy(&body)
    )
}
