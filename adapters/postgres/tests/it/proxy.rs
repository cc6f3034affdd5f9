//! A way to the server on which replies are lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Passes bytes on, until it is told to lose some.
#[derive(Clone, Default)]
pub(crate) struct Proxy {
    cut: Arc<AtomicBool>,
    end: Arc<watch::Sender<()>>,
    wanted: Arc<Mutex<Option<String>>>,
    found: Arc<Notify>,
    /// What is asked whose reply is lost, and how many come before it.
    doomed: Arc<Mutex<Option<(String, usize)>>>,
    /// How many connections came.
    came: Arc<watch::Sender<usize>>,
    /// Where new ones go from now on, if not where they used to.
    instead: Arc<Mutex<Option<SocketAddr>>>,
}

impl Proxy {
    /// The next bytes that come from the server do not arrive, and their connection ends.
    pub(crate) fn lose_a_reply(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Once a text has passed on its way to the server, so many replies to its connection arrive, and the next one does
    /// not; then it is [`found`](Self::found).
    pub(crate) fn lose_the_reply(&self, text: &str, behind: usize) {
        *self.doomed.lock().expect("no panic holds it") = Some((text.to_owned(), behind));
    }

    /// Whether nothing is left to be lost.
    pub(crate) fn has_lost(&self) -> bool {
        !self.cut.load(Ordering::Relaxed)
    }

    /// From now on, waits for a text to pass on its way to the server.
    pub(crate) fn look_for(&self, text: &str) {
        *self.wanted.lock().expect("no panic holds it") = Some(text.to_owned());
    }

    /// It has passed.
    pub(crate) async fn found(&self) {
        self.found.notified().await;
    }

    fn look(&self, passed: &[u8]) {
        let mut wanted = self.wanted.lock().expect("no panic holds it");
        if let Some(text) = &*wanted
            && has(passed, text)
        {
            *wanted = None;
            self.found.notify_one();
        }
    }

    /// How many replies arrive before one does not, if what passes is what that was told of.
    fn doom(&self, passed: &[u8]) -> Option<usize> {
        let mut doomed = self.doomed.lock().expect("no panic holds it");
        let (_, behind) = doomed.take_if(|(text, _)| has(passed, text))?;
        Some(behind)
    }

    /// New connections go to this server.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        *self.instead.lock().expect("no panic holds it") = Some(server);
    }

    /// Waits until so many more connections came.
    pub(crate) async fn more_come(&self, count: usize) {
        let mut came = self.came.subscribe();
        let wanted = *came.borrow() + count;
        let _ = came.wait_for(|came| *came >= wanted).await;
    }

    /// Every connection that is there ends for the client; the server does not hear of it.
    pub(crate) fn end_all(&self) {
        self.end.send_replace(());
    }

    /// Serves for ever.
    pub(crate) async fn serve(&self, listener: TcpListener, server: SocketAddr) {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let proxy = self.clone();
            let server = self.instead.lock().expect("no panic holds it").unwrap_or(server);
            self.came.send_modify(|came| *came += 1);
            connections.spawn(async move {
                let Ok(server) = TcpStream::connect(server).await else { return };
                proxy.pass(client, server).await;
            });
        }
    }

    async fn pass(&self, mut client: TcpStream, mut server: TcpStream) {
        let (mut asked, mut replied) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut doomed = None;
        // Also when it is told while something is passed on.
        let mut end = self.end.subscribe();
        loop {
            let passed = tokio::select! {
                _ = end.changed() => {
                    drop(client);
                    // To the server nothing has happened: it goes on with what it was sent.
                    while server.read(&mut replied).await.is_ok_and(|count| count > 0) {}
                    return;
                }
                read = client.read(&mut asked) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        let written = server.write_all(&asked[..count]).await;
                        self.look(&asked[..count]);
                        doomed = self.doom(&asked[..count]).or(doomed);
                        written
                    }
                },
                read = server.read(&mut replied) => match read {
                    Ok(0) | Err(_) => return,
                    // Nobody asked anything: it was only to be seen whether the server answers.
                    Ok(count) if is_a_pulse(&replied[..count]) => client.write_all(&replied[..count]).await,
                    Ok(_) if self.cut.swap(false, Ordering::Relaxed) => return,
                    Ok(_) if doomed == Some(0) => return self.found.notify_one(),
                    Ok(count) => {
                        doomed = doomed.map(|behind| behind - 1);
                        client.write_all(&replied[..count]).await
                    }
                },
            };
            if passed.is_err() {
                return;
            }
        }
    }
}

/// Whether it is the answer to an empty statement, and nothing else: EmptyQueryResponse and ReadyForQuery.
fn is_a_pulse(replied: &[u8]) -> bool {
    matches!(replied, [b'I', 0, 0, 0, 4, b'Z', 0, 0, 0, 5, _])
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
