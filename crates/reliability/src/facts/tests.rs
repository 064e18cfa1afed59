//! That folds make the same of facts as of the records, and that no bytes do harm.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "draws are small and positive"
)]

use record::bucket::{duration_us, tokens};
use record::void::Reason;
use record::{Fault, HttpStatus, Outcome, SignerId};

use super::*;
use crate::account::{self, Account};
use crate::fold::party::{Party, START_MS, Said, See, joined, origin, outside};
use crate::fold::{History, Policy};
use crate::forecast::fold::Forecasts;
use crate::level::Alpha;
use crate::testing::Draws;
use crate::timeline::Timeline;

/// Everything that a gateway folds.
struct Folds {
    history: History,
    forecasts: Forecasts,
    timeline: Timeline,
}

impl Folds {
    fn new() -> Self {
        Self {
            history: History::new(Policy::own_log(origin())),
            forecasts: Forecasts::new(SignerId::from_bytes([9; 32]), Vec::new()).remembering(),
            timeline: Timeline::default(),
        }
    }

    fn apply(&mut self, record: &Record, index: u64) {
        let all = (&mut self.history, &mut self.forecasts, &mut self.timeline);
        account::follow(all, record, index);
    }

    /// Every byte that can be seen of it.
    fn told(&self) -> String {
        let now_ms = START_MS + 90_000_000;
        let all = (&self.history, &self.forecasts, &self.timeline);
        let account = Account::of(all, START_MS - 1, now_ms, Alpha::FIVE_PERCENT);
        let past = self.forecasts.past();
        format!("{:?} {account:?} {past:?}", self.history.digest())
    }
}

/// Calls of all kinds, with what else a log has between them.
fn log() -> Vec<Record> {
    let (caller, provider) = (Party::new("caller"), Party::new("provider"));
    let endpoints = [outside("a"), outside("b"), joined(&provider, "c")];
    let mut records: Vec<Record> = [&caller, &provider]
        .iter()
        .flat_map(|party| party.controls.clone())
        .collect();
    let mut draws = Draws::new(7);
    let (mut numbers, mut receipts) = ([0_u64; 3], 0);
    for round in 0..400_u64 {
        let at = if draws.unit() < 0.5 {
            2
        } else {
            usize::from(draws.unit() < 0.5)
        };
        let endpoint = &endpoints[at];
        numbers[at] += 1;
        let seq = numbers[at];
        let mut see = match draws.unit() {
            it if it < 0.7 => See::ok(),
            it if it < 0.8 => See::failed(Outcome::ProviderError, Fault::Provider),
            it if it < 0.9 => See::failed(Outcome::Timeout, Fault::Network),
            _ => See::failed(Outcome::RateLimited, Fault::Client),
        };
        see.start_ms = START_MS + round * 60_000 - if draws.unit() < 0.05 { 900_000 } else { 0 };
        see.total_us = 1 + (draws.exponential() * 1e6) as u64;
        if at == 2 && draws.unit() < 0.8 {
            receipts += 1;
            let receipt = provider.receipt_at(endpoint, receipts, see.start_ms);
            see.receipt = Some(receipt.id);
            see.receipt_invalid = draws.unit() < 0.1;
            records.push(receipt);
        }
        if draws.unit() < 0.03 {
            // A number that is void, or missing for good.
            if draws.unit() < 0.5 {
                records.push(caller.void(endpoint, seq, seq, Reason::Crash));
            }
            continue;
        }
        let (streamed, counted, status) = (draws.unit() < 0.5, draws.unit() < 0.8, draws.unit());
        let seen = caller.observe_with((endpoint, seq, &see), |seen| {
            seen.attempt = 1 + (round % 3) as u32;
            seen.client = record::sha256(&round.to_be_bytes());
            seen.streamed = streamed;
            seen.timing.inter_token = streamed.then(|| InterToken {
                p50_us: duration_us(round),
                p90_us: duration_us(2000 + round * 10),
                p99_us: duration_us(3000 + round * 100),
            });
            seen.usage = counted.then(|| Usage {
                prompt_tokens: tokens(round * 3),
                completion_tokens: tokens(round),
            });
            if status < 0.1 {
                seen.http_status = Some(HttpStatus::new(201).expect("a status"));
            }
        });
        if draws.unit() < 0.1 {
            let correct = draws.unit() < 0.7;
            records.push(seen.clone());
            records.push(caller.judge(endpoint, &[(&seen, seq)], Said::Reported(correct)));
        } else {
            records.push(seen);
        }
        if round % 100 == 50 {
            let precision = format!("q{}", round / 100);
            records.push(provider.manifest("c", &precision, see.start_ms));
            records.push(caller.forecast());
        }
    }
    records
}

#[test]
fn folds_make_the_same_of_facts_as_of_the_records() {
    let records = log();
    let (mut direct, mut bytes) = (Folds::new(), Vec::new());
    let mut writer = Writer::default();
    for (index, record) in (0..).map(|index| index * 3).zip(&records) {
        direct.apply(record, index);
        writer.write(record, index, &mut bytes);
    }
    let (mut again, mut seen) = (Folds::new(), 0);
    let each = |fact: Fact<'_>| {
        let Fact::Record(record, index) = fact else {
            panic!("no stream begins in the middle: {fact:?}");
        };
        assert_eq!(record.id, records[seen].id);
        assert_eq!(index, seen as u64 * 3);
        seen += 1;
        again.apply(record, index);
    };
    Reader::default()
        .read(&bytes, each)
        .expect("it was written");
    assert_eq!(seen, records.len());
    assert_eq!(again.told(), direct.told());
    assert!(
        direct.history.records() > 600,
        "{}",
        direct.history.records()
    );
}

#[test]
fn an_attempt_takes_some_sixty_bytes_beside_its_id() {
    let (caller, endpoint) = (Party::new("caller"), outside("m"));
    let (mut writer, mut bytes) = (Writer::default(), Vec::new());
    let mut last = 0;
    for seq in 1..=20 {
        last = bytes.len();
        let see = See {
            start_ms: START_MS + seq * 20_000,
            ..See::ok()
        };
        writer.write(&caller.observe(&endpoint, seq, &see), seq, &mut bytes);
    }
    let each = bytes.len() - last;
    assert!((33..90).contains(&each), "{each} bytes");
}

#[test]
fn where_a_stream_begins_is_read_as_it_was_written() {
    let caller = Party::new("caller");
    let stream = Stream {
        key: caller.instance.key_id(),
        endpoint: outside("m"),
        kind: record::NumberedKind::Observation,
    };
    let mut bytes = Vec::new();
    write_beginning(&stream, 71, &mut bytes);
    let mut history = History::new(Policy::own_log(origin()));
    let each = |fact: Fact<'_>| match fact {
        Fact::BeginsAt(of, first) => {
            assert_eq!((of, first), (&stream, 71));
            history.begin_at(of, first);
        }
        Fact::Record(..) => panic!("{fact:?}"),
    };
    Reader::default()
        .read(&bytes, each)
        .expect("it was written");
    for (index, control) in (0..).zip(&caller.controls) {
        history.apply(control, index);
    }
    history.apply(&caller.observe(&stream.endpoint, 72, &See::ok()), 5);
    let report = history.report(Alpha::FIVE_PERCENT);
    assert_eq!(
        (report.endpoints[0].calls, report.endpoints[0].gaps),
        (1, 1)
    );
}

/// Shapes are forgotten and learned again, and no bytes are read into a panic.
#[test]
fn any_bytes_are_read_without_harm() {
    let records = log();
    let (mut writer, mut bytes) = (Writer::default(), Vec::new());
    for (index, record) in (0..).zip(&records[..80]) {
        writer.write(record, index, &mut bytes);
    }
    let read = |bytes: &[u8]| {
        let mut history = History::new(Policy::own_log(origin()));
        let each = |fact: Fact<'_>| match fact {
            Fact::Record(record, index) => drop(history.apply(record, index)),
            Fact::BeginsAt(stream, first) => history.begin_at(stream, first),
        };
        let _ = Reader::default().read(bytes, each);
    };
    let mut draws = Draws::new(1);
    let mut below = |most: usize| (draws.unit() * most as f64) as usize;
    for _ in 0..300 {
        let mut changed = bytes.clone();
        for _ in 0..=below(3) {
            let at = below(changed.len());
            changed[at] = u8::try_from(below(256)).expect("a byte");
        }
        changed.truncate(below(changed.len() + 1));
        read(&changed);
    }
    read(&[BEGINS; 200]);
    read(&[0xff; 64]);
}

#[test]
fn numbers_come_back() {
    for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        put(number, &mut bytes);
        assert_eq!(take(&mut &bytes[..]), Ok(number));
        assert_eq!(moved(number, difference(number, 5)), 5);
        assert_eq!(moved(5, difference(5, number)), number);
    }
    assert_eq!(take(&mut &[0x80; 3][..]), Err(FactsError::Cut));
    assert!(take(&mut &[0xff; 11][..]).is_err());
}
