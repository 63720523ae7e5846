//! HTTP/1.1 over a unix socket, as container engines speak it: one request a connection, answers bounded.
//!
//! An engine is trusted more than its containers, yet its answers carry their text: no answer may grow without bound.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;

/// Longest answer that is not a stream; `inspect` of a large container is some 20 KiB, a list of 1,000 some 2 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Longest line of an event stream.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How long an engine may take to answer a request that is not a stream.
const ANSWER_SECS_MAX: u64 = 10;

/// Why an engine gave no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Nobody listens at the socket.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The conversation broke.
    #[error("conversation with the engine broke off")]
    Broken(#[from] hyper::Error),
    /// Another status than success.
    #[error("engine answered {status} to {path}")]
    Status {
        /// The status.
        status: u16,
        /// The request's path.
        path: String,
    },
    /// The path makes no request.
    #[error("request cannot be made")]
    Request(#[from] hyper::http::Error),
    /// Larger than the bound.
    #[error("answer is larger than {0} bytes")]
    Large(usize),
    /// No answer in time.
    #[error("no answer within {0} s")]
    Late(u64),
}

impl HttpError {
    /// The engine knows no such object.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}

/// Asks for a path and returns the whole answer.
pub async fn fetch(socket: &Path, path: &str) -> Result<Vec<u8>, HttpError> {
    tokio::time::timeout(Duration::from_secs(ANSWER_SECS_MAX), async {
        let mut body = open(socket, path).await?;
        let mut out = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                if out.len() + data.len() > ANSWER_BYTES_MAX {
                    return Err(HttpError::Large(ANSWER_BYTES_MAX));
                }
                out.extend_from_slice(&data);
            }
        }
        Ok(out)
    })
    .await
    .map_err(|_| HttpError::Late(ANSWER_SECS_MAX))?
}

/// Asks for a path whose answer goes on: a stream of JSON lines.
pub async fn follow(socket: &Path, path: &str) -> Result<Lines, HttpError> {
    let body = tokio::time::timeout(Duration::from_secs(ANSWER_SECS_MAX), open(socket, path))
        .await
        .map_err(|_| HttpError::Late(ANSWER_SECS_MAX))??;
    Ok(Lines { body, rest: Vec::new() })
}

async fn open(socket: &Path, path: &str) -> Result<Incoming, HttpError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| HttpError::Connect { path: socket.into(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end is the body's end: the body reports what goes wrong.
    tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header("host", "localhost")
        .header("user-agent", "bulkhead")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(HttpError::Status { status: response.status().as_u16(), path: path.into() });
    }
    Ok(response.into_body())
}

/// An answer that goes on, line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line that is not empty; `None` when the engine ended the stream.
    ///
    /// Cancel safe: what was read stays for the next call.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            if let Some(line) = take_line(&mut self.rest) {
                return Ok(Some(line));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(HttpError::Large(LINE_BYTES_MAX));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The first whole line that is not empty, removed from the buffer.
fn take_line(rest: &mut Vec<u8>) -> Option<Vec<u8>> {
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let line: Vec<u8> = rest.drain(..=end).collect();
        let line = line.trim_ascii();
        if !line.is_empty() {
            return Some(line.to_vec());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// A listener that answers its first connection with these bytes.
    fn answering(bytes: &'static [u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(bytes).await.unwrap();
        });
        (dir, path)
    }

    #[tokio::test]
    async fn reads_an_answer_in_chunks() {
        let (_dir, path) = answering(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
        );
        assert_eq!(fetch(&path, "/x").await.unwrap(), b"[1,2]");
    }

    #[tokio::test]
    async fn what_is_absent_is_told_from_what_is_broken() {
        let (_dir, path) = answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        assert!(fetch(&path, "/x").await.unwrap_err().is_absent());
        let nobody = Path::new("/nonexistent/engine.sock");
        let error = fetch(nobody, "/x").await.unwrap_err();
        assert!(!error.is_absent());
        assert!(error.to_string().contains("/nonexistent/engine.sock"), "{error}");
    }

    #[tokio::test]
    async fn a_stream_gives_its_lines_however_they_are_cut() {
        let (_dir, path) = answering(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n5\r\n:1}\n\n\r\n4\r\n{}\n\n\r\n0\r\n\r\n",
        );
        let mut lines = follow(&path, "/events").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), b"{\"a\":1}");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"{}");
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
