use ring::rand::SystemRandom;

use super::*;

#[expect(clippy::disallowed_methods, reason = "tests bring the randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

#[test]
fn keys_survive_pem() {
    let key = SigningKey::generate(&random()).expect("randomness");
    let pem = key.to_pem();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
    let again = SigningKey::from_pem(&pem, &random()).expect("reads back");
    assert_eq!(again.public(), key.public());
    let public = key.public();
    assert_eq!(PublicKey::from_pem(&public.to_pem()), Ok(*public));
    assert_eq!(PublicKey::from_spki(public.spki()), Ok(*public));
}

#[test]
fn debug_shows_no_secret() {
    let key = SigningKey::generate(&random()).expect("randomness");
    let shown = format!("{key:?}");
    let body: String = key
        .to_pem()
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    assert!(shown.contains(&key.key_id().to_hex()));
    assert!(!shown.contains(&body) && shown.len() < 120, "{shown}");
}

#[test]
fn other_keys_are_refused() {
    let public = *SigningKey::generate(&random())
        .expect("randomness")
        .public();
    let mut compressed = public.0;
    compressed[SPKI_PREFIX.len()] = 2;
    assert!(PublicKey::from_spki(&compressed).is_err());
    assert!(PublicKey::from_spki(&public.0[..90]).is_err());
    assert!(PublicKey::from_spki(&[public.0.as_slice(), &[0]].concat()).is_err());
    assert!(PublicKey::from_spki(&[]).is_err());
    let long = "x".repeat(PEM_BYTES_MAX + 1);
    let error = SigningKey::from_pem(&long, &random()).expect_err("too long");
    assert_eq!(error.code(), Code::TooLarge);
}

#[test]
fn openssl_made_this_key() {
    // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
    let pem = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJ2pjaKJd6orDNPRB
SAJ17a6UVvtY/sNoDEleE1V5oCyhRANCAATbZgB8fsngQtaAl6azIIoF39+XkFMV
ZbTg5hvjEJxFzD4+SFvHxsf9lAHYIgD009Be2oMvAfNgM7qUdbzEvTvY
-----END PRIVATE KEY-----
";
    let key = SigningKey::from_pem(pem, &random()).expect("PKCS#8 of openssl");
    // openssl pkey -pubout -outform DER | sha256sum
    assert_eq!(
        key.key_id().to_hex(),
        "241a62bf15948417f2a0af445ff111efbc536108680002a16d6176b4f70ea67f"
    );
}

#[test]
fn a_statement_of_another_key_is_not_signed() {
    let key = SigningKey::generate(&random()).expect("randomness");
    let other = SigningKey::generate(&random()).expect("randomness");
    let create = crate::control::Create {
        name: "n".parse().expect("short"),
        roles: vec!["provider".parse().expect("a word")],
        home_log: crate::control::LogOrigin::new("log.example").expect("an origin"),
        recovery: None,
    };
    let signer = crate::Signer {
        id: None,
        key: *key.public(),
    };
    let control = crate::control::Control::create(crate::bucket::start_ms(0), create);
    let statement = Statement::new(signer, control).expect("valid");
    assert!(key.sign_statement(&statement, &random()).is_ok());
    let error = other
        .sign_statement(&statement, &random())
        .expect_err("another key");
    assert_eq!(
        (error.code(), error.path()),
        (Code::KeyMismatch, "predicate.signer.key")
    );
    assert!(key.sign(b"not a statement", &random()).is_err());
}
