//! The owner's side: answers whoever may ask.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::message::{self, Answer, Ask, At, MaybeOffset, Places, Question, Tell, Write};
use super::role::{Access, Operation, Role};
use crate::contract::{Bus, BusError, Commit, Outgoing, Position, Topic};
use crate::frame;

/// Connections at once: one agent, and room for one that comes back before its old one is noticed.
const CONNECTIONS_MAX: usize = 16;

/// Answers that may wait for a slow peer before its questions wait.
const ANSWERS_MAX: usize = 64;

/// Why the socket cannot be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("{path} is served by another process: stop that one first, or name another --run-dir")]
    Served {
        /// Socket.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("cannot make the socket {path}")]
    Io {
        /// Socket.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// Makes the socket for owner and group; one that a dead process left is replaced.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(BindError::Served { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Serves the bus to every peer that has a role, until the future is dropped.
pub async fn serve<B: Bus>(listener: UnixListener, bus: B, access: Access) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: what is open goes on, and the peer tries again.
                tracing::warn!(error = %error, "cannot accept on the bus socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        // A peer that is gone already has no credentials any more.
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { continue };
        let Some(role) = access.role(uid) else {
            tracing::warn!(uid, "refused a peer on the bus socket");
            connections.spawn(refuse(stream, uid));
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(uid, "too many connections on the bus socket");
            continue;
        };
        let bus = bus.clone();
        connections.spawn(async move {
            if let Err(error) = connection(stream, bus, role).await {
                tracing::warn!(error = %error, uid, "a peer of the bus socket was cut off");
            }
            drop(place);
        });
    }
}

async fn refuse(mut stream: UnixStream, uid: u32) {
    let error = BusError::Refused {
        role: format!("of uid {uid}"),
        operation: "use".into(),
        topic: "this bus".into(),
    };
    // The peer is told as a courtesy.
    let _ = message::write(&mut stream, &tell(0, Err(error))).await;
}

/// One peer: reads are answered as they come, writes in their order by a task of their own.
async fn connection<B: Bus>(stream: UnixStream, bus: B, role: Role) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let (answers, mut outgoing) = mpsc::channel::<Tell>(ANSWERS_MAX);
    let (writes, mut ordered) = mpsc::channel::<(u64, Option<String>, Write)>(ANSWERS_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(tell) = outgoing.recv().await {
            if message::write(&mut to, &tell).await.is_err() {
                break;
            }
        }
    });
    tasks.spawn({
        let (bus, answers) = (bus.clone(), answers.clone());
        async move {
            while let Some((id, group, write)) = ordered.recv().await {
                let answer = self::write(&bus, role, group, write).await;
                if answers.send(tell(id, answer)).await.is_err() {
                    break;
                }
            }
        }
    });
    let mut watched = HashSet::new();
    while let Some(Ask { id, question }) = message::read(&mut from).await? {
        let answer = match question {
            Some(Question::Publish(write)) => {
                if writes.send((id, None, write)).await.is_err() {
                    break;
                }
                continue;
            }
            Some(Question::Transact(write)) => {
                let group = write.group.clone();
                if writes.send((id, Some(group), write)).await.is_err() {
                    break;
                }
                continue;
            }
            Some(Question::Watch(at)) => {
                let answer = watch(&bus, role, &at).await;
                if answer.is_ok() && watched.insert((at.topic, at.partition)) {
                    tasks.spawn(follow(bus.clone(), at, answers.clone()));
                }
                answer
            }
            Some(question) => read(&bus, role, question).await,
            None => Err(BusError::Protocol("a question that this version does not know".into())),
        };
        if answers.send(tell(id, answer)).await.is_err() {
            break;
        }
    }
    // Dropping the set ends its tasks; a write that was begun is the writer's by now.
    Ok(())
}

async fn write<B: Bus>(
    bus: &B,
    role: Role,
    group: Option<String>,
    write: Write,
) -> Result<Answer, BusError> {
    let records: Vec<Outgoing> =
        write.records.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    for record in &records {
        role.check(Operation::Write, record.topic)?;
    }
    let positions = match group {
        None => bus.publish(records).await?,
        Some(group) => {
            let commits: Vec<Commit> =
                write.commits.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
            for commit in &commits {
                role.check(Operation::Commit, commit.topic)?;
            }
            bus.transact(&group, records, commits).await?
        }
    };
    Ok(Answer::Positions(Places { places: positions.into_iter().map(Into::into).collect() }))
}

async fn read<B: Bus>(bus: &B, role: Role, question: Question) -> Result<Answer, BusError> {
    match question {
        Question::Partitions(at) => {
            Ok(Answer::Number(bus.partitions(frame::topic(at.topic)?).await?))
        }
        Question::Fetch(at) => {
            let Position { topic, partition, offset } = at.try_into()?;
            role.check(Operation::Read, topic)?;
            Ok(Answer::Batch(bus.fetch(topic, partition, offset).await?.into()))
        }
        Question::Committed(at) => {
            let topic = frame::topic(at.topic)?;
            role.check(Operation::Commit, topic)?;
            let offset = bus.committed(&at.group, topic, at.partition).await?;
            Ok(Answer::Offset(MaybeOffset { offset }))
        }
        Question::Publish(_) | Question::Transact(_) | Question::Watch(_) => {
            unreachable!("the connection handles these itself")
        }
    }
}

/// Whether a partition may be watched.
async fn watch<B: Bus>(bus: &B, role: Role, at: &At) -> Result<Answer, BusError> {
    let topic = frame::topic(at.topic)?;
    role.check(Operation::Read, topic)?;
    let partitions = bus.partitions(topic).await?;
    if at.partition < partitions {
        return Ok(Answer::Number(partitions));
    }
    Err(BusError::Partition { topic: topic.to_string(), partition: at.partition })
}

/// Tells each move of a partition's end.
async fn follow<B: Bus>(bus: B, at: At, answers: mpsc::Sender<Tell>) {
    let Some(topic) = Topic::from_number(at.topic) else { return };
    let mut last = 0;
    while let Ok(high) = bus.wait_beyond(topic, at.partition, last).await {
        let advanced = Answer::Advanced(At { offset: high, ..at.clone() });
        if answers.send(tell(0, Ok(advanced))).await.is_err() {
            return;
        }
        last = high;
    }
}

fn tell(id: u64, answer: Result<Answer, BusError>) -> Tell {
    Tell { id, answer: Some(answer.unwrap_or_else(|error| Answer::Error(error.into()))) }
}
