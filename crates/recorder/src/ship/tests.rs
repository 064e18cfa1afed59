//! What becomes of batches that land. Nothing is sent here.

use record::{SignerId, SigningKey};
use ring::rand::SystemRandom;
use store::spool::Limits;
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
