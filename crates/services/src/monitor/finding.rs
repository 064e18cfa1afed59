//! What a monitor has to say.

use std::path::PathBuf;

/// One thing that was found about a log or one of its witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The log's origin.
    pub origin: String,
    /// The witness's name in the policy; `None`: the log itself.
    pub witness: Option<String>,
    /// What.
    pub what: What,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// As it should be.
    Fine,
    /// Something could not be checked or is not as it should be; nothing is proven against the log.
    Trouble,
    /// The log has signed two histories.
    Split,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The first checkpoint of a log.
    First {
        /// Its size.
        size: u64,
    },
    /// Nothing new.
    Same {
        /// The size.
        size: u64,
    },
    /// The log grew, and extends what it was.
    Grew {
        /// The size before.
        from: u64,
        /// The size now.
        to: u64,
    },
    /// A witness cosigned a part of the history that is believed.
    Cosigned {
        /// The size that it cosigned.
        size: u64,
        /// The size of the log.
        latest: u64,
    },
    /// The tree was computed again from its lowest tiles.
    Rebuilt {
        /// Entries whose hashes were read since the last time.
        entries: u64,
        /// Entries read altogether.
        of: u64,
    },
    /// The log has signed two histories; the evidence is new.
    Split {
        /// The size of the smaller of the two checkpoints.
        older: u64,
        /// The size of the larger.
        newer: u64,
        /// The file that proves it.
        evidence: PathBuf,
    },
    /// That the log has signed two histories is known.
    KnownSplit {
        /// The file that proves it.
        evidence: PathBuf,
    },
    /// The log has ended, and another goes on.
    Ended {
        /// Entries in it.
        size: u64,
        /// The verifier key of the log that goes on.
        successor: String,
        /// Where that is, as far as the link says.
        url: Option<String>,
    },
    /// The log signed that it ended and has signed more since.
    AfterEnd {
        /// Where it ended.
        end: u64,
        /// Where it is.
        size: u64,
    },
    /// It does not answer.
    Down(String),
    /// It answers, but not with a checkpoint that could be believed.
    Unusable(String),
    /// The log shows an earlier state than it did, or a witness cosigned more than it shows.
    WentBack {
        /// Where it was.
        from: u64,
        /// Where it is.
        to: u64,
    },
    /// A checkpoint cannot be judged by the tiles that the log serves; it is kept and tried again.
    Unproven {
        /// Its size.
        size: u64,
        /// Why not.
        reason: String,
    },
    /// A lowest tile, or one above, is missing or wrong.
    BadTiles(String),
    /// The checkpoint lacks the policy's quorum of witnesses.
    Unwitnessed {
        /// Its size.
        size: u64,
    },
    /// A witness has been behind the log for longer than it may.
    Stale {
        /// The size that it cosigned.
        size: u64,
        /// The size of the log.
        latest: u64,
        /// How long ago it cosigned, seconds.
        age_s: u64,
    },
}

impl What {
    /// How much it matters.
    #[must_use]
    pub fn gravity(&self) -> Gravity {
        match self {
            Self::First { .. }
            | Self::Same { .. }
            | Self::Grew { .. }
            | Self::Cosigned { .. }
            | Self::Ended { .. }
            | Self::Rebuilt { .. } => Gravity::Fine,
            Self::Split { .. } | Self::KnownSplit { .. } => Gravity::Split,
            _ => Gravity::Trouble,
        }
    }
}
