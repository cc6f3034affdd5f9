//! A tenant's subjects are his own: inside the engine their names bear his, as those of streams and keys do.

use bytes::Bytes;

use crate::store::{Commit, CommitError, Record, Recorded, WriteKind};

use super::{Subject, SubjectError, marker, scan};

/// Whether an event may have personal data.
pub(in crate::store) fn may_be_in(event: &Recorded) -> bool {
    marker::may_be_in(&event.envelope.data)
}

/// Gives the subjects of what was read other names.
pub(in crate::store) fn rename_events(events: &mut [Recorded], name: impl Fn(&str) -> String) {
    events.iter_mut().for_each(|event| rename(&mut event.envelope.data, &name));
}

/// Gives the subjects of what was read other names.
pub(in crate::store) fn rename_records(records: &mut [Record], name: impl Fn(&str) -> String) {
    records.iter_mut().for_each(|record| rename(&mut record.value, &name));
}

/// Gives the subjects of what is to be written, and of who is to be forgotten, other names.
pub(in crate::store) fn rename_in_commit(
    commit: &mut Commit,
    name: impl Fn(&str) -> String,
) -> Result<(), CommitError> {
    let checked = |subject: &str| {
        Subject::new(name(subject)).map_err(|error: SubjectError| {
            CommitError::Invalid(format!("`{subject}` with the name of its tenant: {error}"))
        })
    };
    for subject in &mut commit.forgotten {
        *subject = checked(subject.as_str())?;
    }
    let events = commit.appends.iter_mut().flat_map(|append| &mut append.events).map(|event| &mut event.data);
    let values = commit.writes.iter_mut().filter_map(|write| match &mut write.kind {
        WriteKind::Put { value, .. } => Some(value),
        WriteKind::Delete => None,
    });
    for text in events.chain(values).filter(|text| marker::may_be_in(text)) {
        let mut fault = Ok(());
        scan::each_in_memory(text, |body| {
            if let Err(error) = checked(&body.of) {
                fault = Err(error);
            }
        });
        fault?;
        rename(text, &name);
    }
    Ok(())
}

fn rename(text: &mut Bytes, name: impl Fn(&str) -> String) {
    if scan::has_any(text) {
        *text = scan::renamed(text, name).into();
    }
}
