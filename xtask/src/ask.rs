//! Asks a person before the machine is changed.

use std::io::{IsTerminal as _, Write as _, stdin, stdout};

use crate::outcome::Refusal;

/// Asks a question that a yes answers; without a terminal the person has to have said `--yes`.
pub(crate) fn agreed(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !stdin().is_terminal() {
        let remedy = "there is no terminal to ask on; run it again with --yes to agree";
        return Err(Refusal::Usage(format!("{question} {remedy}")).into());
    }
    print!("{question} [y/N] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
