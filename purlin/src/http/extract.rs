//! What a handler asks of a request, read strictly: every refusal is a problem that names the field.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode, Uri, header};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};

use super::strict::Strict;
use super::{Problem, body};

/// A JSON body, whole and of the right shape; as an answer, the value as JSON.
///
/// A body over 1 MiB is 413, one that breaks off or is not JSON 400, one that is compressed or of another content type
/// 415, one with a wrong, missing, repeated or unknown field 422. (An unknown field inside a `#[serde(flatten)]`,
/// `untagged` or internally tagged part is seen only by serde's own `deny_unknown_fields`.)
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

/// The parameters behind the question mark; an unknown or wrong one is 400.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

/// The variable parts of the path; what does not fit names nothing, and is 404.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = body::read(&parts.headers, body).await?;
        is_json(&parts.headers)?;
        from_json(&bytes).map(Self)
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        from_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status().is_server_error() => {
                tracing::error!(error = %rejection, "a route and its handler disagree on the path");
                Err(Problem::bug())
            }
            Err(_) => Err(Problem::new(StatusCode::NOT_FOUND, "not-found")
                .detail(format!("nothing is at `{}`", path_of(&parts.uri, &parts.extensions)))),
        }
    }
}

/// The path that the client asked for, also in a nested router.
pub(super) fn path_of<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a str {
    extensions.get::<OriginalUri>().map_or(uri, |original| &original.0).path()
}

/// Refuses a content type that is not JSON, and a body that is compressed; no content type at all is taken for JSON.
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let other = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type");
    let encoding = headers.get(header::CONTENT_ENCODING);
    if let Some(encoding) = encoding.filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        return Err(other.detail(format!("the body is encoded as `{encoding}`, send it as it is")));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(other.detail(format!("the content type is `{essence}`, send `application/json`")))
}

/// Reads JSON strictly.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // First of all it must be JSON to its end, whatever else is wrong with it.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "not-json").detail(format!("the body is not JSON: {error}"))
    })?;
    let wrong = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body");
    strictly(&mut serde_json::Deserializer::from_slice(bytes)).map_err(|what| what.told_by(wrong))
}

/// Reads parameters strictly. One without a value is refused: taken as not given, it would ask for more than the
/// client meant to.
fn from_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let wrong = Problem::new(StatusCode::BAD_REQUEST, "invalid-query");
    if let Some((name, _)) = form_urlencoded::parse(query.as_bytes()).find(|(_, value)| value.is_empty()) {
        let what = "it has no value: give it one, or leave it out".to_owned();
        return Err(Misfit { field: name.into_owned(), what }.told_by(wrong));
    }
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    strictly(pairs).map_err(|what| what.told_by(wrong))
}

/// What does not fit the type that was asked for, and where.
struct Misfit {
    field: String,
    what: String,
}

impl Misfit {
    fn told_by(self, problem: Problem) -> Problem {
        match &*self.field {
            "" | "." => problem.detail(self.what),
            field => problem.detail(format!("`{field}`: {}", self.what)).with("field", field),
        }
    }
}

/// Reads a value and refuses every field that its type does not know, and every second spelling of what it knows.
fn strictly<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, Misfit> {
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string().replace("?.", ""));
    };
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(from, &mut track);
    let read = T::deserialize(Strict(serde_ignored::Deserializer::new(tracked, &mut note)));
    match (read, unknown) {
        (Err(error), _) => Err(Misfit { field: track.path().to_string(), what: error.to_string() }),
        (Ok(_), Some(field)) => Err(Misfit { field, what: "unknown field".into() }),
        (Ok(value), None) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct NewOrder {
        items: Vec<Item>,
        note: Option<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Item {
        quantity: u16,
        #[serde(default)]
        gift: Option<Gift>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Gift {
        paper: String,
    }

    fn refused(body: &str) -> (u16, String, Option<serde_json::Value>) {
        let problem = from_json::<NewOrder>(body.as_bytes()).unwrap_err();
        (problem.status.as_u16(), problem.detail.clone().unwrap(), problem.extra.get("field").cloned())
    }

    #[test]
    fn a_wrong_value_is_named_by_its_path() {
        let (status, detail, field) = refused(r#"{"items": [{"quantity": 1}, {"quantity": -1}]}"#);
        assert_eq!((status, field), (422, Some(json!("items[1].quantity"))), "{detail}");
        assert!(detail.contains("-1"), "{detail}");
        assert_eq!(refused(r#"{"items": [{"quantity": "1"}]}"#).0, 422);
        assert_eq!(refused(r#"{"items": [{"quantity": 1.5}]}"#).0, 422);
        assert_eq!(refused(r#"{"items": [{"quantity": 70000}]}"#).0, 422);
        assert!(refused("{}").1.contains("missing field `items`"));
        assert!(refused(r#"{"items": [], "items": []}"#).1.contains("duplicate field `items`"));
        assert_eq!(refused("[]").0, 422);
        assert_eq!(refused("null").0, 422);
    }

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        assert_eq!(refused(r#"[[{"quantity": 1}], null]"#).0, 422);
        let (status, detail, field) = refused(r#"{"items": [[1, null]]}"#);
        assert_eq!((status, field), (422, Some(json!("items[0]"))), "{detail}");
        assert_eq!(refused(r#"{"items": [{"quantity": 1, "gift": ["red"]}]}"#).0, 422);
    }

    #[test]
    fn an_unknown_field_is_named_at_every_depth() {
        assert_eq!(refused(r#"{"items": [], "colour": 1}"#).2, Some(json!("colour")));
        let (status, detail, field) =
            refused(r#"{"items": [{"quantity": 1, "gift": {"paper": "red", "bow": {}}}]}"#);
        assert_eq!((status, field), (422, Some(json!("items.0.gift.bow"))), "{detail}");
    }

    #[test]
    fn what_is_not_json_is_a_bad_request() {
        for body in
            ["", "{", "items=1", r#"{"items": []} x"#, "{\"items\": [1}", "\u{feff}{}", &"[".repeat(200)]
        {
            assert_eq!(refused(body).0, 400, "{body}");
        }
        assert_eq!(from_json::<NewOrder>(b"\xff").unwrap_err().status, 400);
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Filter {
        status: Option<String>,
        least: Option<u32>,
    }

    #[test]
    fn parameters_are_read_as_strictly() {
        let read = from_query::<Filter>("least=3&").unwrap();
        assert_eq!(read, Filter { status: None, least: Some(3) });
        assert_eq!(from_query::<Filter>("status=a%20b").unwrap().status.as_deref(), Some("a b"));
        for (query, field) in [
            ("least=x", "least"),
            ("states=paid", "states"),
            ("least=3&status=", "status"),
            ("status", "status"),
        ] {
            let problem = from_query::<Filter>(query).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.extra["field"].as_str()), (400, Some(field)));
        }
    }

    #[test]
    fn only_json_is_taken_for_json() {
        let of =
            |value: &str| is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
        assert!(of("application/json; charset=utf-8").is_ok());
        assert!(of("application/merge-patch+json").is_ok());
        assert!(is_json(&HeaderMap::new()).is_ok());
        assert_eq!(of("text/plain").unwrap_err().status.as_u16(), 415);
    }

    #[test]
    fn a_compressed_body_is_not_taken_for_broken_json() {
        let of = |value: &str| {
            is_json(&HeaderMap::from_iter([(header::CONTENT_ENCODING, value.parse().unwrap())]))
        };
        assert!(of("identity").is_ok());
        let refused = of("gzip").unwrap_err();
        assert_eq!(refused.status.as_u16(), 415);
        assert!(refused.detail.as_deref().unwrap().contains("`gzip`"));
    }
}
