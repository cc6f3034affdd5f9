//! `google.rpc.RetryInfo`, as it stands in the details of a status (`googleapis/google/rpc/error_details.proto`).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::Code;

const TYPE_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Span>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The details of a status that asks to be tried again after so long.
pub(super) fn encode(code: Code, message: &str, after: Duration) -> Bytes {
    let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let nanos = after.subsec_nanos().cast_signed();
    let info = RetryInfo { retry_delay: Some(Span { seconds, nanos }) };
    let detail = Detail { type_url: TYPE_URL.into(), value: info.encode_to_vec().into() };
    Details { code: code.into(), message: message.into(), details: vec![detail] }.encode_to_vec().into()
}

/// After how long the details of a status ask to be tried again.
pub(super) fn decode(details: &[u8]) -> Option<Duration> {
    let details = Details::decode(details).ok()?.details;
    let detail = details.into_iter().find(|detail| detail.type_url == TYPE_URL)?;
    let span = RetryInfo::decode(detail.value).ok()?.retry_delay?;
    let (seconds, nanos) = (u64::try_from(span.seconds).ok()?, u32::try_from(span.nanos).ok()?);
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}
