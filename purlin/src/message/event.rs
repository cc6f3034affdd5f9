//! Event enums: what they are now, and how what earlier programs wrote is read as one.

use serde::de::DeserializeOwned;

use super::evolution::{BroughtUp, Standing, bring_up, current, is_retired, standing};
use super::evolved::{Kind, check};
use super::{DecodeError, Envelope, Evolved, codec};

/// What can happen: an enum with serde's default tagging, whose variants' names end the events' kinds.
///
/// For an enum whose events are written as they always were, `impl Event for OrderEvent {}` is all. Events that were
/// written stay as they are for ever, so when a variant changes, the enum says how those of before are read. It says
/// it once: aggregates, projections and handlers read by it, and whoever writes an event writes it in the version that
/// its kind has now. A program that does not know a version yet refuses to guess what it means, so those who only read
/// are brought up before those who write.
///
/// ```
/// use purlin::message::{Envelope, Event, Evolved};
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// enum OrderEvent { Created { cents: u64, currency: String }, Submitted }
///
/// impl Event for OrderEvent {
///     const EVOLUTION: &'static [Evolved] = &[
///         Evolved::version("created", 2, |order| {
///             let euros = order["euros"].as_u64().ok_or("an order without a price")?;
///             Ok(json!({ "cents": euros * 100, "currency": "EUR" }))
///         }),
///         Evolved::renamed("placed", "submitted"),
///         Evolved::retired("touched"),
///     ];
/// }
///
/// let old = Envelope::raw("order.created", r#"{"euros":13}"#);
/// let created = OrderEvent::Created { cents: 1300, currency: "EUR".into() };
/// assert_eq!(old.decode::<OrderEvent>().unwrap(), created);
/// assert_eq!(Envelope::new("order", &created).unwrap().schema, 2);
/// assert!(Envelope::raw("order.touched", "{}").is_retired::<OrderEvent>());
/// ```
///
/// A hole in the versions, a kind that is renamed twice or in a circle, are errors at compile time:
///
/// ```compile_fail,E0080
/// # use purlin::message::{Envelope, Event, Evolved};
/// # #[derive(serde::Deserialize)]
/// # enum OrderEvent { Created }
/// impl Event for OrderEvent {
///     const EVOLUTION: &'static [Evolved] = &[Evolved::version("Created", 3, Ok)];
/// }
/// Envelope::raw("order.Created", "{}").decode::<OrderEvent>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to be an event",
    note = "`impl purlin::message::Event for {Self} {{}}` is all for an enum whose events are written as they always were"
)]
pub trait Event: DeserializeOwned {
    /// How its kinds have changed since they were first written, in the order of time. What is listed stays listed for
    /// as long as such events are in a log.
    const EVOLUTION: &'static [Evolved] = &[];
}

impl Envelope {
    /// The event as a variant of its enum, brought up from the version that it was written in.
    ///
    /// For an event that is as it would be written today this costs a look at each change that the enum lists, and no
    /// allocation.
    pub fn decode<E: Event>(&self) -> Result<E, DecodeError> {
        const { check(E::EVOLUTION) };
        let misfit = |source| DecodeError::Misfit { kind: self.kind.to_string(), source };
        let today = match standing(E::EVOLUTION, &self.kind, self.schema) {
            Standing::Current => BroughtUp { variant: Kind::of(&self.kind).variant, data: None },
            Standing::Newer { known } => {
                return Err(DecodeError::Newer { kind: self.kind.to_string(), schema: self.schema, known });
            }
            Standing::Past => bring_up(E::EVOLUTION, &self.kind, self.schema, &self.data)?,
        };
        match today.data {
            None => codec::decode(today.variant, &self.data),
            Some(data) => codec::decode_value(today.variant, data),
        }
        .map_err(misfit)
    }

    /// Whether the event is of a kind that is retired, and is to be passed over.
    pub fn is_retired<E: Event>(&self) -> bool {
        const { check(E::EVOLUTION) };
        is_retired(E::EVOLUTION, &self.kind)
    }
}

/// The version in which events of a kind are written; none if the kind is one of the past.
pub(super) fn schema<E: Event>(kind: &str) -> Option<u16> {
    const { check(E::EVOLUTION) };
    current(E::EVOLUTION, kind)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::message::EncodeError;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Door {
        Opened { by: String, times: u32 },
        Closed,
        Slammed(u32),
        Knocked,
    }

    impl Event for Door {
        const EVOLUTION: &'static [Evolved] = &[
            Evolved::version("opened", 2, |mut door| {
                door["times"] = json!(1);
                Ok(door)
            }),
            Evolved::renamed("shut", "closed"),
            Evolved::version("slammed", 2, |loud| Ok(json!(loud.as_u64().ok_or("how loud?")? * 10))),
            Evolved::version("opened", 3, |mut door| {
                door["times"] = json!(door["times"].as_u64().ok_or("how often?")? + 1);
                Ok(door)
            }),
            Evolved::retired("knocked"),
        ];
    }

    fn stored(kind: &str, schema: u16, data: &'static str) -> Envelope {
        Envelope { schema, ..Envelope::raw(kind, data) }
    }

    #[test]
    fn every_version_is_read_as_the_last() {
        let opened = |times| Door::Opened { by: "Ada".into(), times };
        for (schema, data, times) in [
            (1, r#"{"by":"Ada"}"#, 2),
            (2, r#"{"by":"Ada","times":4}"#, 5),
            (3, r#"{"by":"Ada","times":7}"#, 7),
        ] {
            assert_eq!(
                stored("door.opened", schema, data).decode::<Door>().unwrap(),
                opened(times),
                "{schema}"
            );
        }
        assert_eq!(stored("gate.shut", 1, "null").decode::<Door>().unwrap(), Door::Closed);
        assert_eq!(stored("door.slammed", 1, "4").decode::<Door>().unwrap(), Door::Slammed(40));
        let written = Envelope::new("door", &opened(1)).unwrap();
        assert_eq!((written.schema, written.decode::<Door>().unwrap()), (3, opened(1)));
        assert_eq!(Envelope::new("door", &Door::Closed).unwrap().schema, 1);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let error = |kind, schema, data| stored(kind, schema, data).decode::<Door>().unwrap_err();
        assert_eq!(
            error("door.opened", 4, "{}").to_string(),
            "an event of kind `door.opened` was written in version 4 by a newer program, 3 is known"
        );
        assert!(matches!(error("door.closed", 2, "null"), DecodeError::Newer { known: 1, .. }));
        assert!(matches!(error("door.opened", 2, "{}"), DecodeError::Upcast { from: 2, to: 3, .. }));
        assert!(matches!(error("door.opened", 1, "{"), DecodeError::Misfit { .. }));
        assert!(matches!(error("door.opened", 1, r#"{"by":7}"#), DecodeError::Misfit { .. }));
        assert!(matches!(error("door.exploded", 1, "{}"), DecodeError::Misfit { .. }));
        assert!(matches!(error("door.knocked", 1, "{}"), DecodeError::Retired { .. }));
        assert_eq!(error("door.exploded", 1, "{}").kind(), "door.exploded");
    }

    #[test]
    fn a_kind_of_the_past_is_not_written() {
        assert!(
            matches!(Envelope::new("door", &Door::Knocked), Err(EncodeError::Gone(kind)) if kind == "door.knocked")
        );
    }

    #[derive(Debug, Deserialize)]
    enum Renamed {
        Here,
    }

    impl Event for Renamed {
        const EVOLUTION: &'static [Evolved] = &[Evolved::renamed("There", "Nowhere")];
    }

    #[test]
    fn a_rename_to_what_is_no_variant_is_found_when_it_is_read() {
        assert!(matches!(stored("x.Here", 1, "null").decode(), Ok(Renamed::Here)));
        let error = stored("x.There", 1, "null").decode::<Renamed>().unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("unknown variant `Nowhere`"), "{source}");
    }
}
