use super::*;

#[test]
fn names_go_both_ways() {
    let signer = "0".repeat(64);
    for provider in ["https://api.example.com:8443", &signer] {
        let endpoint = Endpoint {
            provider: provider.parse().expect("a provider"),
            model: "a model with spaces".parse().expect("a model"),
        };
        for mark in [None, Some(KeyId::from_bytes([7; 32]))] {
            let name = name(mark, &endpoint, NumberedKind::Observation);
            let named = parse_name(&name).expect("as it was written");
            assert_eq!(
                (named.mark, &named.endpoint, named.kind),
                (mark, &endpoint, NumberedKind::Observation)
            );
        }
    }
    for bad in [
        "",
        "receipt",
        "receipt x y",
        "void https://a.example m",
        "key:07 receipt https://a.example m",
    ] {
        assert!(parse_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn blocks_follow_the_traffic() {
    assert_eq!(next_size(0, 0), BLOCK_MIN);
    assert_eq!(next_size(BLOCK_MIN, FAST_MS - 1), 2 * BLOCK_MIN);
    assert_eq!(next_size(BLOCK_MAX, 0), BLOCK_MAX);
    assert_eq!(next_size(256, FAST_MS), 256);
    assert_eq!(next_size(256, SLOW_MS + 1), 128);
    assert_eq!(next_size(BLOCK_MIN, u64::MAX), BLOCK_MIN);
}

/// Calls go on while the disk takes no lease, and each asks for one.
#[test]
fn blocks_that_did_not_come_say_nothing_of_the_traffic() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("spool.sqlite");
    let opened = Spool::open(&file, spool::Limits::default()).expect("opens");
    opened.spool.close(Vec::new()).expect("closed");
    let endpoint = Endpoint {
        provider: "https://api.example.com".parse().expect("a provider"),
        model: "m".parse().expect("a name"),
    };
    let stream = Stream::new(
        (KeyId::from_bytes([7; 32]), None),
        endpoint,
        NumberedKind::Observation,
        opened.spool,
        Context::system().expect("randomness"),
        Arc::default(),
    );
    for _ in 0..5 {
        // It asks, and the next one hears why none came.
        assert!(matches!(stream.try_number(), Ok(None)));
        assert!(matches!(
            stream.try_number(),
            Err(RecorderError::NoNumber { .. })
        ));
    }
    let stock = lock(&stream.state.stock);
    assert_eq!((stock.size, stock.asked_ms), (0, 0));
}

/// The derivation is part of what a signer must be able to reproduce years later.
#[test]
fn the_derivation_is_fixed() {
    let stream = StreamId::from_bytes([2; 32]);
    let seq = Seq::new(258).expect("a number");
    let message = |what: &str| {
        let mut message = what.as_bytes().to_vec();
        message.extend([2; 32]);
        message.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        hmac_sha256(&[1; 32], &message)
    };
    assert_eq!(
        nonce(&[1; 32], stream, seq).as_bytes()[..],
        message("nonce").as_bytes()[..16]
    );
    assert_eq!(
        content_secret(&[1; 32], stream, seq).reveal(),
        message("secret").as_bytes()
    );
}
