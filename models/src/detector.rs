//! What every detector is: something that learns from lessons and says how strange a sample is, part by part.
//!
//! A detector gives a raw score in its own units, higher is stranger; only calibration (`calibration.rs`) makes it a
//! p-value. Each documents how it splits its score over parts, because a share in an explanation is made from them.

use bulkhead_domain::behaviour::Act;
use bulkhead_domain::net::Peer;
use bulkhead_domain::score::View;
use serde::{Deserialize, Serialize};

/// One part of what a detector found, with its weight within the detector's evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What it is about, in words.
    pub subject: String,
    /// Observed, with its unit.
    pub observed: String,
    /// Expected range, with its unit.
    pub expected: String,
    /// Weight, above zero; only ratios between the parts of one evidence mean something.
    pub weight: f64,
    /// The act, when it is one.
    pub act: Option<Act>,
    /// The peer concerned, when there is one.
    pub peer: Option<Peer>,
}

/// How strange one sample is to one detector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Raw score, higher is stranger; zero is as normal as can be.
    pub score: f64,
    /// Its parts; empty when nothing stands out.
    pub parts: Vec<Part>,
}

/// A detector of one view.
pub trait Detector {
    /// What it learns from.
    type Lesson<'a>;
    /// What it scores.
    type Sample<'a>;
    /// The view that its evidence belongs to.
    const VIEW: View;
    /// Absorbs one normal observation.
    fn learn(&mut self, lesson: &Self::Lesson<'_>);
    /// Scores one sample; `None` when it knows too little to say anything.
    fn score(&self, sample: &Self::Sample<'_>) -> Option<Evidence>;
}
