//! What a test run found, and the table it closes with.

use std::{
    fmt::{self, Write as _},
    time::{Duration, Instant},
};

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything in it held.
    Held { passed: usize, skipped: Vec<String> },
    /// Something in it did not.
    Failed { passed: usize, causes: Vec<String>, skipped: Vec<String> },
    /// It could not run, and why.
    LeftOut(String),
}

impl Verdict {
    /// Nothing yet.
    pub(crate) const fn none() -> Self {
        Self::Held { passed: 0, skipped: Vec::new() }
    }

    /// One check that held.
    pub(crate) const fn one() -> Self {
        Self::Held { passed: 1, skipped: Vec::new() }
    }

    /// One check that did not.
    pub(crate) fn failed(cause: String) -> Self {
        Self::all_failed(vec![cause])
    }

    /// Several checks that did not.
    pub(crate) const fn all_failed(causes: Vec<String>) -> Self {
        Self::Failed { passed: 0, causes, skipped: Vec::new() }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let (Some(one), Some(two)) = (self.parts(), other.parts()) else {
            return if self.parts().is_none() { self } else { other };
        };
        let passed = one.0 + two.0;
        let causes = [one.1, two.1].concat();
        let skipped = [one.2, two.2].concat();
        if causes.is_empty() {
            Self::Held { passed, skipped }
        } else {
            Self::Failed { passed, causes, skipped }
        }
    }

    fn parts(&self) -> Option<(usize, Vec<String>, Vec<String>)> {
        match self {
            Self::Held { passed, skipped } => Some((*passed, Vec::new(), skipped.clone())),
            Self::Failed { passed, causes, skipped } => {
                Some((*passed, causes.clone(), skipped.clone()))
            }
            Self::LeftOut(_) => None,
        }
    }
}

/// The stages that ran, with their time.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, Duration, Verdict)>,
}

/// The closing count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(formatter, "{passed} passed, {failed} failed")?;
        if *skipped > 0 {
            write!(formatter, ", {skipped} skipped")?;
        }
        Ok(())
    }
}

impl Report {
    /// Runs a stage, keeps its time, and returns how it ended.
    pub(crate) fn timed(&mut self, stage: &'static str, work: impl FnOnce() -> Verdict) -> Verdict {
        let started = Instant::now();
        let verdict = work();
        self.rows.push((stage, started.elapsed(), verdict.clone()));
        verdict
    }

    /// The closing table: stage, minutes, result.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("\nstage        minutes  result\n");
        for (stage, time, verdict) in &self.rows {
            let result = match verdict {
                Verdict::Held { passed, skipped } => held(*passed, skipped.len()),
                Verdict::Failed { causes, .. } => format!("FAILED: {}", causes.join("; ")),
                Verdict::LeftOut(cause) => format!("left out: {cause}"),
            };
            let minutes = time.as_secs_f64() / 60.0;
            writeln!(table, "{stage:<12} {minutes:>7.1}  {result}")
                .expect("a string takes everything");
        }
        let total: Duration = self.rows.iter().map(|row| row.1).sum();
        writeln!(table, "{:<12} {:>7.1}", "all", total.as_secs_f64() / 60.0)
            .expect("a string takes everything");
        for (stage, _, verdict) in &self.rows {
            let (Verdict::Held { skipped, .. } | Verdict::Failed { skipped, .. }) = verdict else {
                continue;
            };
            for cause in skipped {
                writeln!(table, "left out of {stage}: {cause}").expect("a string takes everything");
            }
        }
        table
    }

    /// The closing count. What was left out is skipped for a person, and failed where `ci` says that all has to run.
    pub(crate) fn counts(&self, ci: bool) -> Counts {
        let mut counts = Counts { passed: 0, failed: 0, skipped: 0 };
        for (_, _, verdict) in &self.rows {
            let skips = match verdict {
                Verdict::Held { passed, skipped } => {
                    counts.passed += passed;
                    skipped.len()
                }
                Verdict::Failed { passed, causes, skipped } => {
                    counts.passed += passed;
                    counts.failed += causes.len();
                    skipped.len()
                }
                Verdict::LeftOut(_) => 1,
            };
            if ci {
                counts.failed += skips;
            } else {
                counts.skipped += skips;
            }
        }
        counts
    }
}

fn held(passed: usize, skipped: usize) -> String {
    match (passed, skipped) {
        (1, 0) => "held".to_owned(),
        (_, 0) => format!("{passed} held"),
        _ => format!("{passed} held, {skipped} left out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        Report { rows: vec![("kernel", Duration::from_secs(90), verdict)] }
    }

    #[test]
    fn what_cannot_run_is_skipped_for_a_person_and_failed_for_a_pipeline() {
        let report = report(Verdict::LeftOut("no BPF".to_owned()));
        assert_eq!(report.counts(false).to_string(), "0 passed, 0 failed, 1 skipped");
        assert_eq!(report.counts(true).to_string(), "0 passed, 1 failed");
    }

    #[test]
    fn the_table_names_stage_minutes_and_cause() {
        let table = report(Verdict::failed("loader: leak".to_owned())).table();
        assert!(table.contains("kernel           1.5  FAILED: loader: leak"), "{table}");
    }

    #[test]
    fn one_failure_among_many_fails_the_whole() {
        let both = Verdict::one().and(Verdict::failed("leak".to_owned()));
        assert_eq!(
            both,
            Verdict::Failed { passed: 1, causes: vec!["leak".to_owned()], skipped: Vec::new() }
        );
    }
}
