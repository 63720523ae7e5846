//! Follows one engine: asks what it is asked, tells what happens, and outlives the engine's restarts.
//!
//! Each engine has a task of its own, so that one that answers slowly delays no other. While an engine is away its
//! containers keep their names; when it is back, everything is listed again, and the loop takes what is new.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_domain::Timestamp;
use bulkhead_domain::container::Engine;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::docker;
use super::event::{Exec, Happened, Told};
use super::http::Lines;
use super::podman::Storage;
use super::shelf::{Answer, Shelf};

/// Questions that wait for an engine at most; a further one is asked again by the loop's next look.
const ASKS_MAX: usize = 1024;

/// Questions under way at once.
const INSPECTIONS_MAX: usize = 16;

/// How often an engine's containers are listed although nothing was told: events may be lost with a connection.
const RECONCILE_SECS: u64 = 30;

/// How long to wait before an engine that is away is tried again.
const RETRY_MS: u64 = 500;

/// How often the event log is looked at; what a cgroup's creation asks for does not wait for it.
const LOG_MS: u64 = 100;

/// The same while a container is in the making.
const LOG_HURRY_MS: u64 = 5;

/// How long, and how often, an exec session's process is waited for: the event comes before the process.
const EXEC_TRIES: u32 = 6;
const EXEC_TRY_MS: u64 = 50;

/// One engine and where to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which engine.
    pub engine: Engine,
    /// Its API socket.
    pub socket: Option<PathBuf>,
    /// Its storage, for a Podman whose service does not run.
    pub storage: Option<Storage>,
    /// Somebody asked for this engine by name: its absence is reported.
    pub required: bool,
}

/// The loop's end of a follower.
#[derive(Debug)]
pub struct Follower {
    /// Which engine it follows.
    pub engine: Engine,
    asks: mpsc::Sender<String>,
}

impl Follower {
    /// Asks for a container's description; the answer comes as [`Told::Described`] or [`Told::Absent`].
    ///
    /// `false` when the queue is full: ask again.
    pub fn ask(&self, id: &str) -> bool {
        self.asks.try_send(id.to_owned()).is_ok()
    }
}

/// Starts to follow an engine. It ends when the follower is dropped, or nobody listens any more.
pub fn follow(source: Source, told: mpsc::Sender<Told>) -> Follower {
    let (asks, questions) = mpsc::channel(ASKS_MAX);
    let engine = source.engine;
    tokio::spawn(async move {
        let mut task = Task { source, told, questions, reachable: None };
        // Either end may close first; both mean that the loop is done.
        let _ = task.run().await;
    });
    Follower { engine, asks }
}

/// The loop is gone: nobody asks or listens any more.
struct Done;

struct Task {
    source: Source,
    told: mpsc::Sender<Told>,
    questions: mpsc::Receiver<String>,
    /// Whether the engine answered last time; `None` before the first try.
    reachable: Option<bool>,
}

impl Task {
    async fn run(&mut self) -> Result<(), Done> {
        let mut stored = self.source.storage.clone().map(Shelf::new);
        loop {
            if let Some(socket) = self.source.socket.clone() {
                let lost = match docker::events(&socket).await {
                    Ok(lines) => {
                        self.note_reachable().await?;
                        self.through_api(&socket, lines).await?
                    }
                    Err(error) => chain(&error),
                };
                self.note_lost(lost, stored.as_ref().is_some_and(Shelf::exists)).await?;
            }
            match stored.as_mut().filter(|stored| stored.exists()) {
                Some(stored) => self.through_storage(stored).await?,
                None => self.wait().await?,
            }
        }
    }

    /// Follows the API until the engine goes away; says why it did.
    async fn through_api(&mut self, socket: &Path, mut lines: Lines) -> Result<String, Done> {
        let mut under_way = JoinSet::new();
        let mut reconcile = interval_at(Instant::now(), Duration::from_secs(RECONCILE_SECS));
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                line = lines.next() => match line {
                    Ok(Some(line)) => match docker::read_event(&line) {
                        Some(Happened::Changed(id)) => self.inspect(socket, &mut under_way, id).await,
                        Some(Happened::Ended(id)) => self.tell(Told::Ended(id)).await?,
                        Some(Happened::Removed(id)) => self.tell(Told::Removed(id)).await?,
                        Some(Happened::Exec { container, session }) => {
                            self.exec(socket, &mut under_way, container, session).await;
                        }
                        None => {}
                    },
                    Ok(None) => return Ok("the engine closed its event stream".into()),
                    Err(error) => return Ok(chain(&error)),
                },
                question = self.questions.recv() => {
                    let id = question.ok_or(Done)?;
                    self.inspect(socket, &mut under_way, id).await;
                }
                _ = reconcile.tick() => match docker::list(socket).await {
                    Ok(ids) => for id in ids {
                        self.inspect(socket, &mut under_way, id).await;
                    },
                    Err(error) => return Ok(chain(&error)),
                },
                Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
            }
        }
    }

    async fn inspect(&self, socket: &Path, under_way: &mut JoinSet<()>, id: String) {
        room(under_way).await;
        let (engine, socket, told) = (self.source.engine, socket.to_owned(), self.told.clone());
        under_way.spawn(async move {
            let answer = match docker::inspect(engine, &socket, &id).await {
                Ok(description) => Told::Described(Box::new(description)),
                Err(error) if error.is_absent() => Told::Absent(engine, id),
                Err(error) => {
                    tracing::warn!(?engine, id, cause = chain(&error), "container not described");
                    return;
                }
            };
            let _ = told.send(answer).await;
        });
    }

    async fn exec(
        &self,
        socket: &Path,
        under_way: &mut JoinSet<()>,
        container: String,
        session: Option<String>,
    ) {
        room(under_way).await;
        let (socket, told) = (socket.to_owned(), self.told.clone());
        under_way.spawn(async move {
            let exec = session_of(&socket, &container, session.as_deref()).await;
            let _ = told.send(Told::Exec(exec)).await;
        });
    }

    /// Reads Podman's storage and event log until the socket answers.
    async fn through_storage(&mut self, stored: &mut Shelf) -> Result<(), Done> {
        for id in stored.list() {
            self.describe(stored, &id).await?;
        }
        loop {
            let waits = !stored.waiting().is_empty();
            let pause = Duration::from_millis(if waits { LOG_HURRY_MS } else { LOG_MS });
            tokio::select! {
                question = self.questions.recv() => {
                    let id = question.ok_or(Done)?;
                    self.take(stored).await?;
                    self.describe(stored, &id).await?;
                }
                () = sleep(pause) => {
                    self.take(stored).await?;
                    for id in stored.waiting() {
                        self.describe(stored, &id).await?;
                    }
                    if self.told.is_closed() {
                        return Err(Done);
                    }
                    if let Some(socket) = &self.source.socket && answers(socket).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Tells what the event log says anew.
    async fn take(&self, stored: &mut Shelf) -> Result<(), Done> {
        let happened = match stored.happened() {
            Ok(happened) => happened,
            Err(error) => {
                tracing::warn!(cause = chain(&error), "event log not read");
                return Ok(());
            }
        };
        for happened in happened {
            match happened {
                Happened::Changed(id) => self.describe(stored, &id).await?,
                Happened::Ended(id) => self.tell(Told::Ended(id)).await?,
                Happened::Removed(id) => self.tell(Told::Removed(id)).await?,
                Happened::Exec { container, .. } => {
                    self.tell(Told::Exec(stored.exec(&container))).await?;
                }
            }
        }
        Ok(())
    }

    async fn describe(&self, stored: &mut Shelf, id: &str) -> Result<(), Done> {
        match stored.describe(id, wall()) {
            Answer::Complete(description) => self.tell(Told::Described(description)).await,
            Answer::NotYet => Ok(()),
            Answer::Absent => self.tell(Told::Absent(self.source.engine, id.into())).await,
        }
    }

    /// Waits before the next try; answers questions with "absent" meanwhile, so that nobody waits for this engine.
    async fn wait(&mut self) -> Result<(), Done> {
        let pause = sleep(Duration::from_millis(RETRY_MS));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return if self.told.is_closed() { Err(Done) } else { Ok(()) },
                question = self.questions.recv() => {
                    let id = question.ok_or(Done)?;
                    self.tell(Told::Absent(self.source.engine, id)).await?;
                }
            }
        }
    }

    async fn note_reachable(&mut self) -> Result<(), Done> {
        if self.reachable.replace(true) == Some(false) {
            self.tell(Told::Back(self.source.engine)).await?;
        }
        Ok(())
    }

    /// Reports an engine once that was there, or that somebody asked for; storage that can be read is as good as an answer.
    async fn note_lost(&mut self, cause: String, storage: bool) -> Result<(), Done> {
        let report = match self.reachable {
            Some(reachable) => reachable,
            None => self.source.required,
        };
        if report && !storage {
            self.reachable = Some(false);
            let detail = format!("{cause}; its containers keep their names until it answers again");
            self.tell(Told::Lost(self.source.engine, detail)).await?;
        }
        Ok(())
    }

    async fn tell(&self, told: Told) -> Result<(), Done> {
        self.told.send(told).await.map_err(|_| Done)
    }
}

fn wall() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}

/// Waits until another question may be under way.
async fn room(under_way: &mut JoinSet<()>) {
    while under_way.len() >= INSPECTIONS_MAX {
        under_way.join_next().await;
    }
}

/// An exec session's process; without one when the engine never says it.
async fn session_of(socket: &Path, container: &str, session: Option<&str>) -> Exec {
    let mut found = Exec::of(container);
    for _ in 0..EXEC_TRIES {
        match docker::exec(socket, container, session).await {
            Ok(exec) if !exec.pids.is_empty() => return exec,
            Ok(exec) => found = exec,
            Err(_) => return found,
        }
        sleep(Duration::from_millis(EXEC_TRY_MS)).await;
    }
    found
}

/// Whether an engine listens at the socket.
async fn answers(socket: &Path) -> bool {
    tokio::net::UnixStream::connect(socket).await.is_ok()
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";

    /// Answers one request as an engine with one container would; an event stream says `start` and goes on.
    async fn serve(stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        stream.read_line(&mut request).await.unwrap();
        let inspection = format!(r#"{{"Id":"{ID}","Name":"/web","Config":{{"Image":"web:1"}}}}"#);
        let list = format!(r#"[{{"Id":"{ID}"}}]"#);
        let event = format!(
            "{{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{{\"ID\":\"{ID}\"}}}}\n"
        );
        let (status, body) = match request.split(' ').nth(1).unwrap() {
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let chunk = format!("{head}{:x}\r\n{event}\r\n", event.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
                // The stream stays open until the engine goes.
                std::future::pending::<()>().await;
                return;
            }
            "/containers/json?all=1" => ("200 OK", list),
            path if path == format!("/containers/{ID}/json") => ("200 OK", inspection),
            _ => ("404 Not Found", "{}".into()),
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn engine(socket: &Path) -> tokio::task::JoinHandle<()> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        })
    }

    async fn wait_for(told: &mut mpsc::Receiver<Told>, what: impl Fn(&Told) -> bool) -> Told {
        tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let next = told.recv().await.expect("the follower goes on");
                if what(&next) {
                    return next;
                }
            }
        })
        .await
        .expect("it is told in time")
    }

    fn source(socket: &Path, required: bool) -> Source {
        Source { engine: Engine::Docker, socket: Some(socket.into()), storage: None, required }
    }

    #[tokio::test]
    async fn an_engine_that_restarts_is_lost_and_back_and_listed_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let (sender, mut told) = mpsc::channel(64);
        let running = engine(&socket);
        let follower = follow(source(&socket, false), sender);
        let described = |told: &Told| matches!(told, Told::Described(d) if d.name == "web");
        // The list and the stream are read side by side: either may come first.
        let first =
            wait_for(&mut told, |told| described(told) || *told == Told::Ended(ID.into())).await;
        wait_for(&mut told, |told| {
            if described(&first) { *told == Told::Ended(ID.into()) } else { described(told) }
        })
        .await;

        running.abort();
        let _ = running.await;
        wait_for(&mut told, |told| matches!(told, Told::Lost(Engine::Docker, _))).await;
        // Nobody who asks meanwhile is kept waiting.
        assert!(follower.ask(ID));
        wait_for(&mut told, |told| *told == Told::Absent(Engine::Docker, ID.into())).await;

        let running = engine(&socket);
        wait_for(&mut told, |told| *told == Told::Back(Engine::Docker)).await;
        wait_for(&mut told, described).await;
        running.abort();
    }

    #[tokio::test]
    async fn a_question_is_answered_even_when_the_answer_is_no() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let (sender, mut told) = mpsc::channel(64);
        let running = engine(&socket);
        let follower = follow(source(&socket, false), sender);
        let other = "f".repeat(64);
        assert!(follower.ask(&other));
        wait_for(&mut told, |told| *told == Told::Absent(Engine::Docker, other.clone())).await;
        running.abort();
    }

    #[tokio::test]
    async fn only_an_engine_that_was_asked_for_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nobody.sock");
        let (sender, mut told) = mpsc::channel(64);
        let _asked = follow(source(&socket, true), sender);
        let lost = wait_for(&mut told, |told| matches!(told, Told::Lost(..))).await;
        assert!(format!("{lost:?}").contains("nobody.sock"), "{lost:?}");

        let (sender, mut told) = mpsc::channel(64);
        let quiet = follow(source(&socket, false), sender);
        quiet.ask(ID);
        let first = wait_for(&mut told, |_| true).await;
        assert_eq!(first, Told::Absent(Engine::Docker, ID.into()));
    }
}
