//! A process: tasks that are restarted, listeners that stop gracefully, readiness, the operator's socket.
//!
//! Every task of a process is run by its [`Supervisor`], which restarts what fails and, when [`Shutdown`] begins,
//! waits for what is in hand. [`serve`] answers requests on a socket; [`probes`] tell whether the process lives and
//! is ready; [`operator`] lets somebody act on what is stuck.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use purlin::service::{ServeConfig, Shutdown, Supervisor, probes, serve};
//! use purlin::telemetry::{Health, Metrics};
//! use std::time::Duration;
//!
//! let (health, metrics, shutdown) = (Health::new(), Metrics::new(), Shutdown::new());
//! let supervisor = Supervisor::new(shutdown.clone()).telling(&health);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let server = serve(listener, probes(&health, &metrics), ServeConfig::default(), shutdown.token());
//! supervisor.spawn_once("http", async { Ok::<_, std::convert::Infallible>(server.await) });
//!
//! shutdown.begin();
//! supervisor.drain(Duration::from_secs(10)).await.unwrap();
//! # });
//! ```

mod connection;
mod descriptors;
pub mod operator;
mod probes;
mod serve;
mod shutdown;
mod supervisor;

pub use descriptors::raise_descriptors;
pub use probes::probes;
pub use serve::{ServeConfig, serve};
pub use shutdown::{Shutdown, Signals};
pub use supervisor::{StillRunning, Supervisor, TaskState, TaskStatus};
