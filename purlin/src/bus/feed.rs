//! Brings the bus's log to the lanes of a group: one reader for all, and no lane waits for another.
//!
//! A tail reads ahead for as long as some lane has nothing to do, and queues what it finds. A queue that is full is
//! cut: its lane empties it, then reads the log itself until it has caught up with the tail.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::store::{Cause, Following, LogFilter, Position, ReadError, Recorded, Store};

use super::Message;
use super::mark::lane_of;
use super::message::message_of;

/// How many messages are read at a time.
const PAGE: usize = 256;
/// How many messages a lane takes at a time.
const HANDFUL: usize = 64;
/// How many messages, and bytes of them, wait for one lane.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 512 << 10;
/// A lane is woken after so many positions without a message of its own, to store its mark.
pub(super) const SKIPPED: u64 = 1024;

pub(super) struct Feed {
    bus: Store,
    subjects: HashSet<String>,
    lanes: u32,
    queues: Mutex<Queues>,
    wake: Vec<Notify>,
    /// Told when a lane has nothing left.
    hungry: Notify,
}

/// Messages for one lane, in order, and up to where it has now been given all.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) messages: Vec<Message>,
    pub(super) through: Position,
}

impl Feed {
    /// A feed for lanes that go on behind `marks`.
    pub(super) fn new(bus: Store, subjects: HashSet<String>, marks: &[Position]) -> Self {
        let end = marks.iter().copied().min().unwrap_or(Position::START);
        let lanes = u32::try_from(marks.len()).expect("the number of lanes was a u32");
        let queues = marks.iter().map(|_| Queue::default()).collect();
        let wake = marks.iter().map(|_| Notify::new()).collect();
        Self { bus, subjects, lanes, queues: Mutex::new(Queues { queues, end }), wake, hungry: Notify::new() }
    }

    /// What a lane has to do behind `cursor`; waits until there is something, or its mark is far behind.
    pub(super) async fn next(&self, lane: u32, cursor: Position) -> Result<Portion, ReadError> {
        loop {
            let peeked = self.queues().peek(lane as usize, cursor);
            match peeked {
                Peek::Behind => return self.read_for(lane, cursor).await,
                Peek::Portion(portion) => return Ok(portion),
                Peek::Nothing => {
                    self.hungry.notify_one();
                    self.wake[lane as usize].notified().await;
                }
            }
        }
    }

    /// Reads the log for a lane whose queue was cut.
    async fn read_for(&self, lane: u32, cursor: Position) -> Result<Portion, ReadError> {
        let page = self.bus.read_known(cursor, &LogFilter::all(), PAGE).await?;
        let own = page.events.into_iter().filter(|event| self.wanted_by(event) == Some(lane));
        let messages = own.map(readable).collect::<Result<_, _>>()?;
        Ok(Portion { messages, through: page.through })
    }

    /// Reads on while lanes are idle. Ends only with an error.
    pub(super) async fn tail(&self) -> Result<(), ReadError> {
        let mut log = Following::of(&self.bus);
        loop {
            let (end, idle) = self.queues().state();
            if !idle {
                self.hungry.notified().await;
                continue;
            }
            // All groups of a bus follow its end: they share one read of it.
            let Some(page) = log.next(end, &LogFilter::all(), PAGE).await? else { return Ok(()) };
            let mut own = Vec::new();
            for event in page.events {
                if let Some(lane) = self.wanted_by(&event) {
                    own.push((lane as usize, readable(event)?));
                }
            }
            let woken = self.queues().push(own, page.through);
            for lane in woken {
                self.wake[lane].notify_one();
            }
        }
    }

    /// Whose event this is; none if the group has no handler for it.
    fn wanted_by(&self, event: &Recorded) -> Option<u32> {
        let wanted = self.subjects.contains(&*event.envelope.kind);
        wanted.then(|| lane_of(event.stream.key(), self.lanes))
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("nothing panics under the lock of a feed")
    }
}

fn readable(copy: Recorded) -> Result<Message, ReadError> {
    let what = format!("the event at {} of the bus", copy.position);
    message_of(copy).map_err(|source| ReadError::Unreadable { what, source: Cause::from(source) })
}

struct Queues {
    queues: Vec<Queue>,
    /// Up to where the tail has read.
    end: Position,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The queue was full: it has the lane's messages up to here only.
    cut: Option<Position>,
    /// The lane waits to be woken; so far it has come.
    idle: Option<Position>,
}

enum Peek {
    Behind,
    Nothing,
    Portion(Portion),
}

impl Queues {
    fn peek(&mut self, lane: usize, cursor: Position) -> Peek {
        let queue = &mut self.queues[lane];
        queue.idle = None;
        queue.forget(cursor);
        if queue.messages.is_empty() && queue.cut.is_some() {
            if cursor < self.end {
                return Peek::Behind;
            }
            queue.cut = None;
        }
        let messages: Vec<Message> = queue.messages.iter().take(HANDFUL).cloned().collect();
        let through = match messages.last() {
            Some(last) if messages.len() < queue.messages.len() => last.position,
            _ => queue.cut.unwrap_or(self.end).max(cursor),
        };
        if messages.is_empty() && through.0 - cursor.0 < SKIPPED {
            queue.idle = Some(cursor);
            return Peek::Nothing;
        }
        Peek::Portion(Portion { messages, through })
    }

    /// Up to where the tail has read, and whether a lane has nothing to do.
    fn state(&self) -> (Position, bool) {
        (self.end, self.queues.iter().any(|queue| queue.idle.is_some()))
    }

    /// Queues what was read, and says which idle lanes are to be woken.
    fn push(&mut self, messages: Vec<(usize, Message)>, through: Position) -> Vec<usize> {
        for (lane, message) in messages {
            self.queues[lane].push(message);
        }
        self.end = through;
        let mut woken = Vec::new();
        for (lane, queue) in self.queues.iter_mut().enumerate() {
            let Some(since) = queue.idle else { continue };
            if !queue.messages.is_empty() || through.0.saturating_sub(since.0) >= SKIPPED {
                queue.idle = None;
                woken.push(lane);
            }
        }
        woken
    }
}

impl Queue {
    /// Lets go of what the lane is done with.
    fn forget(&mut self, cursor: Position) {
        while self.messages.front().is_some_and(|message| message.position <= cursor) {
            self.bytes -= self.messages.pop_front().as_ref().map_or(0, size);
        }
    }

    fn push(&mut self, message: Message) {
        let full = self.messages.len() >= QUEUE || self.bytes >= QUEUE_BYTES;
        if self.cut.is_none() && full {
            self.cut = Some(Position(message.position.0 - 1));
        }
        if self.cut.is_none() {
            self.bytes += size(&message);
            self.messages.push_back(message);
        }
    }
}

fn size(message: &Message) -> usize {
    size_of::<Message>() + message.event.envelope.data.len()
}
