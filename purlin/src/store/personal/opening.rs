//! What was read on its way out of the store: every personal value opened, or a placeholder.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::store::{ReadError, Record, Recorded};

use super::cipher::Place;
use super::engine::Personalized;
use super::keys::{Known, Standing};
use super::marker::{self, Body};
use super::scan;

/// So many keys are asked for at once.
const AT_ONCE: usize = 16;

/// A text that may have personal values, and where it stands.
type Text<'a> = (Place<'a>, &'a mut Bytes);

impl Personalized {
    pub(super) async fn open_events(&self, events: &mut [Recorded]) -> Result<(), ReadError> {
        let concerned = events.iter_mut().filter(|event| marker::may_be_in(&event.envelope.data));
        let texts: Vec<Text<'_>> =
            concerned.map(|event| (Place::Stream(&event.stream), &mut event.envelope.data)).collect();
        self.open(texts).await
    }

    pub(super) async fn open_records(&self, records: &mut [Record]) -> Result<(), ReadError> {
        let concerned = records.iter_mut().filter(|record| marker::may_be_in(&record.value));
        let texts: Vec<Text<'_>> =
            concerned.map(|record| (Place::Record(&record.key), &mut record.value)).collect();
        self.open(texts).await
    }

    async fn open(&self, texts: Vec<Text<'_>>) -> Result<(), ReadError> {
        if texts.is_empty() {
            return Ok(());
        }
        let mut names = BTreeSet::new();
        for (_, text) in &texts {
            scan::each_at_rest(text, |body| {
                if body.sealed.is_some() {
                    names.insert(body.of.into_owned());
                }
            });
        }
        let names: Vec<String> = names.into_iter().collect();
        let mut subjects = HashMap::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            let known = try_join_all(names.iter().map(|name| self.keys.of(name))).await?;
            subjects.extend(names.iter().map(String::as_str).zip(known));
        }
        for (place, text) in texts {
            *text = scan::to_memory(text, |body| opened(place, body, &subjects)).into();
        }
        Ok(())
    }
}

/// What can be read of a value here and now.
fn opened(place: Place<'_>, body: Body<'_>, subjects: &HashMap<&str, Known>) -> Body<'static> {
    let subject = body.of.into_owned();
    let of = |subject: String| Body { of: subject.into(), ..Body::default() };
    let Some(sealed) = body.sealed else { return Body { forgotten: true, ..of(subject) } };
    let standing = subjects.get(subject.as_str()).map(|known| &known.standing);
    let plain = match standing {
        Some(Standing::Forgotten) => return Body { forgotten: true, ..of(subject) },
        Some(Standing::Held(key)) => key.open(&subject, place, &sealed),
        // Another store sealed it, or its key cannot be had.
        Some(Standing::New | Standing::Locked(_)) | None => None,
    };
    match plain {
        Some(plain) => Body { plain: Some(plain.into()), stored: true, ..of(subject) },
        None => {
            let (sealed, at) = (sealed.into_owned().into(), place.name().into());
            Body { sealed: Some(sealed), at: Some(at), ..of(subject) }
        }
    }
}
