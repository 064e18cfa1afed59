//! Configurations and directories that are refused, with a way out.

use std::fs;
use std::time::Duration;

use crate::common::*;
use recorder::{Context, ErrorKind, HomeLog, NO_HOME_LOG, Recorder, RecorderError};

fn refusal(signer: &Signer) -> String {
    let context = Context::system().expect("randomness");
    let error = Recorder::open(&signer.config, context)
        .map(|_| ())
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let signer = Signer::new(None);
    let recorder = signer.open();
    assert!(refusal(&signer).contains("in use by another process"));
    drop(recorder);
    signer.open();
}

#[tokio::test]
async fn another_version_is_left_untouched() {
    let signer = Signer::new(None);
    fs::create_dir(&signer.config.directory).expect("created");
    fs::write(signer.config.directory.join("VERSION"), "longrun log 1\n").expect("written");
    assert!(refusal(&signer).contains("longrun log 1"));
    assert_eq!(
        fs::read_dir(&signer.config.directory)
            .expect("read")
            .count(),
        1
    );
}

#[tokio::test]
async fn unusable_words_in_the_configuration_are_named() {
    let mut signer = Signer::new(None);
    signer.config.name = String::new();
    assert!(refusal(&signer).starts_with("name:"));
    signer.config.name = "fine".into();
    signer.config.roles = vec!["Not A Word".into()];
    assert!(refusal(&signer).starts_with("roles:"));
    signer.config.roles = vec!["observer".into()];
    let log = FakeLog::start().await;
    signer.config.home_log = Some(HomeLog {
        url: log.url.clone(),
        vkey: "nonsense".into(),
    });
    assert!(refusal(&signer).starts_with("home log:"));
    for url in ["", "example.com/log", "ftp://example.com", "http://"] {
        signer.config.home_log = Some(HomeLog {
            url: url.into(),
            vkey: log.vkey.clone(),
        });
        assert!(refusal(&signer).starts_with("home log:"), "{url}");
    }
    signer.config.home_log = Some(log.home());
    signer.open();
}

#[tokio::test]
async fn a_signer_stays_with_its_home_log() {
    let log = FakeLog::start().await;
    let mut signer = Signer::new(None);
    drop(signer.open());
    signer.config.home_log = Some(log.home());
    let refused = refusal(&signer);
    assert!(
        refused.contains("without a log") && refused.contains("example.com/log"),
        "{refused}"
    );
    assert!(!refused.contains(NO_HOME_LOG), "{refused}");

    let mut signer = Signer::new(Some(log.home()));
    signer
        .open()
        .close(Duration::from_secs(60))
        .await
        .expect("closed");
    signer.config.home_log = None;
    let refused = refusal(&signer);
    assert!(
        refused.contains("example.com/log") && !refused.contains(NO_HOME_LOG),
        "{refused}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn keys_are_private_and_belong_together() {
    use std::os::unix::fs::PermissionsExt;
    let signer = Signer::new(None);
    let recorder = signer.open();
    let id = recorder.identity().id();
    drop(recorder);
    let keys = signer.config.directory.join("keys");
    for file in ["root.pem", "instance.pem"] {
        let file = keys.join(file);
        let mode = fs::metadata(&file).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file:?}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(refusal(&signer).contains("chmod 600"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");

        let aside = keys.join("aside");
        fs::rename(&file, &aside).expect("moved");
        if file.ends_with("root.pem") {
            // It may be kept elsewhere: only changes of keys need it.
            assert_eq!(signer.open().identity().id(), id);
        } else {
            assert!(refusal(&signer).contains("is missing"));
        }
        fs::write(
            &file,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(refusal(&signer).contains("pem"));
        fs::rename(&aside, &file).expect("moved back");
    }
    // The two keys swapped: neither is what it should be.
    let (root, instance) = (keys.join("root.pem"), keys.join("instance.pem"));
    let (a, b) = (
        fs::read(&root).expect("read"),
        fs::read(&instance).expect("read"),
    );
    fs::write(&root, &b).expect("written");
    assert!(refusal(&signer).contains("root key"));
    fs::write(&root, &a).expect("written");
    assert_eq!(signer.open().identity().id(), id);
}

/// An instance key without its spool has forgotten which numbers it used.
#[tokio::test]
async fn without_its_spool_an_instance_key_is_not_used_again() {
    let signer = Signer::new(None);
    let recorder = signer.open();
    let key = recorder.identity().key_id();
    recorder.close(Duration::ZERO).await.expect("closed");
    drop(recorder);
    for file in ["spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"] {
        let _ = fs::remove_file(signer.config.directory.join(file));
    }
    let recorder = signer.open();
    assert_ne!(recorder.identity().key_id(), key);
    assert!(
        signer
            .config
            .directory
            .join("keys/instance.pem.without-spool")
            .exists()
    );
}

#[tokio::test]
async fn a_statement_nobody_would_accept_is_not_signed() {
    let signer = Signer::new(None);
    let recorder = signer.open();
    let number = number(&recorder, "m").await;
    let mut draft = draft(&number, call(1), record::Outcome::Ok);
    draft.exchange.response = None;
    let error = recorder.record(number, draft).expect_err("refused");
    assert!(matches!(error, RecorderError::Statement(_)), "{error}");
    assert_eq!(
        recorder.status().await.expect("a status").to_void,
        1,
        "its number is accounted for"
    );
}
