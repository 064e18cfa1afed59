//! What monitors, shards and readers of a log's public statements read.

use std::sync::LazyLock;

use services::retention::Retention;
use tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use tlog::growth::Edge;
use tlog::merkle::leaf_hash;
use tlog::monitor::{Evidence, Followed};
use tlog::note::NoteSigner;
use tlog::shard::Link;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "evidence",
        run: read_evidence,
        seeds: || vec![Evidence::new(&signed(3), &signed(7), Vec::new()).to_bytes()],
    },
    Target {
        name: "shard-link",
        run: read_link,
        seeds: || {
            let url = Some("https://log.example/next");
            let links = [None, url].map(|url| Link::sign(&KEY, &NEXT, &signed(9), url));
            links
                .map(|link| link.expect("it holds").to_bytes())
                .to_vec()
        },
    },
    Target {
        name: "monitor-state",
        run: read_state,
        seeds: || {
            vec![
                followed().to_bytes(),
                Followed::new(KEY.verifier()).to_bytes(),
            ]
        },
    },
    Target {
        name: "retention",
        run: read_retention,
        seeds: || {
            let whole = r#"{"longrun_retention":1,"appends_until":"2027-06-30","tiles_days":9}"#;
            vec![whole.into(), br#"{"longrun_retention":1}"#.to_vec()]
        },
    },
];

/// Keys that sign the seeds. Whatever else verifies under them is a forgery.
static KEY: LazyLock<NoteSigner> = LazyLock::new(|| key("log.example/watched", 41));
static NEXT: LazyLock<NoteSigner> = LazyLock::new(|| key("log.example/next", 42));

fn key(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::from_seed(name, &[seed; 32]).expect("a key name")
}

/// The root of a tree of this many leaves, signed.
fn signed(size: u64) -> SignedCheckpoint {
    let mut edge = Edge::empty();
    let leaves: Vec<_> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    edge.append(&leaves);
    let checkpoint = Checkpoint {
        origin: KEY.name().to_owned(),
        size,
        root: edge.root(),
    };
    checkpoint.sign(&KEY).expect("its own origin")
}

fn followed() -> Followed {
    let mut followed = Followed::new(KEY.verifier());
    let link = Link::sign(&KEY, &NEXT, &signed(9), None).expect("it holds");
    assert!(followed.ends(&link));
    followed.contradicted_by(&signed(5), "evidence/x.json".to_owned());
    followed
}

/// The honest tree's checkpoints contradict nothing, whatever a proof says.
fn read_evidence(bytes: &[u8]) {
    let Ok(evidence) = Evidence::parse(bytes) else {
        return;
    };
    let again = Evidence::parse(&evidence.to_bytes());
    assert_eq!(again.as_ref(), Ok(&evidence), "written and read");
    let genuine = [&evidence.older, &evidence.newer]
        .iter()
        .all(|signed| signed.verify(&KEY.verifier()).is_ok());
    assert!(
        !(genuine && evidence.check().is_ok()),
        "an honest log accused"
    );
}

fn read_link(bytes: &[u8]) {
    if let Ok(link) = Link::parse(bytes) {
        assert_eq!(
            Link::parse(&link.to_bytes()).as_ref(),
            Ok(&link),
            "written and read"
        );
        assert_eq!(link.predecessor(), &KEY.verifier(), "a forgery");
        assert_eq!((link.successor(), link.size()), (&NEXT.verifier(), 9));
    }
}

fn read_state(bytes: &[u8]) {
    if let Ok(state) = Followed::parse(bytes, &KEY.verifier()) {
        let again = Followed::parse(&state.to_bytes(), &KEY.verifier());
        assert_eq!(again.as_ref(), Ok(&state), "written and read");
        assert!(state.rebuilt() <= state.size());
    }
}

fn read_retention(bytes: &[u8]) {
    if let Ok(said) = Retention::parse(bytes) {
        let written = serde_json::to_vec(&said).expect("it can be written");
        assert_eq!(Retention::parse(&written), Ok(said), "written and read");
    }
}
