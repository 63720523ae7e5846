//! The sans-I/O core of learner and scorer: one ordered log in, decisions out.
//!
//! It reads no clock and draws no randomness: event time is in the observations. The same log gives the same outputs, byte
//! for byte. State is kept per workload and written down per workload, so that a partition can move to another detector.
//!
//! Every record goes the same way: refused if its producer published it before; then, by what it holds, to the learner
//! (`learner.rs`) or the scorer (`scorer.rs`); exceedances join the container's incident (`incident.rs`); and what a
//! person would want to know leaves as an [`Output`].

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_domain::alert::{Alert, AlertClass, Response, Review};
use bulkhead_domain::behaviour::{Act, Behaviour};
use bulkhead_domain::feature::{FeatureSetId, feature_set};
use bulkhead_domain::health::{Condition, Health};
use bulkhead_domain::observation::Body;
use bulkhead_domain::score::{Score, Threshold};
use bulkhead_domain::text::printable;
use bulkhead_domain::view::{BaselineView, EngineView};
use bulkhead_domain::workload::hash64;
use bulkhead_domain::{
    AlertId, Container, ContainerKey, EventId, Mode, Observation, Timestamp, Window, WorkloadName,
};
use bulkhead_models::artifact::{self, ArtifactError};
use bulkhead_models::detector::Part;

use crate::config::Config;
use crate::fleet::Fleet;
use crate::incident::{Exceedance, Incident, Whose};
use crate::output::Output;
use crate::scorer::{self, Evidence};
use crate::workload::{Acceptable, WorkloadState};
use crate::{intents, learner, view};

/// How long callers of a restarted workload may see errors.
const RESTART_TROUBLE: Duration = Duration::from_secs(30);

/// Learner and scorer of all workloads of the partitions it is fed.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    feature_set: FeatureSetId,
    states: BTreeMap<WorkloadName, WorkloadState>,
    fleet: Fleet,
}

impl Engine {
    /// An engine that knows no workload yet.
    pub fn new(config: Config) -> Self {
        let feature_set = feature_set(config.step_ms);
        Self { config, feature_set, states: BTreeMap::new(), fleet: Fleet::default() }
    }

    /// The settings it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Absorbs one record. A record that its producer published before (by high-water mark) changes nothing.
    pub fn handle(&mut self, observation: &Observation) -> Vec<Output> {
        let name = &observation.workload;
        let (mut state, new) = match self.states.remove(name) {
            Some(state) => (state, false),
            None => (WorkloadState::new(name.clone(), &self.config, observation.at), true),
        };
        let mut outputs = Vec::new();
        let mut changed = new;
        if state.mark(observation.id) {
            state.version += 1;
            state.last = state.last.max(observation.at);
            changed |= Absorb {
                config: &self.config,
                feature_set: self.feature_set,
                fleet: &self.fleet,
                state: &mut state,
                out: &mut outputs,
            }
            .record(observation);
            let important = changed || outputs.iter().any(|o| !matches!(o, Output::SnapshotDue(_)));
            if important || state.last.since(state.written_at) >= self.config.snapshot_every {
                state.written_at = state.last;
                outputs.push(Output::SnapshotDue(name.clone()));
            }
        } else {
            state.duplicates += 1;
        }
        self.states.insert(name.clone(), state);
        if changed || outputs.iter().any(|o| !matches!(o, Output::SnapshotDue(_))) {
            self.fleet = Fleet::of(self.states.values());
        }
        outputs
    }

    /// One workload's whole state as a checksummed artifact; `None` when the workload is unknown.
    pub fn snapshot(&mut self, workload: &WorkloadName) -> Option<Vec<u8>> {
        let state = self.states.get_mut(workload)?;
        loop {
            match artifact::write(state, self.feature_set) {
                Ok(bytes) => return Some(bytes),
                // Alerts are on their topic already, and lessons can be spared by half.
                Err(ArtifactError::TooLarge(_)) if state.alerts.len() > 8 => {
                    state.alerts.drain(..state.alerts.len() / 2);
                }
                Err(ArtifactError::TooLarge(_)) if state.volume.windows() > 8 => {
                    state.volume.halve();
                }
                Err(_) => return None,
            }
        }
    }

    /// Takes up a workload from its artifact, replacing what is known of it; returns its name.
    pub fn restore(&mut self, artifact: &[u8]) -> Result<WorkloadName, ArtifactError> {
        let state: WorkloadState = artifact::read(artifact, self.feature_set)?;
        let name = state.name.clone();
        self.states.insert(name.clone(), state);
        self.fleet = Fleet::of(self.states.values());
        Ok(name)
    }

    /// Every workload known, by name.
    pub fn workloads(&self) -> Vec<WorkloadName> {
        self.states.keys().cloned().collect()
    }

    /// Workloads and alerts, for a person.
    pub fn view(&self) -> EngineView {
        view::engine(self.states.values(), &self.config, &self.fleet)
    }

    /// One workload's baseline, for a person.
    pub fn baseline(&self, workload: &WorkloadName) -> Option<BaselineView> {
        self.states.get(workload).map(|state| view::baseline(state, &self.config, &self.fleet))
    }
}

/// One record's way into one workload's state.
struct Absorb<'a> {
    config: &'a Config,
    feature_set: FeatureSetId,
    fleet: &'a Fleet,
    state: &'a mut WorkloadState,
    out: &'a mut Vec<Output>,
}

impl Absorb<'_> {
    /// Absorbs it; `true` when what other workloads know of this one changed.
    fn record(&mut self, observation: &Observation) -> bool {
        let (at, id) = (observation.at, observation.id);
        let changed = match &observation.body {
            Body::Behaviour(key, behaviour) => {
                self.behaviour(key, behaviour, at, id);
                false
            }
            Body::Window(key, window) => {
                self.window(key, window, at, id);
                false
            }
            Body::Started(container) => {
                self.started(container, at, id);
                true
            }
            Body::Stopped(key) => {
                let container = self.state.container(key, at);
                // A restart's `Started` may come first: only the cgroup that ended ends.
                if container.key.cgroup == key.cgroup {
                    container.running = false;
                }
                self.state.troubled_until = self.state.troubled_until.max(at.plus(RESTART_TROUBLE));
                true
            }
            Body::Intent(intent) => {
                let more = intents::apply(self.state, self.config, self.fleet, intent, at, id);
                self.out.extend(more);
                true
            }
            Body::Health(health) => {
                self.health(health, at, id);
                false
            }
        };
        self.close_ended(at);
        if let Some(why) = learner::ends(self.state, self.config, self.fleet, at) {
            learner::finish(self.state, self.config, at);
            let next = self.state.next;
            self.out.extend(intents::set_mode(self.state, next, why, at));
        }
        changed
    }

    fn step(&self) -> Duration {
        Duration::from_millis(self.config.step_ms)
    }

    fn started(&mut self, facts: &Container, at: Timestamp, id: EventId) {
        let is_new = !self.state.knows(&facts.key);
        let container = self.state.container(&facts.key, at);
        let restarted = is_new || container.key.cgroup != facts.key.cgroup;
        container.key = facts.key.clone();
        container.remember(facts, at);
        container.facts = Some(facts.clone());
        container.running = true;
        if restarted {
            // An engine may still tell the start before, or when it was made: another cgroup is evidence of its own.
            container.started = if is_new { facts.started } else { facts.started.max(at) };
            container.vouched = crate::vouch::Vouched::default();
            container.locality = bulkhead_models::sequence::Locality::default();
            self.state.troubled_until =
                self.state.troubled_until.max(facts.started.plus(RESTART_TROUBLE));
        }
        let image = facts.image.clone();
        if image.is_empty() || self.state.repositories.contains(&image) {
            return;
        }
        if self.state.repositories.is_empty() {
            self.state.repositories.insert(image);
            return;
        }
        let known: Vec<String> = self.state.repositories.iter().map(|r| printable(r, 80)).collect();
        let exceedance = Exceedance {
            class: AlertClass::Identity,
            score: Score(250.0),
            threshold: CERTAIN,
            provisional: false,
            certain: Some(Part {
                subject: format!("image repository {}", printable(&image, 120)),
                observed: printable(&image, 120),
                expected: known.join(", "),
                weight: 250.0,
                act: None,
                peer: None,
            }),
            acts: Vec::new(),
            window: Vec::new(),
            process: None,
            at,
            evidence: id,
            loss_ratio: 0.0,
            nearest: known.first().cloned().unwrap_or_default(),
            acceptable: Acceptable { repository: Some(image), ..Acceptable::default() },
        };
        self.exceeded(&facts.key, &exceedance);
    }

    fn behaviour(&mut self, key: &ContainerKey, behaviour: &Behaviour, at: Timestamp, id: EventId) {
        let step = self.step();
        let start_up = self.config.start_up;
        let quiet_windows = self.config.quiet_windows;
        let learning = self.state.mode == Mode::Learn;
        let container = self.state.container(key, at);
        let vouched = behaviour.process.as_ref().is_some_and(|p| container.vouched.judge(p, at));
        let start_up =
            at.since(container.started) <= start_up && container.started > Timestamp::default();
        let suspect = at < container.suspect_until;
        if matches!(behaviour.act, Act::Connect { refused: true, .. }) {
            container.refused_at = Some(at);
        }
        if container.is_retry(&behaviour.act, at, step * quiet_windows) {
            return;
        }
        let evidence = Evidence { key, at, id, step, vouched, start_up };
        let exceedance = if matches!(behaviour.act, Act::Forbidden { .. }) {
            scorer::forbidden(self.state, self.fleet, &evidence, behaviour)
        } else if learning {
            // What the engine's exec does is an operator's errand, not the workload's habit.
            if !vouched {
                let lesson = learner::Lesson { key, at, evidence: id, start_up, suspect };
                learner::behaviour(self.state, self.config, self.fleet, &lesson, behaviour);
            }
            None
        } else {
            scorer::behaviour(self.state, self.config, self.fleet, &evidence, behaviour)
        };
        if let Some(exceedance) = exceedance {
            self.exceeded(key, &exceedance);
        }
    }

    fn window(&mut self, key: &ContainerKey, window: &Window, at: Timestamp, id: EventId) {
        if window.feature_set != self.feature_set {
            self.state.refused_windows += 1;
            return;
        }
        let step = self.step();
        let start_up_span = self.config.start_up;
        let container = self.state.container(key, at);
        container.windows += 1;
        let start_up = window.start.since(container.started) <= start_up_span
            && container.started > Timestamp::default();
        let suspect = at < container.suspect_until;
        let vouched = container.vouched.active(at, step * 2);
        let blind = window.loss.ratio() > self.config.loss_ratio_max;
        self.blinded(key, window, blind, at, id);
        if self.state.mode == Mode::Learn {
            if !blind {
                let lesson = learner::Lesson { key, at, evidence: id, start_up, suspect };
                learner::window(
                    self.state,
                    self.config,
                    self.fleet,
                    &lesson,
                    window,
                    !start_up && !vouched,
                );
            }
        } else {
            let evidence = Evidence { key, at, id, step, vouched, start_up };
            if let Some(exceedance) =
                scorer::window(self.state, self.config, self.fleet, &evidence, window)
            {
                self.exceeded(key, &exceedance);
            }
        }
        let quiet_windows = self.config.quiet_windows;
        let Some(mut incident) = self.state.container(key, at).incident.take() else { return };
        if std::mem::take(&mut incident.exceeded) {
            incident.quiet = 0;
            if incident.catch_up() {
                self.tell(&incident);
            }
        } else {
            incident.quiet += 1;
        }
        if incident.quiet >= quiet_windows {
            incident.close();
            self.tell(&incident);
        } else {
            self.state.container(key, at).incident = Some(incident);
        }
    }

    /// Raises, keeps and closes the alert that says a window could not be judged.
    fn blinded(
        &mut self,
        key: &ContainerKey,
        window: &Window,
        blind: bool,
        at: Timestamp,
        id: EventId,
    ) {
        let quiet_windows = self.config.quiet_windows;
        if !blind {
            let open = &mut self.state.container(key, at).blinded;
            if let Some(incident) = open {
                incident.quiet += 1;
                if incident.quiet >= quiet_windows {
                    incident.close();
                    let closed = open.take().expect("it is open");
                    self.tell(&closed);
                }
            }
            return;
        }
        let causes: Vec<String> = window
            .loss
            .by_cause
            .iter()
            .map(|(cause, n)| format!("{n} {}", printable(cause, 40)))
            .collect();
        let ratio = window.loss.ratio();
        let exceedance = Exceedance {
            class: AlertClass::Blinded,
            score: Score(0.0),
            threshold: CERTAIN,
            provisional: false,
            certain: Some(Part {
                subject: "events lost".into(),
                observed: format!(
                    "{:.1} % of this container's events: {}",
                    ratio * 100.0,
                    causes.join(", ")
                ),
                expected: format!("at most {:.1} %", self.config.loss_ratio_max * 100.0),
                weight: 1.0,
                act: None,
                peer: None,
            }),
            acts: Vec::new(),
            window: Vec::new(),
            process: None,
            at,
            evidence: id,
            loss_ratio: ratio,
            nearest: String::new(),
            acceptable: Acceptable::default(),
        };
        let mut open = self.state.container(key, at).blinded.take();
        let whose = Self::whose(self.state, self.fleet, key, at);
        let worth = if let Some(incident) = &mut open {
            incident.grow(&whose, &exceedance)
        } else {
            let mut incident = Incident::begin(&whose, &exceedance);
            // The same window may begin a deviation: two alerts need two ids.
            incident.alert.id = AlertId(incident.alert.id.0 ^ hash64(b"blinded"));
            open = Some(incident);
            true
        };
        if let Some(mut incident) = open {
            incident.alert.proposal = None;
            incident.alert.response = Response::None;
            incident.alert.title = format!(
                "{} loses {:.0} % of its events: its sequences are not judged",
                printable(&incident.alert.container_name, 60),
                ratio * 100.0
            );
            if worth {
                self.tell(&incident);
            }
            self.state.container(key, at).blinded = Some(incident);
        }
    }

    fn whose<'s>(
        state: &'s mut WorkloadState,
        fleet: &'s Fleet,
        key: &'s ContainerKey,
        at: Timestamp,
    ) -> Whose<'s> {
        let name = state.container(key, at).name();
        Whose {
            workload: &state.name,
            container: key,
            name,
            mode: state.mode,
            version: state.version,
            model: &state.model_version,
            novelty: &state.novelty,
            inventory: &fleet.inventory,
        }
    }

    /// An exceedance joins its container's incident, or begins one.
    fn exceeded(&mut self, key: &ContainerKey, exceedance: &Exceedance) {
        let at = exceedance.at;
        if self.is_muted(exceedance) {
            return;
        }
        let mut open = self.state.container(key, at).incident.take();
        let whose = Self::whose(self.state, self.fleet, key, at);
        let worth = if let Some(incident) = &mut open {
            incident.grow(&whose, exceedance)
        } else {
            open = Some(Incident::begin(&whose, exceedance));
            true
        };
        let began = open.as_ref().is_some_and(|i| i.alert.exceedances == 1);
        if began && exceedance.class == AlertClass::Deviation {
            self.state.counted += 1;
        }
        if let Some(incident) = open {
            if incident.alert.proposal.is_some() && incident.alert.mode == Mode::Enforce {
                self.state.troubled_until =
                    self.state.troubled_until.max(at.plus(self.config.aftermath));
            }
            if worth {
                self.tell(&incident);
            }
            let near = self.config.block + self.step() * self.config.quiet_windows;
            let container = self.state.container(key, at);
            // A mount or an image is how the container was made; only a process's act makes its neighbours suspect.
            if exceedance.process.is_some() {
                container.suspect_until = container.suspect_until.max(at.plus(near));
            }
            container.incident = Some(incident);
        }
    }

    fn is_muted(&mut self, exceedance: &Exceedance) -> bool {
        let at = exceedance.at;
        self.state.muted.retain(|_, until| until.is_none_or(|u| u > at));
        let window =
            exceedance.window.iter().filter(|b| b.surprise > 0.0).filter_map(|b| b.parts.first());
        let acts = exceedance.acts.iter().map(ToString::to_string);
        let subjects: Vec<String> = exceedance
            .certain
            .iter()
            .chain(window)
            .map(|p| p.subject.clone())
            .chain(acts)
            .collect();
        !subjects.is_empty() && subjects.iter().all(|s| self.state.muted.contains_key(s))
    }

    fn tell(&mut self, incident: &Incident) {
        self.state.keep(&incident.alert, incident.acceptable.clone());
        self.out.push(Output::Alert(Box::new(incident.alert.clone())));
    }

    /// A container that ended sends no more windows: its incident closes when as much time has passed.
    fn close_ended(&mut self, at: Timestamp) {
        let quiet = self.step() * self.config.quiet_windows;
        let ended: Vec<Incident> = self
            .state
            .containers
            .values_mut()
            .filter(|c| !c.running)
            .filter_map(|c| c.incident.take_if(|i| at.since(i.alert.last) > quiet))
            .collect();
        for mut incident in ended {
            incident.close();
            self.tell(&incident);
        }
    }

    /// An agent reports about itself: alerts outside the budget.
    fn health(&mut self, health: &Health, at: Timestamp, id: EventId) {
        let (title, ends) = match health.condition {
            Condition::CanaryPassed => {
                ("the guards do not guard: the canary's packet got through a deny", false)
            }
            Condition::CanaryRefused => {
                ("the guards do not guard: the canary's packet got through a deny", true)
            }
            Condition::UnresolvedPassed => {
                ("a container stayed without a name and was let through", false)
            }
            Condition::SlotsExhausted => ("a container is not observed: no slot is left", false),
            Condition::MeasureFailed => ("a measure could not be applied", false),
            Condition::MeasureWeak => ("a measure leaves a way open on this node", false),
            Condition::EngineLost => ("a container engine cannot be reached", false),
            Condition::EngineBack => ("a container engine cannot be reached", true),
        };
        let title = format!("{}: {title}", printable(&health.node, 60));
        let open = self.state.alerts.iter().position(|k| {
            k.alert.class == AlertClass::Health
                && !k.alert.closed
                && k.alert.title == title
                && k.alert.container == health.container
        });
        let mut alert = match open {
            Some(i) => {
                let mut alert = self.state.alerts[i].alert.clone();
                alert.revision += 1;
                alert
            }
            None if ends => return,
            None => self.health_alert(health, title, at, id),
        };
        alert.last = alert.last.max(at);
        alert.closed = ends;
        if !ends {
            alert.exceedances += 1;
        }
        if open.is_none() || ends || alert.exceedances.is_power_of_two() {
            self.out.push(Output::Alert(Box::new(alert.clone())));
        }
        self.state.keep(&alert, Acceptable::default());
    }

    fn health_alert(&self, health: &Health, title: String, at: Timestamp, id: EventId) -> Alert {
        Alert {
            id: AlertId::of(&self.state.name, id),
            revision: 0,
            class: AlertClass::Health,
            workload: self.state.name.clone(),
            container: health.container.clone(),
            container_name: health
                .container
                .as_ref()
                .map_or_else(String::new, |c| c.short().to_owned()),
            first: at,
            last: at,
            evidence: id,
            exceedances: 0,
            closed: false,
            title,
            score: Score(0.0),
            threshold: CERTAIN,
            provisional: false,
            contributions: Vec::new(),
            nearest_normal: printable(&health.detail, 400),
            process: None,
            loss_ratio: 0.0,
            baseline_version: self.state.version,
            model_version: self.state.model_version.clone(),
            techniques: Vec::new(),
            mode: self.state.mode,
            proposal: None,
            response: Response::None,
            review: Review::Open,
        }
    }
}

/// The threshold of what is certain, and of what is outside the budget.
const CERTAIN: Threshold =
    Threshold { score: Score(0.0), extrapolated: false, interval: None, blocks: 0 };
