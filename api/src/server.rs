//! The service's side of the socket: accepts, tells who asks, refuses what their groups do not allow.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::credentials::{self, Caller, Groups, Right};
use crate::frame::{self, ANSWER_BYTES_MAX, FrameError, REQUEST_BYTES_MAX};
use crate::protocol::{Answer, Call, PROTOCOL, Refusal, RefusalKind, Reply, Request};

/// Most connections at once; later ones wait.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Why the socket is not served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Another service serves it.
    #[error("{} is served by another process; stop it or use another --run-dir", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The file system.
    #[error("cannot serve {}: {cause}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// What answers requests whose caller is allowed to make them.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(
        &self,
        caller: &Caller,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send;
}

/// The bound socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    groups: Groups,
}

impl Server {
    /// Binds `path`, mode 0660, with the reader group where this process may give it away.
    ///
    /// A socket that nobody serves any more is replaced; one that is served is left alone.
    pub fn bind(path: &Path, groups: Groups) -> Result<Self, ServerError> {
        let io = |cause| ServerError::Io { path: path.to_owned(), cause };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ServerError::InUse { path: path.to_owned() });
        }
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(io(cause)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(io)?;
        if let Some(gid) = credentials::group_id(&groups.read)
            && let Err(error) = std::os::unix::fs::chown(path, None, Some(gid))
        {
            tracing::warn!(group = groups.read, %error, "cannot give the API socket to its group; only root and this user reach it");
        }
        Ok(Self { listener, groups })
    }

    /// Serves until the future is dropped.
    pub async fn run<H: Handler>(self, handler: Arc<H>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, as a rule: give others time to close some.
                    tracing::warn!(%error, "cannot accept on the API socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let handler = Arc::clone(&handler);
            let groups = self.groups.clone();
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &groups, &*handler).await {
                    tracing::debug!(%error, "API connection ended");
                }
                drop(slot);
            });
        }
    }
}

async fn converse<H: Handler>(
    mut stream: UnixStream,
    groups: &Groups,
    handler: &H,
) -> Result<(), FrameError> {
    let peer = stream.peer_cred()?;
    let caller = credentials::caller(peer.uid(), peer.gid(), groups);
    loop {
        let mut header = [0; 4];
        match tokio::time::timeout(IDLE_MAX, stream.read_exact(&mut header)).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(e)) => return Err(e.into()),
            Err(_) => return Ok(()),
        }
        let answer = match frame::length(header, REQUEST_BYTES_MAX) {
            // What follows a header out of bounds cannot be skipped: answer, then hang up.
            Err(error) => {
                let refusal = malformed(&error);
                write(&mut stream, &Answer::Refused(refusal)).await?;
                return Err(error);
            }
            Ok(length) => {
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await?;
                answer(&caller, groups, handler, &body).await
            }
        };
        write(&mut stream, &answer).await?;
    }
}

async fn answer<H: Handler>(caller: &Caller, groups: &Groups, handler: &H, body: &[u8]) -> Answer {
    let call: Call = match frame::decode(body) {
        Ok(call) => call,
        Err(error) => return Answer::Refused(malformed(&error)),
    };
    if call.protocol != PROTOCOL {
        return Answer::Refused(Refusal::new(
            RefusalKind::Invalid,
            format!("protocol {} is not spoken here, {PROTOCOL} is", call.protocol),
            "use the command line of the same version as the service",
        ));
    }
    if let Err(refusal) = allow(caller, groups, &call.request) {
        tracing::warn!(who = caller.who, write = call.request.is_write(), "refused a request");
        return Answer::Refused(refusal);
    }
    match handler.handle(caller, call.request).await {
        Ok(reply) => Answer::Ok(reply),
        Err(refusal) => Answer::Refused(refusal),
    }
}

/// Whether the caller may make that request.
fn allow(caller: &Caller, groups: &Groups, request: &Request) -> Result<(), Refusal> {
    let (needed, group) = if request.is_write() {
        (Right::Write, &groups.write)
    } else {
        (Right::Read, &groups.read)
    };
    if caller.right >= needed {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Forbidden,
        format!("{} may not do that: it needs group `{group}`", caller.who),
        format!("be root, or have root run `usermod -aG {group} {}` and log in again", caller.who),
    ))
}

fn malformed(error: &FrameError) -> Refusal {
    Refusal::new(
        RefusalKind::Invalid,
        format!("the request cannot be read ({error})"),
        "use the command line of the same version as the service",
    )
}

async fn write(stream: &mut UnixStream, answer: &Answer) -> Result<(), FrameError> {
    let bytes = match frame::encode(answer, ANSWER_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => frame::encode(
            &Answer::Refused(Refusal::new(
                RefusalKind::Unavailable,
                format!("the answer is too long ({error})"),
                "ask for less, as with --workload or --limit",
            )),
            ANSWER_BYTES_MAX,
        )?,
    };
    stream.write_all(&bytes).await?;
    Ok(())
}
