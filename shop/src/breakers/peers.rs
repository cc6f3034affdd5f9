//! The other processes, asked side by side and each within its time.

use futures_util::future::join_all;
use serde_json::Value;

use super::Here;
use crate::contracts::clients::Breakers;

/// This process and those that it knows of; cheap to clone.
#[derive(Clone)]
pub struct Peers {
    pub(super) here: Here,
    others: Vec<Peer>,
}

/// Another process.
#[derive(Clone)]
pub struct Peer {
    /// What is there, as far as this process was told.
    pub role: &'static str,
    /// `host:port`.
    pub endpoint: String,
    /// How it is asked.
    pub breakers: Breakers,
}

/// What all of them said.
pub(super) struct Said {
    /// A process each, this one first.
    pub(super) processes: Vec<Process>,
    /// Those that did not answer.
    pub(super) unreached: Vec<Unreached>,
}

/// A process and its breakers.
pub(super) struct Process {
    pub(super) name: String,
    /// Which one it is.
    pub(super) id: String,
    /// Where it is asked; none: here.
    pub(super) at: Option<Peer>,
    /// Where it is, as far as this one was told: it may have several addresses.
    endpoints: Vec<String>,
    pub(super) items: Vec<Value>,
}

/// A process that did not answer.
#[derive(Debug, serde::Serialize)]
pub(super) struct Unreached {
    process: &'static str,
    endpoint: String,
    reason: String,
}

impl Peers {
    /// This process and others.
    pub fn new(here: Here, others: Vec<Peer>) -> Self {
        Self { here, others }
    }

    /// Asks all of them. One with several addresses is one.
    pub(super) async fn ask(&self, token: &str) -> Said {
        let ask = async |peer: &Peer| (peer.clone(), peer.breakers.list(token).await);
        let answers = join_all(self.others.iter().map(ask)).await;
        let own = Process {
            name: self.here.process.to_owned(),
            id: self.here.id.to_string(),
            at: None,
            endpoints: Vec::new(),
            items: self.here.list(),
        };
        let mut said = Said { processes: vec![own], unreached: Vec::new() };
        for (peer, answer) in answers {
            match answer {
                Ok(listed) => match said.processes.iter().position(|known| known.id == listed.id) {
                    Some(at) => said.processes[at].endpoints.push(peer.endpoint),
                    None => said.processes.push(Process {
                        name: listed.process,
                        id: listed.id,
                        endpoints: vec![peer.endpoint.clone()],
                        at: Some(peer),
                        items: listed.items,
                    }),
                },
                Err(error) => said.unreached.push(Unreached {
                    process: peer.role,
                    endpoint: peer.endpoint,
                    reason: error.to_string(),
                }),
            }
        }
        said
    }
}

impl Process {
    /// Where it is, if that is elsewhere.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.at.as_ref().map(|peer| peer.endpoint.as_str())
    }

    /// Whether it is meant by what an administrator wrote: its name, or one of its addresses.
    pub(super) fn is(&self, wanted: &str) -> bool {
        self.name == wanted || self.endpoints.iter().any(|endpoint| endpoint == wanted)
    }

    /// What it said of a breaker.
    pub(super) fn has(&self, breaker: &str) -> bool {
        self.items.iter().any(|item| item["name"] == breaker)
    }

    /// Where a breaker stands among all: those of this process first, and each process's by their names.
    pub(super) fn place(&self, item: &Value) -> String {
        let elsewhere = u8::from(self.at.is_some());
        format!("{elsewhere}\n{}\n{}\n{}", self.name, self.id, item["name"].as_str().unwrap_or_default())
    }

    /// What is said of a breaker, and by whom.
    pub(super) fn shown(&self, mut item: Value) -> Value {
        if let Value::Object(members) = &mut item {
            members.insert("process".into(), self.name.as_str().into());
            members.insert("endpoint".into(), self.endpoint().into());
        }
        item
    }
}
