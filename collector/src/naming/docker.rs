//! The Docker Engine API, as far as naming needs it. Podman serves the same API from its own socket.
//!
//! Paths carry no version: the engine then answers in its own, and the few fields read here have the same names in all
//! of them, while a version that is asked for is refused by engines older or much newer.
//!
//! Answers are read into twins that ignore what they do not know; every text is bounded on the way out. Nulls are
//! everywhere in this API, so every field is optional.

use std::collections::BTreeMap;
use std::path::Path;

use bulkhead_domain::container::Engine;
use serde::Deserialize;
use thiserror::Error;

use super::description::{
    Description, bounded, naming_command, naming_labels, repository, timestamp,
};
use super::event::{Exec, Happened};
use super::http::{self, HttpError};

/// Containers read from one list.
pub const CONTAINERS_MAX: usize = 4096;

/// Why an engine's answer names nothing.
#[derive(Debug, Error)]
pub enum ApiError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer of another shape.
    #[error("answer is not what the engine's API promises")]
    Shape(#[from] serde_json::Error),
}

impl ApiError {
    /// The engine knows no such container.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_absent())
    }
}

/// Ids of all containers, those that do not run included: their names are known before they start.
pub async fn list(socket: &Path) -> Result<Vec<String>, ApiError> {
    let answer = http::fetch(socket, "/containers/json?all=1").await?;
    let listed: Vec<Listed> = serde_json::from_slice(&answer)?;
    Ok(listed
        .into_iter()
        .map(|container| container.id)
        .filter(|id| is_id(id))
        .take(CONTAINERS_MAX)
        .collect())
}

/// What the engine knows of one container.
pub async fn inspect(engine: Engine, socket: &Path, id: &str) -> Result<Description, ApiError> {
    let answer = http::fetch(socket, &format!("/containers/{id}/json")).await?;
    Ok(read_inspect(engine, &answer)?)
}

/// The stream of what happens to containers from now on.
pub async fn events(socket: &Path) -> Result<http::Lines, ApiError> {
    Ok(http::follow(socket, "/events").await?)
}

/// The process of an exec session, and the user it was asked for.
pub async fn exec(socket: &Path, container: &str, session: Option<&str>) -> Result<Exec, ApiError> {
    let sessions = if let Some(session) = session {
        vec![session.to_owned()]
    } else {
        let answer = http::fetch(socket, &format!("/containers/{container}/json")).await?;
        let inspected: Inspected = serde_json::from_slice(&answer)?;
        inspected.exec_ids.unwrap_or_default()
    };
    let mut found = Exec::of(container);
    for session in sessions.iter().filter(|id| is_id(id)).rev().take(SESSIONS_MAX) {
        let call = format!("/exec/{session}/json");
        let Ok(answer) = http::fetch(socket, &call).await else { continue };
        let session: ExecInspected = serde_json::from_slice(&answer)?;
        found.pids.extend(session.pid.filter(|pid| *pid > 0));
        if let Some(user) = session.process_config.and_then(|config| config.user) {
            found.user = bounded(&user);
        }
    }
    Ok(found)
}

/// Exec sessions asked about for one event.
const SESSIONS_MAX: usize = 8;

/// Whether a text is an engine's id, and so may be part of a path.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Reads the answer to an inspection.
pub fn read_inspect(engine: Engine, answer: &[u8]) -> Result<Description, serde_json::Error> {
    let inspected: Inspected = serde_json::from_slice(answer)?;
    let config = inspected.config.unwrap_or_default();
    let state = inspected.state.unwrap_or_default();
    let command = inspected
        .path
        .as_deref()
        .into_iter()
        .chain(inspected.args.iter().flatten().map(String::as_str));
    let name = inspected.name.unwrap_or_default();
    Ok(Description {
        name: bounded(name.strip_prefix('/').unwrap_or(&name)),
        image: repository(config.image.as_deref().unwrap_or_default()),
        digest: bounded(inspected.image.as_deref().unwrap_or_default()),
        labels: naming_labels(
            config
                .labels
                .iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?))),
        ),
        command: naming_command(command),
        pid: state.pid.unwrap_or(0),
        started: state.started_at.as_deref().and_then(timestamp).unwrap_or_default(),
        ..Description::bare(engine, &inspected.id)
    })
}

/// Reads one line of the event stream; `None` for what does not concern a container's name, life or exec sessions.
pub fn read_event(line: &[u8]) -> Option<Happened> {
    let event: Event = serde_json::from_slice(line).ok()?;
    if event.kind.as_deref() != Some("container") {
        return None;
    }
    let actor = event.actor?;
    let id = actor.id.filter(|id| is_id(id))?;
    let action = event.action?;
    // `exec_start: sh -c …` carries the command behind a colon.
    let action = action.split_once(':').map_or(action.as_str(), |(action, _)| action);
    match action {
        "create" | "init" | "start" | "restart" | "rename" | "update" | "unpause" => {
            Some(Happened::Changed(id))
        }
        "die" | "died" | "cleanup" => Some(Happened::Ended(id)),
        "destroy" | "remove" => Some(Happened::Removed(id)),
        "exec_start" | "exec" => {
            let session = actor
                .attributes
                .unwrap_or_default()
                .get("execID")
                .and_then(Option::clone)
                .filter(|session| is_id(session));
            Some(Happened::Exec { container: id, session })
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: Option<String>,
    path: Option<String>,
    args: Option<Vec<String>>,
    image: Option<String>,
    state: Option<State>,
    config: Option<ContainerConfig>,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    pid: Option<u32>,
    started_at: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    image: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecInspected {
    pid: Option<u32>,
    process_config: Option<ProcessConfig>,
}

#[derive(Deserialize)]
struct ProcessConfig {
    user: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Action")]
    action: Option<String>,
    #[serde(rename = "Actor")]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, Option<String>>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";

    #[test]
    fn an_inspection_gives_name_image_labels_and_command() {
        let answer = format!(
            r#"{{"Id":"{ID}","Created":"2026-01-31T08:00:00Z","Path":"/docker-entrypoint.sh","Args":["nginx","-g","daemon off;"],
            "State":{{"Status":"running","Running":true,"Pid":4242,"StartedAt":"2026-01-31T08:15:30.25Z"}},
            "Image":"sha256:9bea","Name":"/shop-web-1","Config":{{"Image":"registry.example:5000/web:1.2",
            "Labels":{{"com.docker.compose.project":"shop","com.docker.compose.service":"web","maintainer":"x","empty":null}}}}}}"#
        );
        let read = read_inspect(Engine::Docker, answer.as_bytes()).unwrap();
        assert_eq!(read.id, ID);
        assert_eq!(read.name, "shop-web-1");
        assert_eq!(read.image, "registry.example:5000/web");
        assert_eq!(read.digest, "sha256:9bea");
        assert_eq!(read.labels.len(), 2);
        assert_eq!(read.command, ["/docker-entrypoint.sh", "nginx"]);
        assert_eq!(read.pid, 4242);
        assert_eq!(read.started.to_string(), "2026-01-31T08:15:30.250Z");
    }

    #[test]
    fn nulls_and_absent_fields_are_no_error() {
        let answer =
            format!(r#"{{"Id":"{ID}","Args":null,"State":null,"Config":{{"Labels":null}}}}"#);
        let read = read_inspect(Engine::Podman, answer.as_bytes()).unwrap();
        assert_eq!((read.pid, read.name.as_str()), (0, ""));
    }

    #[test]
    fn events_of_both_engines_are_understood() {
        let line = |action: &str, attributes: &str| {
            format!(
                r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{ID}","Attributes":{attributes}}},"timeNano":1}}"#
            )
        };
        let read = |action: &str| read_event(line(action, "{}").as_bytes());
        assert_eq!(read("start"), Some(Happened::Changed(ID.into())));
        assert_eq!(read("die"), Some(Happened::Ended(ID.into())), "docker's word");
        assert_eq!(read("died"), Some(Happened::Ended(ID.into())), "podman's word");
        assert_eq!(read("remove"), Some(Happened::Removed(ID.into())));
        assert_eq!(read("exec"), Some(Happened::Exec { container: ID.into(), session: None }));
        assert_eq!(
            read_event(line("exec_start: sh -c id", &format!(r#"{{"execID":"{ID}"}}"#)).as_bytes()),
            Some(Happened::Exec { container: ID.into(), session: Some(ID.into()) })
        );
        assert_eq!(read("top"), None);
    }

    #[test]
    fn an_id_that_is_none_never_becomes_part_of_a_path() {
        let line = br#"{"Type":"container","Action":"start","Actor":{"ID":"../../secrets"}}"#;
        assert_eq!(read_event(line), None);
        assert_eq!(read_event(b"not json"), None);
        assert_eq!(read_event(br#"{"Type":"image","Action":"pull"}"#), None);
    }
}
