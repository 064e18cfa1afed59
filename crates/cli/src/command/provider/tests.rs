use record::{Endpoint, NumberedKind, Predicate};
use recorder::HomeLog;
use tlog::note::NoteSigner;

use super::*;

fn system() -> Context {
    Context::system().expect("randomness")
}

/// A log that is away: nobody listens there.
fn away() -> HomeLog {
    let key = NoteSigner::generate("log.example/away", &SystemRandom::new()).expect("a key");
    HomeLog {
        url: "http://127.0.0.1:1".to_owned(),
        vkey: key.verifier().to_vkey(),
    }
}

/// A thief signs as long as the key is not ended, whether the log answers or not.
#[test]
fn a_key_ends_by_what_the_directory_knows_where_the_log_is_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(dir.path(), "p", "provider");
    let home = away();
    config.home_log = Some(home.clone());
    let key = running::block_on(async {
        let recorder = recorder::Recorder::open(&config, system())?;
        let key = recorder.identity().key_id();
        recorder.close(Duration::ZERO).await?;
        Ok(key)
    });
    let key = key.expect("it begins");
    home_log::remember(&home, dir.path()).expect("written");
    let revoke = |offline| {
        let revoke = Revoke {
            key,
            signer: Signer {
                dir: dir.path().to_owned(),
                log: None,
                log_vkey: None,
            },
            reason: Reason::Compromised,
            offline,
        };
        revoke.run()
    };
    let error = revoke(false).expect_err("the log is asked");
    assert!(format!("{error:#}").contains("must answer"), "{error:#}");
    revoke(true).expect("nobody is asked");
    let signer = Succession::open(&config, system()).expect("opens");
    let spans = signer.chain().instances();
    assert_eq!((spans.len(), spans[0].key.key_id()), (2, key));
    assert!(spans[0].until.is_some(), "it ended");
    assert!(signer.signs(), "and another signs");
    let story = signer.story().expect("reads");
    assert!(story.iter().all(|(_, index)| index.is_none()), "all waits");
}

/// Only the key itself can say that numbers of its own have no record.
#[test]
fn what_a_crash_lost_is_accounted_for_before_a_key_ends() {
    let (before, dir) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let endpoint = Endpoint {
        provider: "https://api.example".parse().expect("an origin"),
        model: "m".parse().expect("a name"),
    };
    let config = |dir: &Path| Config::new(dir, "p", "provider");
    let lost = running::block_on(async {
        let recorder = recorder::Recorder::open(&config(before.path()), system())?;
        let number = recorder.lease(&endpoint, NumberedKind::Observation).await?;
        // What lies on the disk if the machine stops now.
        copy(before.path(), dir.path());
        let key = recorder.identity().key_id();
        drop(number);
        recorder.close(Duration::ZERO).await?;
        Ok(key)
    });
    let lost = lost.expect("a number was given out");
    let config = config(dir.path());
    let signer = Succession::open(&config, system()).expect("opens");
    let mut signer = in_order(signer, &config).expect("accounts for it");
    signer
        .rotate_instance(RevokeReason::Lost)
        .expect("another key");
    signer.close().expect("closes");
    let voids = running::block_on(async {
        let recorder = recorder::Recorder::open(&config, system())?;
        let all = recorder.entries(0, 100).await?;
        recorder.close(Duration::ZERO).await?;
        let records = all.into_iter().map(|(_, it)| it.record);
        let is_void = |it: &record::Record| {
            matches!(it.statement.predicate, Predicate::Void(_)) && it.key().key_id() == lost
        };
        Ok(records.filter(is_void).count())
    });
    assert_eq!(voids.expect("reads"), 1);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copied");
        }
    }
}
