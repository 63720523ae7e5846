//! Failures that have an exit code of their own.

/// Why a command ended without having done its work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The person has to call it in another way.
    Usage(String),
    /// The machine lacks something that no installation brings.
    Machine(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(text) | Self::Machine(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for Refusal {}

/// The exit code that an error stands for; anything without one of its own is 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Refusal>() {
        Some(Refusal::Usage(_)) => 2,
        Some(Refusal::Machine(_)) => 3,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_exit_code_survives_the_context_that_is_put_around_it() {
        let refused = Err::<(), _>(Refusal::Machine("no BPF".into())).context("demo").unwrap_err();
        assert_eq!(exit_code(&refused), 3);
        let refused =
            Err::<(), _>(Refusal::Usage("say --yes".into())).context("setup").unwrap_err();
        assert_eq!(exit_code(&refused), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("a test failed")), 1);
    }
}
