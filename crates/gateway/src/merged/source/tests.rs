use std::future::IntoFuture as _;

use axum::http::Uri;
use tlog::bundle::{encode_bodies, encode_entries};

use super::*;
use crate::told_time::ToldTime;

const POLICY: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../vectors/tlog/verify/policy.json"
));

fn known() -> (Arc<Known>, LogOrigin) {
    let policy = Arc::new(TrustPolicy::parse(POLICY).expect("a policy"));
    let origin = policy.signers()[0].chain.home_log().clone();
    (Arc::new(Known::of(policy, &origin)), origin)
}

fn nothing_yet() -> Step {
    Step {
        records: Vec::new(),
        told: Sha256::new(),
        read: Frontier::default(),
    }
}

/// A bundle with these records at their places; of the others there is only an entry.
fn taken(
    known: &Known,
    records: &BTreeMap<u64, &Record>,
    shown: impl Fn(u64) -> bool,
) -> Result<Step, SourceError> {
    let leaf = |record: &Record| Leaf::of(&record.envelope, record.key()).to_bytes();
    let entry = |at| records.get(&at).map_or(b"another".to_vec(), |it| leaf(it));
    let body = |at| {
        let record = records.get(&at).filter(|_| shown(at));
        record.map(|it| it.envelope.payload().to_vec())
    };
    let places = 0..u64::from(WIDTH);
    let entries: Vec<_> = places.clone().map(entry).collect();
    let bodies: Vec<_> = places.map(body).collect();
    let (entries, bodies) = (encode_entries(&entries), encode_bodies(&bodies));
    let bundle = (&entries.expect("entries")[..], &bodies.expect("bodies")[..]);
    let span = Span::of_leaf(0, u64::from(WIDTH)).expect("the first");
    let mut step = nothing_yet();
    take(&mut step, span, bundle, u64::from(WIDTH), known).map(|()| step)
}

/// Whoever serves a log may say that the body of a revocation is erased.
#[test]
fn a_control_record_that_the_policy_has_counts_though_its_body_is_left_out() {
    let (known, _) = known();
    let records: BTreeMap<u64, &Record> = known.controls.iter().map(|(at, it)| (*at, it)).collect();
    assert!(records.len() >= 2, "the policy has a chain");
    let step = taken(&known, &records, |_| false).expect("taken");
    let found: Vec<_> = step.records.iter().map(|(at, it)| (*at, it.id)).collect();
    let wanted: Vec<_> = records.iter().map(|(at, it)| (*at, it.id)).collect();
    assert_eq!(found, wanted);
    assert_eq!(step.told(), Sha256::new().finish(), "nothing was shown");

    // Another entry where the policy has one: two faces.
    let mut others = records.clone();
    others.pop_first();
    let error = taken(&known, &others, |_| false).err().expect("refused");
    assert!(
        error.to_string().contains("that the policy has there"),
        "{error}"
    );
}

/// One body erased and another shown since are as many as before.
#[test]
fn a_step_tells_which_bodies_there_were_and_not_how_many() {
    let (known, _) = known();
    let records: BTreeMap<u64, &Record> = known.controls.iter().map(|(at, it)| (*at, it)).collect();
    let (first, last) = (
        *records.keys().next().expect("a chain"),
        *records.keys().next_back().expect("a chain"),
    );
    let told = |only| {
        taken(&known, &records, |at| at == only)
            .expect("taken")
            .told()
    };
    assert_eq!(told(first), told(first));
    assert_ne!(told(first), told(last));
}

/// Bundles may be large, and nobody goes on inside one that is full.
#[tokio::test]
async fn only_a_bundle_that_grows_is_held() {
    let entries = vec![b"entry".to_vec(); 300];
    let serve = |uri: Uri| async move {
        let items = if uri.path().ends_with(".p/44") {
            44
        } else {
            256
        };
        if uri.path().starts_with("/tile/entries/") {
            encode_entries(&vec![b"entry"; items]).expect("entries")
        } else {
            encode_bodies(&vec![None::<&[u8]>; items]).expect("bodies")
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = axum::Router::new().fallback(serve);
    tokio::spawn(axum::serve(listener, router).into_future());

    let origin = LogOrigin::new("log.example/of-nobody").expect("an origin");
    let policy = Arc::new(TrustPolicy::parse(POLICY).expect("a policy"));
    let told_time = ToldTime::new(Arc::new(recorder::SystemClock));
    let log = LogClient::new(&url, None, &Arc::new(told_time));
    let mut source = Source::new(origin, log, policy);
    let mut hashes = Frontier::default();
    for (size, entry) in (1..).zip(&entries) {
        hashes.push(leaf_hash(entry));
        source.roots.insert(size, hashes.root());
    }
    source.proven = Some(Proven {
        size: 300,
        note: String::new(),
    });
    let client = engine::http::client();
    for (upto, held) in [(256, false), (290, true), (300, true)] {
        let step = source.read(&client, upto).await.expect("read");
        assert_eq!(source.held.is_some(), held, "up to {upto}");
        source.took(step);
    }
}
