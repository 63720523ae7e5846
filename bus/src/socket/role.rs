//! Who may do what over the socket.

use crate::contract::{BusError, Topic};

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes what it saw and did; reads decisions and inventory. May neither decide nor raise alerts.
    Agent,
    /// May do everything: for tools of the same owner.
    Controller,
}

/// What is done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    Commit,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Controller => "controller",
        }
    }

    const fn allows(self, operation: Operation, topic: Topic) -> bool {
        match (self, operation) {
            (Self::Controller, _) => true,
            (Self::Agent, Operation::Read) => matches!(topic, Topic::Measures | Topic::Inventory),
            (Self::Agent, Operation::Write) => matches!(
                topic,
                Topic::Observations | Topic::Inventory | Topic::Audit | Topic::Deadletter
            ),
            (Self::Agent, Operation::Commit) => false,
        }
    }

    /// Refuses what this role may not do.
    pub(super) fn check(self, operation: Operation, topic: Topic) -> Result<(), BusError> {
        if self.allows(operation, topic) {
            return Ok(());
        }
        Err(BusError::Refused {
            role: self.word().to_owned(),
            operation: match operation {
                Operation::Read => "read",
                Operation::Write => "write to",
                Operation::Commit => "commit offsets of",
            }
            .to_owned(),
            topic: topic.to_string(),
        })
    }
}

/// Which user has which role; any other is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Users whose processes are agents.
    pub agents: Vec<u32>,
    /// Users whose processes may do everything.
    pub controllers: Vec<u32>,
}

impl Access {
    /// The role of a user. One that is both is an agent: the lesser role.
    pub(super) fn role(&self, uid: u32) -> Option<Role> {
        if self.agents.contains(&uid) {
            Some(Role::Agent)
        } else {
            self.controllers.contains(&uid).then_some(Role::Controller)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_publishes_what_it_saw_and_reads_decisions() {
        let writes: Vec<Topic> = Topic::ALL
            .into_iter()
            .filter(|t| Role::Agent.check(Operation::Write, *t).is_ok())
            .collect();
        let reads: Vec<Topic> = Topic::ALL
            .into_iter()
            .filter(|t| Role::Agent.check(Operation::Read, *t).is_ok())
            .collect();
        assert_eq!(
            writes,
            [Topic::Observations, Topic::Inventory, Topic::Audit, Topic::Deadletter]
        );
        assert_eq!(reads, [Topic::Measures, Topic::Inventory]);
        for topic in Topic::ALL {
            assert!(Role::Agent.check(Operation::Commit, topic).is_err());
        }
    }

    #[test]
    fn a_refusal_names_role_operation_and_topic() {
        let refusal = Role::Agent.check(Operation::Write, Topic::Measures).unwrap_err();
        assert_eq!(refusal.to_string(), "role agent may not write to bulkhead.measures.v1");
    }

    #[test]
    fn an_unknown_user_has_no_role() {
        let access = Access { agents: vec![0], controllers: vec![0, 5] };
        assert_eq!(access.role(0), Some(Role::Agent));
        assert_eq!(access.role(5), Some(Role::Controller));
        assert_eq!(access.role(1000), None);
    }
}
