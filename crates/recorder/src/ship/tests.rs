//! What becomes of batches that land. Nothing is sent here.

use record::{SignerId, SigningKey};
use ring::rand::SystemRandom;
use store::spool::{Limits, NewRow};
use tlog::note::NoteSigner;

use super::*;
use crate::clock::SystemClock;
use crate::config::HomeLog;

fn shipper() -> (tempfile::TempDir, Shipper) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("spool.sqlite");
    let opened = Spool::open(&file, Limits::default()).expect("opens");
    let random = SystemRandom::new();
    let log = NoteSigner::generate("example.com/log", &random).expect("a key");
    let home = HomeLog {
        url: "http://127.0.0.1:9".to_owned(),
        vkey: log.verifier().to_vkey(),
    };
    let shipper = Shipper {
        spool: opened.spool,
        home: Home::new(&home).expect("a log"),
        shipping: Shipping {
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(60),
            ..Shipping::default()
        },
        shipped: Arc::default(),
        sender: Sender {
            key: *SigningKey::generate(&random).expect("a key").public(),
            id: SignerId::from_bytes([1; 32]),
        },
        clock: Arc::new(SystemClock),
        jitter_seed: 7,
    };
    (directory, shipper)
}

fn waiting(n: i64) -> Pending {
    Pending {
        n,
        id: [0; 32],
        envelope: Vec::new(),
        pinned: false,
    }
}

#[tokio::test]
async fn one_outage_counts_once_however_many_requests_it_takes_down() {
    let (_directory, shipper) = shipper();
    let mut voyage = Voyage::new(&shipper.shipping, shipper.jitter_seed);
    let batch = |n| Batch::new(vec![waiting(n)]);
    let lost = || -> Result<Answer, ShipError> {
        Err(ShipError::Unreachable("connection reset".to_owned()))
    };
    for n in 0..8 {
        shipper.land(&mut voyage, batch(n), lost()).await;
    }
    let until = voyage.not_before.expect("it waits");
    assert!(until <= Instant::now() + shipper.shipping.retry_min);
    assert_eq!((voyage.failures, voyage.again.len()), (1, 8));

    // One that flew with them and ran into its own deadline later says nothing new either.
    voyage.not_before = None;
    shipper.land(&mut voyage, batch(8), lost()).await;
    assert_eq!((voyage.failures, voyage.not_before), (1, None));

    // What was sent since does, and what the log asks for is heard in any case.
    let mut since = batch(9);
    since.sent_after = voyage.failures;
    shipper.land(&mut voyage, since, lost()).await;
    assert_eq!(voyage.failures, 2);
    let until = voyage.not_before.expect("it waits");
    let busy = Err(ShipError::Busy {
        message: String::new(),
        retry_after: Some(Duration::from_secs(30)),
    });
    shipper.land(&mut voyage, batch(10), busy).await;
    assert_eq!(voyage.failures, 2);
    assert!(voyage.not_before > Some(until));
}

/// Rows with the positions from 1 on.
fn fill(spool: &Spool, rows: u64) {
    for tag in 0..rows {
        let mut row = NewRow::default();
        row.id[..8].copy_from_slice(&tag.to_be_bytes());
        spool.append(row, Box::new(|_| {})).expect("queued");
    }
    spool.flush().expect("written");
}

/// What the log says of the first `taken` rows of a batch is final; the others are for later.
fn takes(batch: &Batch, taken: usize) -> Result<Answer, ShipError> {
    let (rows, later) = batch.rows.split_at(taken);
    let refused = |row: &Pending| Settled::Refused {
        n: row.n,
        reason: "a test".to_owned(),
    };
    Ok(Answer {
        checkpoint: Vec::new(),
        settled: rows.iter().map(refused).collect(),
        again: later
            .iter()
            .map(|row| (row.n, "rate_limited: a test".to_owned()))
            .collect(),
    })
}

#[tokio::test]
async fn the_next_request_is_as_large_as_what_the_log_took() {
    let (_directory, shipper) = shipper();
    let mut voyage = Voyage::new(&shipper.shipping, shipper.jitter_seed);
    fill(&shipper.spool, 2000);
    let read = |after, rows| {
        let found = shipper.spool.pending(after, rows, 1 << 20);
        Batch::new(found.expect("read"))
    };
    let all = read(0, 20);
    let answer = takes(&all, 4);
    shipper.land(&mut voyage, all, answer).await;
    assert_eq!(voyage.fleet(8), 1);

    // Four of the sixteen; then eight, of which it takes none; then one.
    let next = voyage.may_fly().expect("they wait");
    assert_eq!(
        next.rows.iter().map(|row| row.n).collect::<Vec<_>>(),
        [5, 6, 7, 8]
    );
    let answer = takes(&next, 4);
    shipper.land(&mut voyage, next, answer).await;
    let next = voyage.may_fly().expect("they wait");
    assert_eq!(next.rows.len(), 8);
    let answer = takes(&next, 0);
    shipper.land(&mut voyage, next, answer).await;
    let next = voyage.may_fly().expect("they wait");
    assert_eq!(next.rows.len(), 1);
    let answer = takes(&next, 1);
    shipper.land(&mut voyage, next, answer).await;
    assert_eq!(voyage.fleet(8), 1);

    // A log that takes everything soon gets full requests again, several at once,
    let mut rounds = 0;
    while voyage.fleet(8) == 1 && rounds < 20 {
        let next = read(20, voyage.share);
        let answer = takes(&next, next.rows.len());
        shipper.land(&mut voyage, next, answer).await;
        rounds += 1;
    }
    assert_eq!((voyage.share, rounds), (512, 8));

    // and where less waits than it takes at a time, it is as well as any.
    let rest = read(0, 2000);
    let (rest, _) = rest.split_at(rest.rows.len() - 3);
    let answer = takes(&rest, rest.rows.len());
    shipper.land(&mut voyage, rest, answer).await;
    let next = read(0, 3);
    let answer = takes(&next, 1);
    shipper.land(&mut voyage, next, answer).await;
    assert_eq!((voyage.share, voyage.fleet(8)), (1, 1));
    let next = read(0, 1);
    let answer = takes(&next, 1);
    shipper.land(&mut voyage, next, answer).await;
    assert_eq!((voyage.share, voyage.fleet(8)), (512, 8));
}

#[tokio::test]
async fn pinned_records_stay_in_order_when_the_log_takes_a_part_of_them() {
    let (_directory, shipper) = shipper();
    let mut voyage = Voyage::new(&shipper.shipping, shipper.jitter_seed);
    let pinned = |n| Pending {
        pinned: true,
        ..waiting(n)
    };
    voyage.barrier = 1;
    let mut next = Batch::new((1..=9).map(pinned).collect());
    let mut order = Vec::new();
    for taken in [3, 2, 1, 1, 1, 1] {
        order.extend(next.rows.iter().take(taken).map(|row| row.n));
        let answer = takes(&next, taken);
        shipper.land(&mut voyage, next, answer).await;
        next = match voyage.may_fly() {
            Some(batch) => batch,
            None => break,
        };
    }
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.len(), 9);
    assert_eq!((voyage.barrier, voyage.again.len()), (0, 0));
}
