//! The fold: signed records in the order of a log, into a history per endpoint.
//!
//! [`History::apply`] takes one record at its log position and costs the same whether it is the
//! first or the ten-millionth. What it refuses to do: count a record whose signer's key is not
//! delegated at that position, count a number twice, count a kind that it does not know, count an
//! observer that the policy does not name, count what a provider says of its own endpoint, or count
//! a failure that is not the provider's fault.
//!
//! **Order.** Records are folded in ascending log index, each once. Two folds of the same log up
//! to the same size under the same policy have the same [`History::digest`], on any machine:
//! counts, sums and histograms are integers in ordered maps, the evidence of detectors is `f64`
//! that is multiplied in the order of the log, and intervals are worked out when it is read.
//!
//! **One inference, one count.** Calls are counted from observations. A receipt of the same
//! inference is joined to its observation by its record id and never counted as a call; receipts
//! that no observation names are counted apart, as the provider's word alone.
//!
//! **Unknown.** A number that was given out and has no record is unknown: named by a `void` for a
//! crash or a full spool, or missing although a later number is there. A void of unused numbers
//! says that nothing was sent, so nothing is unknown. When more than [`UNKNOWN_TOLERATED_PPM`] of
//! an endpoint's numbers are unknown they all count as failures (in
//! [`EndpointReport::lower_ppm`]), else they are only shown.
//!
//! **Judgements** say what an answer was worth: see `judged.rs`. Each is joined to the observation that it
//! names; one whose observation is not here is an orphan, and counted as that.
//!
//! **Dimensions** are kept apart: availability, time to the first token, gaps between tokens, schema
//! and tool use, correctness as checks and as applications say, and consistency. Each has its own epochs, units and detector; a changed manifest opens an epoch in
//! all of them, an alarm in its own.
//!
//! **Memory.** About 14 KB per endpoint, 2 KB more where answers are judged and 3 KB more per dimension
//! with many alarms, up to 12 KB per numbered stream (a few hundred bytes unless
//! it is full of gaps), a chain per signer, and one window of [`WINDOW_RECORDS`] records for all of
//! them, about 5 MB (7 MB where answers are judged). None of it grows with the number of records.
//! A [`Snapshot`] for readers holds no window, and shares what has not changed since.
//!
//! **Time.** The fold's clock is the latest end of an attempt that any counted observation has
//! claimed so far: it comes from the log alone, and from no provider's receipts. A record that
//! is [`LATE_AFTER_MS`] older than that clock is `late`. In a log of one's own, late records count
//! in full, and enter whatever goes by time at the moment at which they arrive; where observers
//! are named ([`Observers::Only`]), what failed late counts and what went well late does not. Where
//! several logs are folded, that goes by the clock of the record's own log: what another log holds
//! says nothing about when this record was logged. What is behind the clock of all logs together
//! counts over the whole history then, and in nothing that goes by time: a log that is read for the
//! first time would else make last month's outage one of today.

use std::collections::BTreeMap;
use std::sync::Arc;

use record::control::{Action, Chain, Control, LogOrigin, LogPosition};
use record::manifest::Manifest;
use record::observation::{Observation, ReceiptCheck};
use record::receipt::Receipt;
use record::void::{Reason, Void};
use record::{
    Digest, Endpoint, Fault, KeyId, NumberedKind, Outcome, Predicate, Provider, Record, SignerId,
    Stream,
};

mod dimension;
mod incident;
mod judged;
mod numbers;
mod report;
pub(crate) mod served;
mod snapshot;
mod state;
mod strata;
mod suspicion;
mod watch;
mod window;

pub use dimension::Cause;
pub use incident::Incident;
pub use report::{
    CellReport, DetectorReport, DetectorState, DimensionReport, EndpointReport, EpochReport,
    GroupDimension, GroupReport, IncidentsReport, JudgementsReport, QuantileBands, Quantiles,
    Report, Skipped, UNMEASURED, VerdictReport,
};
pub use snapshot::Snapshot;
pub use state::{Histogram, Receipts};
pub use strata::{STRATA, WEIGHTS_PPM};

use numbers::{Numbers, Taken};
use served::identity;
use state::EndpointState;
pub(crate) use state::{OF_ATTEMPTS, edge_us};
use window::{Seen, Window};

/// Records behind the fold's clock by more than this are late, ms.
pub const LATE_AFTER_MS: u64 = 5 * 60 * 1000;

/// Unknown numbers up to this share of an endpoint's numbers are shown and not counted, ppm.
pub const UNKNOWN_TOLERATED_PPM: u64 = 1_000;

/// Recent records that are remembered one by one, to tell a repeated record from a number used
/// twice and to join a receipt to its observation. What is further apart in the log is reported
/// as unresolved, or as a receipt without an observation.
pub const WINDOW_RECORDS: usize = 28_000;

/// Whose observations count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observers {
    /// Every observer in the log: for a log that takes only its owner's records. Not a provider that
    /// observes itself.
    All,
    /// One's own alone, in full: for a log that others may append to as well.
    Own(SignerId),
    /// These, and no others; their late successes do not count.
    Only(Vec<SignerId>),
}

/// What the fold takes for granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose observations count.
    pub observers: Observers,
    /// The log that is folded: records of a signer whose home log is another one are skipped.
    /// `None` when a signer's own records are folded without any log.
    pub origin: Option<LogOrigin>,
    /// See [`WINDOW_RECORDS`].
    pub window_records: usize,
}

impl Policy {
    /// What `own` observed, as `origin` has it.
    #[must_use]
    pub fn own_records(own: SignerId, origin: LogOrigin) -> Self {
        Self {
            observers: Observers::Own(own),
            ..Self::own_log(origin)
        }
    }

    /// Everything in a log of one's own.
    #[must_use]
    pub fn own_log(origin: LogOrigin) -> Self {
        Self {
            observers: Observers::All,
            origin: Some(origin),
            window_records: WINDOW_RECORDS,
        }
    }

    /// One's own records, in no log.
    #[must_use]
    pub fn without_log() -> Self {
        Self {
            observers: Observers::All,
            origin: None,
            window_records: WINDOW_RECORDS,
        }
    }
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is part of the history; the endpoint it is about changed, if it is about one.
    Counted,
    /// Its observer is not one whose records count: the policy does not name it, or it is the
    /// provider itself. The endpoint says how many there were.
    OtherObserver,
    /// A success that was logged late, where observers are named. Its number is settled.
    LateSuccess,
    /// Its kind is not known here.
    UnknownKind,
    /// Its key may not sign for its signer at this position, or it breaks its control chain.
    NotAuthorised,
    /// Its signer's home log is another one.
    OtherHome,
    /// The same record was folded before.
    Repeated,
    /// Its number has another record, or a void: somebody contradicts himself.
    NumberTaken,
    /// A judgement of an answer that is not in this history, or not of that observer.
    Orphan,
    /// A judgement of an answer of which something else was said before.
    JudgedOtherwise,
    /// Its number was settled so long ago that nobody here remembers by what.
    Unresolved,
}

/// Histories of every endpoint that a log speaks of.
#[derive(Clone, Debug)]
pub struct History {
    policy: Policy,
    records: u64,
    skipped: Skipped,
    clock_ms: u64,
    /// The same by log, where several are folded: a record is late in its own log.
    log_clocks_ms: BTreeMap<LogOrigin, u64>,
    signers: BTreeMap<SignerId, Chain>,
    /// Endpoint → its place in `states`; places are given in order of first appearance.
    places: BTreeMap<Endpoint, usize>,
    /// Shared with snapshots, until they change.
    states: Vec<Arc<EndpointState>>,
    /// What each provider last said that it serves.
    served: BTreeMap<Endpoint, Digest>,
    numbers: BTreeMap<StreamKey, Numbers>,
    window: Window,
}

/// A numbered stream: key, place of the endpoint, kind.
type StreamKey = (usize, NumberedKind, KeyId);

impl History {
    /// Nothing folded yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let window = Window::new(policy.window_records);
        Self {
            policy,
            records: 0,
            skipped: Skipped::default(),
            clock_ms: 0,
            log_clocks_ms: BTreeMap::new(),
            signers: BTreeMap::new(),
            places: BTreeMap::new(),
            states: Vec::new(),
            served: BTreeMap::new(),
            numbers: BTreeMap::new(),
            window,
        }
    }

    /// The policy that this history was folded under.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Alarms that an endpoint's detectors have raised so far.
    #[must_use]
    pub fn alarms(&self, endpoint: &Endpoint) -> u64 {
        let place = self.places.get(endpoint);
        place.map_or(0, |place| self.states[*place].alarms())
    }

    /// The same by dimension, in one order.
    #[must_use]
    pub fn alarms_by_dimension(&self, endpoint: &Endpoint) -> [(&'static str, u64); 8] {
        let place = self.places.get(endpoint);
        place.map_or(state::NO_ALARMS, |place| {
            self.states[*place].alarms_by_dimension()
        })
    }

    /// The latest alarms about an endpoint by dimension, oldest first, with what came of them.
    pub fn verdicts(
        &self,
        endpoint: &Endpoint,
    ) -> impl Iterator<Item = (&'static str, VerdictReport)> + '_ {
        let state = self.places.get(endpoint).map(|place| &self.states[*place]);
        let suspected = state.into_iter().flat_map(|state| state.suspected());
        suspected.map(|(dimension, it)| (dimension, VerdictReport::of(it)))
    }

    /// When the latest alarm about an endpoint was raised that checks can help to confirm, and that
    /// is still open, Unix ms.
    #[must_use]
    pub fn suspected_since_ms(&self, endpoint: &Endpoint) -> Option<u64> {
        let state = &self.states[*self.places.get(endpoint)?];
        let open = state
            .suspected()
            .filter(|(dimension, it)| it.ended_ms.is_none() && *dimension != "correctness_reports");
        open.map(|(_, it)| it.at_ms).max()
    }

    /// The latest incidents of an endpoint, oldest first.
    pub fn incidents(&self, endpoint: &Endpoint) -> impl Iterator<Item = Incident> + '_ {
        let place = self.places.get(endpoint);
        let states = place.map(|place| &self.states[*place]);
        states
            .into_iter()
            .flat_map(|state| state.incidents.recent.iter().copied())
    }

    /// The fold's clock, Unix ms.
    #[must_use]
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// How many records were given to [`History::apply`].
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Folds one record, whose signature has been verified, found at `index` of the log.
    pub fn apply(&mut self, record: &Record, index: u64) -> Applied {
        self.settle(record, None, index)
    }

    /// The same for a record at `index` of one of several logs, in the order of
    /// [`crate::merge`]: it counts if that log is its signer's home, whatever the policy's origin.
    pub fn apply_from(&mut self, record: &Record, log: &LogOrigin, index: u64) -> Applied {
        self.settle(record, Some(log), index)
    }

    /// The records of a stream before its number `first` cannot be folded, and nothing is missing there:
    /// for whoever begins in the middle, or goes on after a gap, and knows that the numbers were settled.
    pub fn begin_at(&mut self, stream: &Stream, first: u64) {
        let key = (self.place(&stream.endpoint), stream.kind, stream.key);
        let numbers = self.numbers.entry(key).or_insert_with(Numbers::new);
        numbers.begin_at(first);
    }

    fn settle(&mut self, record: &Record, log: Option<&LogOrigin>, index: u64) -> Applied {
        self.records += 1;
        let applied = self.fold(record, log, index);
        self.skipped.count(applied);
        applied
    }

    fn fold(&mut self, record: &Record, log: Option<&LogOrigin>, index: u64) -> Applied {
        if let Predicate::Control(control) = &record.statement.predicate {
            if log.is_some_and(|log| !self.is_home(record, control, log)) {
                return Applied::OtherHome;
            }
            return self.control(record, index);
        }
        if let Err(refusal) = self.authorised(record, log, index) {
            return refusal;
        }
        match &record.statement.predicate {
            Predicate::Observation(seen) => self.observation(record, seen, log),
            Predicate::Receipt(receipt) => self.receipt(record, receipt),
            Predicate::Void(void) => self.void(record, void),
            Predicate::Manifest(manifest) => self.manifest(record, manifest, log),
            Predicate::Judgement(judged) => self.judgement(record, judged),
            // An opinion, an advertisement, and what is counted already: known, and part of no figure.
            Predicate::Forecast(_) | Predicate::Offer(_) | Predicate::Summary(_) => {
                Applied::Counted
            }
            _ => Applied::UnknownKind,
        }
    }

    /// Whether a control record counts from this log: the one that its signer's chain names so far,
    /// or, for the first one, the one that it names itself.
    fn is_home(&self, record: &Record, control: &Control, log: &LogOrigin) -> bool {
        match (self.signers.get(&record.signer_id()), &control.action) {
            (Some(chain), _) => chain.home_logs().last() == Some(log),
            (None, Action::Create(create)) => create.home_log == *log,
            (None, _) => false,
        }
    }

    fn control(&mut self, record: &Record, index: u64) -> Applied {
        let applied = match self.signers.get_mut(&record.signer_id()) {
            Some(chain) => chain.apply(record, index),
            None => Chain::start(record, index).map(|chain| {
                self.signers.insert(record.signer_id(), chain);
                true
            }),
        };
        match applied {
            Ok(true) => Applied::Counted,
            Ok(false) => Applied::Repeated,
            Err(_) => Applied::NotAuthorised,
        }
    }

    /// What the control records of a signer say, if the log has them.
    pub fn chain(&self, signer: &SignerId) -> Option<&Chain> {
        self.signers.get(signer)
    }

    /// Whether an instance key signed that is valid at this position of the signer's home log.
    fn authorised(
        &self,
        record: &Record,
        log: Option<&LogOrigin>,
        index: u64,
    ) -> Result<(), Applied> {
        let chain = self
            .signers
            .get(&record.signer_id())
            .ok_or(Applied::NotAuthorised)?;
        let homes = chain.home_logs();
        let last = homes.len() - 1;
        // Records are folded in order: what comes after a move belongs to the new home.
        if log
            .or(self.policy.origin.as_ref())
            .is_some_and(|origin| homes[last] != *origin)
        {
            return Err(Applied::OtherHome);
        }
        let home = u32::try_from(last).map_err(|_| Applied::OtherHome)?;
        chain
            .check(record, LogPosition { home, index })
            .map_err(|_| Applied::NotAuthorised)
    }

    fn observation(
        &mut self,
        record: &Record,
        seen: &Observation,
        log: Option<&LogOrigin>,
    ) -> Applied {
        let place = self.place(&seen.stream.endpoint);
        if !self.counts(record.signer_id(), &seen.stream.endpoint) {
            Arc::make_mut(&mut self.states[place]).other_observers += 1;
            return Applied::OtherObserver;
        }
        let start_ms = seen.timing.start_ms.ms();
        let end_ms = start_ms.saturating_add(seen.timing.total_us.us() / 1000);
        let key = (place, NumberedKind::Observation, record.key().key_id());
        let seq = seen.stream.seq.number();
        if let Some(refusal) = self.take(key, seq, record, self.clock_ms.max(end_ms)) {
            return refusal;
        }
        let late = self.is_late(end_ms);
        self.clock_ms = self.clock_ms.max(end_ms);
        let clock_ms = self.clock_ms;
        let logged_late = log.map_or(late, |log| self.is_late_in(log, end_ms));
        let state = Arc::make_mut(&mut self.states[place]);
        let named = matches!(self.policy.observers, Observers::Only(_));
        if logged_late && named && seen.outcome == Outcome::Ok {
            state.late += 1;
            return Applied::LateSuccess;
        }
        // Of several logs, one that is read later than others was not trouble of now.
        let by_time = (log.is_none() || !late).then_some(clock_ms);
        state.observe(seen, end_ms, late, by_time);
        if let (ReceiptCheck::Verified, Some(receipt)) = (seen.receipt_check, seen.receipt) {
            match self.window.find(&receipt) {
                Some(Seen::Receipt {
                    place: at,
                    joined: false,
                    ..
                }) if at == place => {
                    self.window.replace(
                        receipt,
                        Seen::Receipt {
                            place,
                            joined: true,
                        },
                    );
                    state.receipts.joined += 1;
                }
                Some(_) => {}
                None => self.window.remember(receipt, Seen::Expected { place }),
            }
        }
        Applied::Counted
    }

    fn receipt(&mut self, record: &Record, receipt: &Receipt) -> Applied {
        let place = self.place(&receipt.stream.endpoint);
        let end_ms = receipt
            .timing
            .start_ms
            .ms()
            .saturating_add(receipt.timing.total_us.us() / 1000);
        let key = (place, NumberedKind::Receipt, record.key().key_id());
        // A receipt that an observation named before it was logged.
        let expected = matches!(self.window.find(&record.id), Some(Seen::Expected { place: at }) if at == place);
        // Receipts do not move the clock: else one from the far future would end every unit early
        // and make every observation late, and its signer is the one who is judged.
        let seq = receipt.stream.seq.number();
        if let Some(refusal) = self.take(key, seq, record, self.clock_ms) {
            return refusal;
        }
        let late = self.is_late(end_ms);
        let receipts = &mut Arc::make_mut(&mut self.states[place]).receipts;
        receipts.logged += 1;
        receipts.late += u64::from(late);
        receipts.joined += u64::from(expected);
        self.window.replace(
            record.id,
            Seen::Receipt {
                place,
                joined: expected,
            },
        );
        Applied::Counted
    }

    fn manifest(
        &mut self,
        record: &Record,
        manifest: &Manifest,
        log: Option<&LogOrigin>,
    ) -> Applied {
        let endpoint = Endpoint {
            provider: Provider::Joined(record.signer_id()),
            model: manifest.model.clone(),
        };
        let served = identity(manifest);
        let before = self.served.insert(endpoint.clone(), served);
        let of_before = log.is_some() && self.is_late(manifest.at_ms.ms());
        if let Some(place) = self.places.get(&endpoint)
            && before.is_some_and(|before| before != served)
            && !of_before
        {
            Arc::make_mut(&mut self.states[*place]).restart(self.clock_ms);
        }
        Applied::Counted
    }

    fn void(&mut self, record: &Record, void: &Void) -> Applied {
        let place = self.place(&void.stream.endpoint);
        if void.stream.kind == NumberedKind::Observation
            && !self.counts(record.signer_id(), &void.stream.endpoint)
        {
            return Applied::OtherObserver;
        }
        let key = (place, void.stream.kind, record.key().key_id());
        let clock_ms = self.clock_ms;
        let numbers = self.numbers.entry(key).or_insert_with(Numbers::new);
        let (mut fresh, mut taken) = (0, 0);
        for range in &void.ranges {
            let settled = numbers.void(range.first.number(), range.last.number(), clock_ms);
            fresh += settled.fresh;
            taken += settled.taken;
        }
        if fresh == 0 {
            // The same void twice, or a void of nothing but recorded numbers.
            return if taken > 0 {
                Applied::NumberTaken
            } else {
                Applied::Repeated
            };
        }
        let state = Arc::make_mut(&mut self.states[place]);
        state.contradictions += taken;
        match (void.stream.kind, void.reason) {
            (_, Reason::Unused) => state.unused += fresh,
            (NumberedKind::Receipt, _) => state.receipts.voided += fresh,
            (NumberedKind::Observation, _) => {
                state.voided += fresh;
                for (outcome, count) in void.outcomes.iter() {
                    state.voided_outcomes[outcome_index(outcome)] += count;
                }
            }
        }
        Applied::Counted
    }

    /// Whether what this signer observes of an endpoint counts.
    fn counts(&self, observer: SignerId, endpoint: &Endpoint) -> bool {
        let named = match &self.policy.observers {
            Observers::All => true,
            Observers::Own(own) => *own == observer,
            Observers::Only(named) => named.contains(&observer),
        };
        named && endpoint.provider != Provider::Joined(observer)
    }

    /// Settles a number with a record at `clock_ms`, or says why it cannot be.
    fn take(
        &mut self,
        key: StreamKey,
        seq: u64,
        record: &Record,
        clock_ms: u64,
    ) -> Option<Applied> {
        let numbers = self.numbers.entry(key).or_insert_with(Numbers::new);
        match numbers.record(seq, clock_ms) {
            Taken::Fresh => {
                if key.1 == NumberedKind::Observation {
                    self.window.remember(record.id, Seen::Observation);
                }
                self.window.place(key, seq, record.id);
                None
            }
            Taken::Voided => {
                Arc::make_mut(&mut self.states[key.0]).contradictions += 1;
                Some(Applied::NumberTaken)
            }
            Taken::Recorded => match self.window.at(key, seq) {
                Some(id) if id == record.id => Some(Applied::Repeated),
                Some(_) => {
                    Arc::make_mut(&mut self.states[key.0]).equivocations += 1;
                    Some(Applied::NumberTaken)
                }
                None => Some(Applied::Unresolved),
            },
        }
    }

    /// Whether a record of what ended at `end_ms` is late.
    fn is_late(&self, end_ms: u64) -> bool {
        end_ms.saturating_add(LATE_AFTER_MS) < self.clock_ms
    }

    /// The same by the clock of one of several logs: what another log's observers saw by then says
    /// nothing about when this record was logged.
    fn is_late_in(&mut self, log: &LogOrigin, end_ms: u64) -> bool {
        let Some(clock_ms) = self.log_clocks_ms.get_mut(log) else {
            self.log_clocks_ms.insert(log.clone(), end_ms);
            return false;
        };
        let late = end_ms.saturating_add(LATE_AFTER_MS) < *clock_ms;
        *clock_ms = end_ms.max(*clock_ms);
        late
    }

    fn place(&mut self, endpoint: &Endpoint) -> usize {
        if let Some(place) = self.places.get(endpoint) {
            return *place;
        }
        let place = self.states.len();
        self.places.insert(endpoint.clone(), place);
        self.states.push(Arc::new(EndpointState::new()));
        place
    }
}

/// The place of an outcome in a table of counts.
fn outcome_index(outcome: Outcome) -> usize {
    Outcome::ALL.iter().position(|o| *o == outcome).unwrap_or(0)
}

/// The place of a fault in a table of counts.
fn fault_index(fault: Fault) -> usize {
    Fault::ALL.iter().position(|f| *f == fault).unwrap_or(0)
}

#[cfg(test)]
pub(crate) use tests::party;
#[cfg(test)]
mod tests;
