//! The caller's side: one blocking connection, one call at a time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::frame::{self, ANSWER_BYTES_MAX, FrameError, REQUEST_BYTES_MAX};
use crate::protocol::{Answer, Call, PROTOCOL, Refusal, Reply, Request, TAIL_WAIT_MAX};

/// Why a call had no reply.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody serves the socket.
    #[error("cannot reach the service at {}: {}", path.display(), reach(cause))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The service broke off, or spoke something else.
    #[error("the service at {} broke off", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        cause: FrameError,
    },
    /// The service refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn reach(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => {
            "no such socket; start it with `bulkhead run`, or name another with --run-dir".into()
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there any more; start it with `bulkhead run`".into()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; be root or a member of the group that may read (`bulkhead` unless configured)".into()
        }
        _ => cause.to_string(),
    }
}

/// A connection to the service.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
}

impl Client {
    /// Connects to the API socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let unreachable = |cause| ClientError::Unreachable { path: path.to_owned(), cause };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        // Longer than the longest wait that the service itself keeps, so that only a hung service runs into it.
        stream
            .set_read_timeout(Some(TAIL_WAIT_MAX + Duration::from_secs(30)))
            .map_err(unreachable)?;
        Ok(Self { stream, path: path.to_owned() })
    }

    /// Asks, and waits for the answer.
    pub fn call(&mut self, request: Request) -> Result<Reply, ClientError> {
        match self.exchange(request) {
            Ok(Answer::Ok(reply)) => Ok(reply),
            Ok(Answer::Refused(refusal)) => Err(refusal.into()),
            Err(cause) => Err(ClientError::Broken { path: self.path.clone(), cause }),
        }
    }

    fn exchange(&mut self, request: Request) -> Result<Answer, FrameError> {
        let call = Call { protocol: PROTOCOL, request };
        self.stream.write_all(&frame::encode(&call, REQUEST_BYTES_MAX)?)?;
        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        let mut body = vec![0; frame::length(header, ANSWER_BYTES_MAX)?];
        self.stream.read_exact(&mut body)?;
        frame::decode(&body)
    }
}
