//! `longrun gateway` as people run it: keys by command, a plan before a start, and another
//! configuration on SIGHUP.

use std::path::Path;
use std::process::Output;

use crate::support::{Http, Server, longrun, text};

/// Runs `longrun` in a directory, without the variables of whoever runs the tests.
fn run_in(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = longrun();
    for api in gateway::discover::HOSTED {
        api.key_variables.iter().for_each(|name| {
            command.env_remove(name);
        });
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .env_remove("OPENAI_BASE_URL")
        .current_dir(dir)
        .output()
        .expect("the binary runs")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn keys_are_made_listed_replaced_and_taken_away() {
    let dir = dir();
    let run = |arguments: &[&str]| run_in(dir.path(), arguments, &[]);
    let key = ["gateway", "key"];
    let add = [
        "add",
        "ci",
        "--requests-per-minute",
        "60",
        "--spend-per-day",
        "2.50",
        "--model",
        "small",
    ];
    let made = run(&[&key[..], &add[..]].concat());
    assert!(made.status.success(), "{}", text(&made.stderr));
    let first = text(&made.stdout).trim().to_owned();
    assert!(first.starts_with("sk-longrun-"), "{first}");
    let file = dir.path().join("longrun-gateway.keys.toml");
    let kept = std::fs::read_to_string(&file).expect("the file is there");
    assert!(!kept.contains(&first[11..]), "only the digest is kept");

    let listed = text(&run(&["gateway", "key", "list"]).stdout);
    for words in ["ci", "60 requests/min", "2.500000 a day", "models small"] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    let twice = run(&["gateway", "key", "add", "ci"]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(
        text(&twice.stderr).contains("key rotate ci"),
        "{}",
        text(&twice.stderr)
    );

    let second = text(&run(&["gateway", "key", "rotate", "ci"]).stdout);
    assert!(
        second.starts_with("sk-longrun-") && !second.starts_with(&first),
        "{second}"
    );
    assert!(text(&run(&["gateway", "key", "list"]).stdout).contains("2 keys"));
    assert!(run(&["gateway", "key", "revoke", "ci"]).status.success());
    assert_eq!(
        run(&["gateway", "key", "revoke", "ci"]).status.code(),
        Some(2)
    );
}

/// Whoever names a key file in the configuration is protected by it, and by no other.
#[test]
fn keys_are_kept_where_the_configuration_says() {
    let dir = dir();
    let write = |text: &str| std::fs::write(dir.path().join("longrun.toml"), text);
    let file = "keys_file = \"mine.toml\"\n[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\n";
    write(file).expect("written");
    let open = run_in(dir.path(), &["gateway", "--dry-run"], &[]);
    let said = text(&open.stderr);
    assert_eq!(open.status.code(), Some(2), "{said}");
    assert!(
        said.contains("mine.toml") && said.contains("key add"),
        "{said}"
    );
    let added = run_in(dir.path(), &["gateway", "key", "add", "ann"], &[]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(dir.path().join("mine.toml").exists());
    let planned = run_in(dir.path(), &["gateway", "--dry-run"], &[]);
    assert!(planned.status.success(), "{}", text(&planned.stderr));
    let rotated = run_in(dir.path(), &["gateway", "key", "rotate", "ann"], &[]);
    assert_eq!(text(&rotated.stdout).lines().count(), 1, "the key alone");
}

#[test]
fn a_plan_names_what_was_found_and_no_key() {
    let dir = dir();
    let variables = [("GROQ_API_KEY", "gsk-very-secret")];
    let plan = run_in(dir.path(), &["gateway", "--dry-run"], &variables);
    assert!(plan.status.success(), "{}", text(&plan.stderr));
    let said = text(&plan.stdout);
    for words in [
        "GROQ_API_KEY",
        "https://api.groq.com/openai/v1",
        "127.0.0.1:7411",
        "with a key",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("gsk-very") && !text(&plan.stderr).contains("gsk-very"));
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("readable").collect();
    assert!(left.is_empty(), "a plan leaves nothing behind: {left:?}");

    let missing = run_in(
        dir.path(),
        &["gateway", "--config", "gone.toml", "--dry-run"],
        &[],
    );
    assert_eq!(missing.status.code(), Some(2), "a file that was asked for");
    let beyond = ["gateway", "--listen", "0.0.0.0:0"];
    let refused = run_in(dir.path(), &beyond, &variables);
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("longrun gateway key add"),
        "{}",
        text(&refused.stderr)
    );
}

/// A plan that says all is well is one for a start that works.
#[test]
fn a_plan_reads_what_a_start_reads_and_names_all_that_is_wrong() {
    let dir = dir();
    let write =
        |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    let plan = || run_in(dir.path(), &["gateway", "--dry-run"], &[]);
    let endpoint = "[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\n";
    let policies = "[imported]\ndir = \"imported\"\npolicy_file = \"theirs.json\"\n\
                    [merged]\ndir = \"merged\"\npolicy_file = \"policy.json\"\n";
    let tls = "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
    let log = "[log]\nurl = \"http://127.0.0.1:1\"\nvkey = \"no key\"\n";
    let listen = "listen = \"0.0.0.0:7499\"\n";
    write(
        "longrun.toml",
        &[listen, endpoint, log, tls, policies].concat(),
    );
    write("policy.json", "{}");
    std::fs::create_dir(dir.path().join("longrun-gateway")).expect("made");
    write("longrun-gateway/VERSION", "something else 7\n");
    write("longrun-gateway/client.secret", "short");
    write("longrun-gateway/checks.jsonl", "no checks");
    let before = listing(dir.path());
    let planned = plan();
    let said = text(&planned.stderr);
    assert_eq!(planned.status.code(), Some(2), "{said}");
    for words in [
        "listen: 0.0.0.0:7499",
        "tls: cert_file",
        "cert.pem",
        "merged: policy.json: ",
        "imported: theirs.json: ",
        "log: vkey: ",
        "something else 7",
        "client.secret: it does not hold 32 bytes",
        "checks: longrun-gateway/checks.jsonl: line 1",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let wrong = said
        .lines()
        .filter(|line| line.starts_with("longrun: longrun.toml: "));
    assert_eq!(
        wrong.count(),
        said.lines().count(),
        "each with its file: {said}"
    );
    assert_eq!(said.lines().count(), 8, "and each once: {said}");
    assert_eq!(listing(dir.path()), before, "a plan changes nothing");

    write(
        "longrun.toml",
        &[
            endpoint,
            "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n",
        ]
        .concat(),
    );
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    write("cert.pem", &made.cert.pem());
    write("key.pem", &made.signing_key.serialize_pem());
    std::fs::remove_dir_all(dir.path().join("longrun-gateway")).expect("removed");
    let planned = plan();
    let said = text(&planned.stderr) + &text(&planned.stdout);
    assert!(planned.status.success(), "{said}");
    assert!(said.contains("https://127.0.0.1:7411"), "{said}");
    assert!(!dir.path().join("longrun-gateway").exists());

    // What was begun without a log stays without one, and a log is not asked before the start.
    write(
        "longrun.toml",
        &[endpoint, "[log]\nurl = \"http://127.0.0.1:1\"\n"].concat(),
    );
    let planned = plan();
    let said = text(&planned.stdout);
    assert!(
        planned.status.success() && said.contains("would ask the log for its key"),
        "{said}"
    );
    write("longrun.toml", endpoint);
    let mut gateway = Server::start_command(
        longrun()
            .args(["gateway", "--listen", "127.0.0.1:0"])
            .current_dir(dir.path()),
    );
    gateway.url("gateway");
    let beside = plan();
    assert!(
        beside.status.success(),
        "beside a running one: {}",
        text(&beside.stderr)
    );
    assert!(gateway.interrupt().success());
    write(
        "longrun.toml",
        &[endpoint, "[log]\nurl = \"http://127.0.0.1:1\"\n"].concat(),
    );
    let said = text(&plan().stderr);
    assert!(said.contains("first started without a log"), "{said}");
}

/// Names and lengths of everything below a directory.
fn listing(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let about = std::fs::metadata(&path).expect("readable");
        if about.is_dir() {
            all.extend(listing(&path));
        }
        all.push((path, about.len()));
    }
    all.sort();
    all
}

#[test]
fn where_to_listen_may_be_a_name() {
    let dir = dir();
    let file = "listen = \"localhost:7499\"\n[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\n";
    std::fs::write(dir.path().join("longrun.toml"), file).expect("written");
    let plan = ["gateway", "--dry-run"];
    let planned = run_in(dir.path(), &plan, &[]);
    let said = text(&planned.stdout);
    assert!(said.contains("http://127.0.0.1:7499"), "{said}");
    let other = [&plan[..], &["--listen", "localhost:7498"]].concat();
    let planned = run_in(dir.path(), &other, &[]);
    let said = text(&planned.stdout);
    assert!(said.contains("http://127.0.0.1:7498"), "{said}");
    for command in [&["up"][..], &["relay"], &["log", "serve", "--dir", "log"]] {
        let refused = run_in(dir.path(), &[command, &["--listen", "8080"]].concat(), &[]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("localhost:7411"), "{said}");
    }
}

/// Each with exit code 2 and what is missing, as where nothing is found without a file.
#[test]
fn a_configuration_that_forwards_to_nothing_is_refused() {
    let dir = dir();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
    write("longrun.toml", "listen = \"127.0.0.1:0\"\n").expect("written");
    let azure = "model_list:\n  - model_name: a\n    litellm_params:\n      model: azure_ai/x\n";
    write("config.yaml", azure).expect("written");
    let import = ["import", "litellm", "config.yaml", "--out", "made.toml"];
    for (arguments, words) in [
        (&["gateway", "--dry-run"][..], "nothing to forward to"),
        (&["gateway"], "nothing to forward to"),
        (&import, "nothing in it became an endpoint"),
    ] {
        let refused = run_in(dir.path(), arguments, &[]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert!(!dir.path().join("made.toml").exists());
}

#[test]
fn a_gateway_that_only_shows_what_others_saw_starts_without_endpoints() {
    // A log that is away keeps no gateway from starting.
    let log = "log.example+1cc758f9+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
    let policy = serde_json::json!({
        "longrun_policy": 1,
        "log_policy": [format!("log {log} http://127.0.0.1:1"), "quorum none"],
        "signers": [],
    });
    for (table, path, member) in [
        ("imported", "/longrun/v1/history", "/imported"),
        ("merged", "/longrun/v1/history/merged", "/logs"),
    ] {
        let dir = dir();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text);
        let alone = format!("[{table}]\ndir = \"{table}\"\npolicy_file = \"policy.json\"\n");
        write("longrun.toml", alone).expect("written");
        write("policy.json", policy.to_string()).expect("written");
        let mut gateway = Server::start_command(
            longrun()
                .args(["gateway", "--listen", "127.0.0.1:0"])
                .current_dir(dir.path()),
        );
        let (url, http) = (gateway.url("gateway"), Http::default());
        let shown = http.get(&format!("{url}{path}"));
        assert_eq!(shown.status, 200, "{table}");
        let shown: serde_json::Value = serde_json::from_slice(&shown.body).expect("JSON");
        let member = shown.pointer(member);
        assert!(member.is_some(), "{table}: {shown:#}");
        assert_eq!(http.get(&format!("{url}/readyz")).status, 503);
        assert!(gateway.interrupt().success());
    }
}

/// Nobody else has the records of such a gateway, so it is the one to ask.
#[test]
fn the_history_of_a_gateway_without_a_log_is_shown() {
    let dir = dir();
    let endpoint =
        "[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\nmodels = [\"m\"]\n";
    std::fs::write(dir.path().join("longrun.toml"), endpoint).expect("written");
    let nowhere = run_in(dir.path(), &["history", "show"], &[]);
    let said = text(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--log") && said.contains("--gateway"),
        "{said}"
    );

    let mut gateway = Server::start_command(
        longrun()
            .args(["gateway", "--listen", "127.0.0.1:0"])
            .current_dir(dir.path()),
    );
    let (url, http) = (gateway.url("gateway"), Http::default());
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let answer = http.post(&format!("{url}/v1/chat/completions"), chat);
    assert_eq!(answer.status, 502, "{}", text(&answer.body));
    let history = format!("{url}/longrun/v1/history");
    let told = http.until(&history, |answer| {
        answer.json()["endpoints"][0]["failures"].as_u64() > Some(0)
    });
    let told = told.json();
    let shown = run_in(dir.path(), &["history", "show", "--gateway", &url], &[]);
    let said = text(&shown.stdout) + &text(&shown.stderr);
    assert!(shown.status.success(), "{said}");
    let digest = format!("digest {}", told["digest"].as_str().expect("a digest"));
    for words in [
        &digest,
        "what it keeps itself",
        "http://127.0.0.1:1 / m",
        "outcomes: connection",
        "Intervals at 95 %",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let both = ["history", "show", "--gateway", &url, "--log", "x"];
    assert_eq!(run_in(dir.path(), &both, &[]).status.code(), Some(2));
    assert!(gateway.interrupt().success());
}

#[test]
fn a_hangup_reads_the_configuration_again_and_a_bad_one_changes_nothing() {
    let dir = dir();
    let file = dir.path().join("longrun.toml");
    let endpoint = |model: &str| {
        format!(
            "[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\nmodels = [\"{model}\"]\n"
        )
    };
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write(&endpoint("before"));
    let mut gateway = Server::start_command(
        longrun()
            .args(["gateway", "--listen", "127.0.0.1:0"])
            .current_dir(dir.path()),
    );
    let base = gateway.url("gateway");
    let url = format!("{base}/v1/models");
    let http = Http::default();
    http.until(&url, |answer| text(&answer.body).contains("before"));
    write("limits = 5");
    gateway.signal("HUP");
    // Good for a start, but here it would take away all that calls go to.
    write("[imported]\ndir = \"imported\"\npolicy_file = \"policy.json\"\n");
    let refused = http.post(&format!("{base}/longrun/v1/reload"), "");
    let said = text(&refused.body);
    assert!(
        refused.status >= 400 && said.contains("no [[endpoint]]"),
        "{said}"
    );
    http.until(&url, |answer| text(&answer.body).contains("before"));
    write(&endpoint("after"));
    gateway.signal("HUP");
    http.until(&url, |answer| text(&answer.body).contains("after"));
    assert!(gateway.interrupt().success());
}

/// One that is there for its lines ends quietly, one that answers calls goes on.
#[test]
fn a_reader_that_went_away_ends_a_command_and_no_gateway() {
    let gone = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let mut command = longrun();
    command.args(["gateway", "openapi"]).stdout(gone());
    let ended = command.output().expect("the binary runs");
    assert_eq!(ended.status.code(), Some(141), "{}", text(&ended.stderr));
    assert!(ended.stderr.is_empty(), "{}", text(&ended.stderr));

    let dir = dir();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address").to_string();
    drop(port);
    let write = |model: &str| {
        let endpoint = "[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\n";
        let text = format!("{endpoint}models = [\"{model}\"]\n");
        std::fs::write(dir.path().join("longrun.toml"), text).expect("written");
    };
    write("before");
    let mut gateway = Server::start_unread(
        longrun()
            .args(["gateway", "--listen", &address])
            .current_dir(dir.path())
            .stdout(gone())
            .stderr(gone()),
    );
    let url = format!("http://{address}/v1/models");
    let http = Http::default();
    http.until_there(&url, |answer| text(&answer.body).contains("before"));
    write("after");
    gateway.signal("HUP");
    http.until(&url, |answer| text(&answer.body).contains("after"));
    assert!(gateway.interrupt().success());
}

#[test]
fn lines_of_the_log_are_objects_where_that_is_asked_for() {
    let dir = dir();
    let endpoint =
        "[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\nmodels = [\"m\"]\n";
    std::fs::write(dir.path().join("longrun.toml"), endpoint).expect("written");
    let file = dir.path().join("lines.json");
    let lines = std::fs::File::create(&file).expect("a file");
    let mut gateway = Server::start_with_stderr(
        longrun()
            .args(["gateway", "--listen", "127.0.0.1:0"])
            .envs([
                ("LONGRUN_LOG", "gateway=info"),
                ("LONGRUN_LOG_FORMAT", "json"),
            ])
            .current_dir(dir.path()),
        lines.into(),
    );
    let url = format!("{}/v1/chat/completions", gateway.url("gateway"));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"never in a log"}]}"#;
    assert_eq!(Http::default().post(&url, body).status, 502);
    assert!(gateway.interrupt().success());

    let logged = std::fs::read_to_string(file).expect("readable");
    let objects: Vec<serde_json::Value> = logged
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let attempt = objects
        .iter()
        .find(|line| line["message"] == "an attempt ended");
    let attempt = attempt.unwrap_or_else(|| panic!("{logged}"));
    assert_eq!(attempt["outcome"], "connection", "{attempt}");
    assert_eq!(attempt["target"], "gateway::attempt");
    assert!(!logged.contains("never in a log"), "{logged}");
}

/// No file of this gateway may grow beyond some hundred KB, as on a disk that is full: numbers are
/// there, statements are signed, and then the disk does not take them.
#[test]
fn a_call_whose_record_the_disk_does_not_take_is_unrecorded_and_answered() {
    let dir = dir();
    let endpoint =
        "[[endpoint]]\nurl = \"http://127.0.0.1:1\"\nkind = \"openai\"\nmodels = [\"m\"]\n";
    std::fs::write(dir.path().join("longrun.toml"), endpoint).expect("written");
    // In units of 512 bytes, or of 1024 where sh is bash. Without the trap a write would be its end.
    let full = "trap '' XFSZ; ulimit -f 1200; exec \"$0\" gateway --listen 127.0.0.1:0";
    let mut gateway = Server::start_command(
        std::process::Command::new("sh")
            .args(["-c", full, env!("CARGO_BIN_EXE_longrun")])
            .current_dir(dir.path()),
    );
    let (url, http) = (gateway.url("gateway"), Http::default());
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let told = loop {
        assert!(
            std::time::Instant::now() < deadline,
            "the disk takes it all"
        );
        // Nobody listens at the endpoint, and what was seen is recorded all the same.
        let post = || http.post(&format!("{url}/v1/chat/completions"), chat);
        for _ in 0..7 {
            post();
        }
        let answer = post();
        assert_eq!(answer.status, 502, "{}", text(&answer.body));
        let call = format!("{url}/longrun/v1/calls/{}", answer.header("x-longrun-call"));
        let told = http.until(&call, |answer| answer.status == 200).json();
        if told["state"] == "unrecorded" {
            break told;
        }
        assert_eq!(told["state"], "recorded", "{told:#}");
    };
    let attempts = told["attempts"].as_array().expect("attempts");
    assert!(!attempts.is_empty(), "{told:#}");
    for attempt in attempts {
        assert_eq!(attempt["state"], "unrecorded", "{told:#}");
        assert!(attempt["record"].is_null(), "{told:#}");
    }
    http.until(&format!("{url}/readyz"), |answer| {
        text(&answer.body).contains("disk")
    });
    gateway.kill();
}
