//! The socket in the data folder of a running process.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use purlin::service::operator;

use crate::failure::Failure;

/// A process that answers.
pub(crate) struct Socket {
    data: PathBuf,
}

impl Socket {
    /// The process on a data folder, if one listens. A socket that a killed process left behind is nobody.
    pub(crate) async fn connect(data: &Path) -> Result<Option<Self>, Failure> {
        match operator::connect(data).await {
            Ok(_) => Ok(Some(Self { data: data.to_owned() })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(cannot_open(data, error)),
        }
    }

    /// Sends a request on a connection of its own, and reads the answer.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
        let stream = operator::connect(&self.data).await.map_err(|error| cannot_open(&self.data, error))?;
        let broke =
            |error: &dyn std::fmt::Display| Failure::NoAnswer(format!("the process broke off: {error}"));
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| broke(&error))?;
        let exchange = async {
            let answer = sender.send_request(request.map(Full::new)).await.map_err(|error| broke(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, super::LARGEST).collect().await.map_err(|error| broke(&error))?;
            Ok((head.status, body.to_bytes()))
        };
        tokio::pin!(connection, exchange);
        // The connection moves the bytes; the answer is there before it ends.
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(broke(&error)),
            },
        }
    }
}

fn cannot_open(data: &Path, error: io::Error) -> Failure {
    Failure::Open { path: operator::socket_path(data), source: error.into() }
}
