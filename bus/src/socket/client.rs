//! The other side: the same contract over the socket, through the owner's restarts.
//!
//! Questions that only read wait for the owner to come back and are asked again. A write waits a moment, then it is
//! [`BusError::Away`]; one that was on its way when the connection broke is away too, and may have been written: who
//! publishes it again does so under the same event id, and readers know it by that.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::message::{self, Answer, Ask, At, FRAME_BYTES_MAX, Question, Tell, Write};
use crate::contract::{Batch, Bus, BusError, Commit, Outgoing, Position, RECORD_BYTES_MAX, Topic};
use crate::frame::OutgoingFrame;

/// Questions that wait at most; more wait with their askers.
const CALLS_MAX: usize = 256;

/// How long a write waits for the owner to come back: a restart takes less.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// First and longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Ends of the watched partitions, by topic and partition; `None` until the owner has told it.
type Ends = HashMap<(u32, u32), watch::Sender<Option<u64>>>;

type Watched = Arc<Mutex<Ends>>;

struct Call {
    question: Question,
    asked: Instant,
    reply: oneshot::Sender<Result<Answer, BusError>>,
}

impl Call {
    fn writes(&self) -> bool {
        matches!(self.question, Question::Publish(_) | Question::Transact(_))
    }

    fn answer(self, answer: Result<Answer, BusError>) {
        // One that has gone away does not want to know.
        let _ = self.reply.send(answer);
    }
}

/// A handle to the bus behind a socket; when the last one is dropped, the connection is closed.
#[derive(Clone, Debug)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    watched: Watched,
}

impl Client {
    /// A client of the socket at this path, which need not be there yet. Needs a running tokio runtime.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (calls, asked) = mpsc::channel(CALLS_MAX);
        let watched = Watched::default();
        tokio::spawn(run(path.into(), asked, Arc::clone(&watched)));
        Self { calls, watched }
    }

    async fn ask(&self, question: Question) -> Result<Answer, BusError> {
        let (reply, answer) = oneshot::channel();
        let call = Call { question, asked: Instant::now(), reply };
        self.calls.send(call).await.map_err(|_| BusError::Closed)?;
        match answer.await.map_err(|_| BusError::Closed)?? {
            Answer::Error(error) => Err(error.into()),
            answer => Ok(answer),
        }
    }

    async fn write(&self, question: Question) -> Result<Vec<Position>, BusError> {
        match self.ask(question).await? {
            Answer::Positions(positions) => {
                positions.places.into_iter().map(TryInto::try_into).collect()
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl Bus for Client {
    async fn partitions(&self, topic: Topic) -> Result<u32, BusError> {
        match self.ask(Question::Partitions(at(topic, 0, 0))).await? {
            Answer::Number(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }

    async fn publish(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, BusError> {
        self.write(Question::Publish(frames(records, "", Vec::new())?)).await
    }

    async fn fetch(&self, topic: Topic, partition: u32, from: u64) -> Result<Batch, BusError> {
        match self.ask(Question::Fetch(at(topic, partition, from))).await? {
            Answer::Batch(batch) => Ok(batch.batch(topic, partition)),
            other => Err(unexpected(&other)),
        }
    }

    async fn wait_beyond(
        &self,
        topic: Topic,
        partition: u32,
        offset: u64,
    ) -> Result<u64, BusError> {
        let key = (topic as u32, partition);
        let known = lock(&self.watched).get(&key).map(watch::Sender::subscribe);
        let mut end = if let Some(end) = known {
            end
        } else {
            self.ask(Question::Watch(at(topic, partition, 0))).await?;
            end_of(&self.watched, key).subscribe()
        };
        let moved = end.wait_for(|high| high.is_some_and(|h| h != offset)).await;
        Ok(moved.map_err(|_| BusError::Closed)?.unwrap_or(offset))
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, BusError> {
        let at = At { group: group.to_owned(), ..at(topic, partition, 0) };
        match self.ask(Question::Committed(at)).await? {
            Answer::Offset(found) => Ok(found.offset),
            other => Err(unexpected(&other)),
        }
    }

    async fn transact(
        &self,
        group: &str,
        outputs: Vec<Outgoing>,
        commits: Vec<Commit>,
    ) -> Result<Vec<Position>, BusError> {
        self.write(Question::Transact(frames(outputs, group, commits)?)).await
    }
}

fn at(topic: Topic, partition: u32, offset: u64) -> At {
    Position { topic, partition, offset }.into()
}

fn frames(records: Vec<Outgoing>, group: &str, commits: Vec<Commit>) -> Result<Write, BusError> {
    let sizes = records.iter().map(Outgoing::bytes);
    if let Some(bytes) = sizes.clone().find(|bytes| *bytes > RECORD_BYTES_MAX) {
        return Err(BusError::TooLarge { bytes });
    }
    // Half of a frame leaves room for any envelope.
    let bytes: usize = sizes.sum();
    if bytes > FRAME_BYTES_MAX / 2 {
        return Err(BusError::TooLarge { bytes });
    }
    Ok(Write {
        records: records.into_iter().map(OutgoingFrame::from).collect(),
        group: group.to_owned(),
        commits: commits.into_iter().map(Into::into).collect(),
    })
}

fn unexpected(answer: &Answer) -> BusError {
    let kind = match answer {
        Answer::Number(_) => "a number",
        Answer::Positions(_) => "positions",
        Answer::Batch(_) => "a batch",
        Answer::Advanced(_) => "a high watermark",
        Answer::Offset(_) => "an offset",
        Answer::Error(_) => "an error",
    };
    BusError::Protocol(format!("{kind}, which was not asked for"))
}

fn lock(watched: &Watched) -> MutexGuard<'_, Ends> {
    // A map of senders is whole between any two of its operations.
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_of(watched: &Watched, key: (u32, u32)) -> watch::Sender<Option<u64>> {
    lock(watched).entry(key).or_insert_with(|| watch::Sender::new(None)).clone()
}

/// Keeps a connection for as long as there are handles.
async fn run(path: PathBuf, mut asked: mpsc::Receiver<Call>, watched: Watched) {
    let mut waiting: VecDeque<Call> = VecDeque::new();
    let mut pause = BACKOFF.0;
    loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => {
                let end = session(stream, &mut asked, &mut waiting, &watched).await;
                match end {
                    Ok(Ended::Closed) => return,
                    Ok(Ended::Refused(error)) => {
                        tracing::error!(error = %error, path = %path.display(), "the bus refuses this process");
                        for call in waiting.drain(..) {
                            call.answer(Err(error.clone()));
                        }
                    }
                    Ok(Ended::Broken { heard }) => {
                        tracing::warn!(path = %path.display(), "the bus went away");
                        if heard {
                            pause = BACKOFF.0;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, path = %path.display(), "the bus went away");
                    }
                }
            }
            Err(error) => tracing::debug!(error = %error, path = %path.display(), "no bus yet"),
        }
        give_up_writes(&mut waiting, &path);
        let attempt = sleep(pause);
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                () = &mut attempt => break,
                call = asked.recv(), if waiting.len() < CALLS_MAX => match call {
                    Some(call) => waiting.push_back(call),
                    None => return,
                },
            }
        }
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Answers writes that have waited long enough; forgets what nobody waits for any more.
fn give_up_writes(waiting: &mut VecDeque<Call>, path: &Path) {
    for call in std::mem::take(waiting) {
        if call.writes() && call.asked.elapsed() >= WRITE_PATIENCE {
            call.answer(Err(BusError::Away { path: path.display().to_string() }));
        } else if !call.reply.is_closed() {
            waiting.push_back(call);
        }
    }
}

enum Ended {
    /// Every handle is gone.
    Closed,
    /// The owner does not want this process.
    Refused(BusError),
    /// The owner went away; whether it had said anything before.
    Broken { heard: bool },
}

/// One connection: asks what waits, and hands answers out until it breaks. What was read and not answered waits again.
async fn session(
    stream: UnixStream,
    asked: &mut mpsc::Receiver<Call>,
    waiting: &mut VecDeque<Call>,
    watched: &Watched,
) -> io::Result<Ended> {
    let path =
        stream.peer_addr()?.as_pathname().map(|p| p.display().to_string()).unwrap_or_default();
    let (mut from, mut to) = stream.into_split();
    let (heard, mut answers) = mpsc::channel::<Tell>(CALLS_MAX);
    let (asks, mut outgoing) = mpsc::channel::<Ask>(CALLS_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok(Some(tell)) = message::read(&mut from).await {
            if heard.send(tell).await.is_err() {
                break;
            }
        }
    });
    tasks.spawn(async move {
        while let Some(ask) = outgoing.recv().await {
            if message::write(&mut to, &ask).await.is_err() {
                break;
            }
        }
    });
    let mut pending: HashMap<u64, Call> = HashMap::new();
    let mut next_id = 1;
    let again: Vec<(u32, u32)> = lock(watched).keys().copied().collect();
    for (topic, partition) in again {
        let question = Some(Question::Watch(At { topic, partition, ..At::default() }));
        // Fewer than the channel holds: topics times partitions that this process reads.
        let _ = asks.try_send(Ask { id: next_id, question });
        next_id += 1;
    }
    let mut said = false;
    let ended = loop {
        while asks.capacity() > 0
            && let Some(call) = waiting.pop_front()
        {
            put(&asks, &mut pending, &mut next_id, call);
        }
        tokio::select! {
            tell = answers.recv() => {
                let Some(Tell { id, answer: Some(answer) }) = tell else {
                    break Ended::Broken { heard: said };
                };
                said = true;
                match (pending.remove(&id), answer) {
                    (Some(call), answer) => call.answer(Ok(answer)),
                    (None, Answer::Advanced(at)) => {
                        end_of(watched, (at.topic, at.partition)).send_replace(Some(at.offset));
                    }
                    (None, Answer::Error(error)) if id == 0 => break Ended::Refused(error.into()),
                    (None, _) => {}
                }
            }
            call = asked.recv(), if pending.len() < CALLS_MAX && asks.capacity() > 0 => match call {
                Some(call) => put(&asks, &mut pending, &mut next_id, call),
                None => break Ended::Closed,
            },
        }
    };
    let mut unanswered: Vec<(u64, Call)> = pending.into_iter().collect();
    unanswered.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    for (_, call) in unanswered {
        if call.writes() {
            call.answer(Err(BusError::Away { path: path.clone() }));
        } else {
            waiting.push_front(call);
        }
    }
    Ok(ended)
}

/// Sends a question; its answer finds it by the id.
fn put(asks: &mpsc::Sender<Ask>, pending: &mut HashMap<u64, Call>, next_id: &mut u64, call: Call) {
    if call.reply.is_closed() {
        return;
    }
    let ask = Ask { id: *next_id, question: Some(call.question.clone()) };
    // A channel with capacity refuses only when its task has ended, and then the session is about to.
    if asks.try_send(ask).is_ok() {
        pending.insert(*next_id, call);
    } else {
        call.answer(Err(BusError::Away { path: String::new() }));
    }
    *next_id += 1;
}
