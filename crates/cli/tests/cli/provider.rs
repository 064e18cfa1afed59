//! A provider over time: keys that change, are lost and end, and what a gateway makes of it.

use crate::support::{
    ANY_PORT, Http, Place, Server, chat, network_of, printed, run, text, word_after,
};
use serde_json::Value;

/// Runs `longrun provider …` and gives what it prints.
fn provider(arguments: &[&str]) -> String {
    printed(&[&["provider"], arguments].concat())
}

fn says(story: &Value, step: usize) -> &str {
    story["steps"][step]["says"].as_str().expect("a sentence")
}

#[test]
fn keys_change_under_one_id_and_no_call_goes_to_a_key_that_ended() {
    let place = Place::default();
    let path = |name: &str| place.path(name);
    let mut log = place.log("log");
    let log_url = log.url("log");
    let mut gateway = place.gateway(&network_of(&log_url));
    let gateway_url = gateway.url("gateway");
    let http = Http::default();
    let status = format!("{gateway_url}/longrun/v1/status");
    let trying = |n: u64| {
        http.until(&status, |it| {
            it.status == 200 && it.json()["networks"][0]["trying"] == n
        })
        .json()
    };
    let ask = || {
        let url = format!("{gateway_url}/v1/chat/completions");
        http.post(&url, chat("What is 3 + 4?"))
    };

    let mut first = place.node("first", &["--join", &log_url]);
    trying(1);
    let answer = ask();
    let id = std::fs::read_to_string(path("first/signer-id")).expect("written");
    let id = id.trim();
    assert_eq!(
        answer.header("x-longrun-endpoint"),
        format!("{id}/longrun-demo")
    );
    let first_url = first.url("address");
    let vouching = http.until(&format!("{first_url}/.well-known/longrun.json"), |it| {
        it.status == 200
    });
    assert_eq!(vouching.json()["providers"][0]["id"], id);

    // The recovery key ends every instance key: the node that runs is not asked any more.
    let recovery = path("elsewhere.pem");
    std::fs::rename(path("first/recovery-key.pem"), &recovery).expect("moved");
    let second = path("second");
    let said = provider(&[
        "recover",
        "--provider",
        id,
        "--key",
        &recovery,
        "--dir",
        &second,
        "--log",
        &log_url,
    ]);
    assert!(said.contains("Everything is in the log."), "{said}");
    trying(0);
    assert_eq!(ask().status, 404, "nobody is left who serves the model");
    drop(first);

    // Another process goes on under the same id.
    let mut second_node = place.node("second", &["--join", &log_url]);
    trying(1);
    assert_eq!(
        ask().header("x-longrun-endpoint"),
        format!("{id}/longrun-demo")
    );
    for _ in 0..20 {
        assert_eq!(ask().status, 200);
    }
    let told = http.until(&status, |it| {
        it.json()["endpoints"][0]["judged"].as_u64() >= Some(20)
    });
    let expected = told.json()["endpoints"][0]["success_ppm"].as_u64();
    let busy = run(&["provider", "rotate", "--dir", &second]);
    assert!(text(&busy.stderr).contains("stop that one first"));
    assert!(second_node.interrupt().success());
    trying(0);

    provider(&["rotate", "--dir", &second]);
    provider(&["rotate", "--instance", "--dir", &second]);
    let new_owner = path("new-owner.pem");
    let made = run(&["key", "new", &new_owner]);
    assert!(made.status.success());
    let key = ["owner", "--name", "buyer", "--key", &new_owner];
    provider(&[&key[..], &["--dir", &second]].concat());

    let saved = path("story.json");
    let shown = ["show", id, "--log", &log_url, "--save", &saved, "--json"];
    let story: Value = serde_json::from_str(&provider(&shown)).expect("JSON");
    let steps = story["steps"].as_array().expect("a list");
    assert_eq!(steps.len(), 8, "{steps:#?}");
    assert_eq!(steps[2]["signed_as"], "the recovery key");
    assert!(says(&story, 0).starts_with("begins as"));
    assert!(says(&story, 2).contains("every instance key ends"));
    assert!(says(&story, 5).contains("not needed any more"));
    assert!(says(&story, 7).contains("another owner: it is called \"buyer\""));
    assert_eq!(story["instance_keys"].as_array().map(Vec::len), Some(0));

    // The file proves the same, without the log, to whoever has the log's key from elsewhere.
    let vkey = log_key(&path("log"));
    let offline = provider(&["show", &saved, "--log-vkey", &vkey]);
    assert!(
        offline.contains("verified by the proofs in the file"),
        "{offline}"
    );
    let other = run(&[
        "log",
        "init",
        &path("other"),
        "--origin",
        "log.example/other",
    ]);
    assert!(other.status.success());
    let wrong = run(&[
        "provider",
        "show",
        &saved,
        "--log-vkey",
        &log_key(&path("other")),
    ]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stdout));

    // The new owner goes on where the old one cannot.
    let bought = path("bought");
    let take = ["recover", "--provider", id, "--key", &new_owner];
    provider(&[&take[..], &["--dir", &bought, "--log", &log_url]].concat());
    let _bought_node = place.node("bought", &["--join", &log_url]);
    trying(1);
    let told = http.until(&status, |it| {
        it.json()["endpoints"][0]["owner_changes"] == 1
    });
    assert_eq!(told.json()["endpoints"][0]["provider"], id);
    // Less is expected of a new owner, though the record is the same.
    http.until(&status, |it| {
        let endpoint = &it.json()["endpoints"][0];
        endpoint["judged"].as_u64() >= Some(20) && endpoint["success_ppm"].as_u64() < expected
    });
    let sold = run(&["provider", "rotate", "--dir", &second]);
    assert!(
        text(&sold.stderr).contains("root key"),
        "{}",
        text(&sold.stderr)
    );
}

/// Two processes under one id: each learns from the log what the other one's owner did.
#[test]
fn a_directory_whose_key_was_ended_from_elsewhere_makes_another() {
    let place = Place::default();
    let path = |name: &str| place.path(name);
    let (mut log, mut other_log) = (place.log("log"), place.log("other-log"));
    let (log_url, other_url) = (log.url("log"), other_log.url("log"));
    let (first, second) = (path("first"), path("second"));
    let mut first_node = place.node("first", &["--join", &log_url]);
    first_node.url("address");
    assert!(first_node.interrupt().success());
    let sent = provider(&["send", "--dir", &first]);
    assert!(sent.contains("Everything is in the log."), "{sent}");
    let shown = provider(&["show", &first, "--json"]);
    let story: Value = serde_json::from_str(&shown).expect("JSON");
    let (id, key) = (&story["provider"], &story["instance_keys"][0]);
    let (id, key) = (id.as_str().expect("an id"), key.as_str().expect("a key"));

    let root = path("first/keys/root.pem");
    let recover = ["recover", "--provider", id, "--key", &root];
    provider(&[&recover[..], &["--dir", &second, "--log", &log_url]].concat());
    provider(&["revoke", key, "--dir", &second]);
    // As in a directory from before this file was written.
    std::fs::remove_file(path("first/signer-id")).expect("removed");
    for change in [&["rotate"][..], &["rotate", "--instance"]] {
        let said = provider(&[change, &["--dir", &first]].concat());
        assert!(said.contains("Everything is in the log."), "{said}");
    }

    // A log with another key than the one that the directory remembers is not believed.
    let there = ["--dir", &first, "--log", &other_url];
    let refused = run(&[&["provider"], &recover[..], &there].concat());
    let why = text(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("checkpoint"),
        "{why}"
    );

    let mut again = place.node("first", &["--join", &log_url]);
    again.url("address");
    assert!(again.interrupt().success());
}

/// A certificate that is trusted, and is of another name than the one in the offer.
#[test]
fn a_certificate_for_another_name_is_refused() {
    let place = Place::default();
    let path = |name: &str| place.path(name);
    let made = rcgen::generate_simple_self_signed(["other.example".to_owned()]);
    let made = made.expect("a certificate");
    place.write("cert.pem", &made.cert.pem());
    place.write("key.pem", &made.signing_key.serialize_pem());
    place.write(
        "tls.toml",
        "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n\
         [[endpoint]]\nurl = \"http://127.0.0.1:1/v1\"\n",
    );
    let (tls, tls_dir) = (path("tls.toml"), path("tls"));
    let there = ["gateway", "--config", &tls, "--dir", &tls_dir];
    let mut there = Server::start(&[&there[..], &ANY_PORT].concat());
    let there = there.url("gateway");
    let (_, port) = there.rsplit_once(':').expect("a port");
    let mut log = place.log("log");
    let log_url = log.url("log");
    let address = format!("https://localhost:{port}");
    let _node = place.node("node", &["--join", &log_url, "--address", &address]);
    let certificate = path("cert.pem");
    let trusting = [("SSL_CERT_FILE", certificate.as_str())];
    let mut gateway = place.gateway_with(&network_of(&log_url), &trusting);
    let status = format!("{}/longrun/v1/status", gateway.url("gateway"));
    let told = Http::default().until(&status, |it| {
        let network = &it.json()["networks"][0];
        network["refused"]
            .as_array()
            .is_some_and(|refused| !refused.is_empty())
    });
    let why = told.json()["networks"][0]["refused"][0]["why"].clone();
    let why = why.as_str().expect("a reason");
    assert!(why.contains("not valid for name"), "{why}");
}

fn log_key(dir: &str) -> String {
    // One that has published nothing yet ends badly, and names its key too.
    word_after(&text(&run(&["log", "show", dir]).stdout), "vkey")
}
