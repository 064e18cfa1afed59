//! Log, gateway and nodes as processes on hosts of their own, and what is done to them.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::plan::{Act, Event};
use crate::hosts::Host;
use crate::support::{Place, Server, demo_model, network_of, printed, run, text};

/// What happened, in order, and to whom it mattered.
#[derive(Default)]
pub(super) struct Diary {
    begun: Mutex<Option<Instant>>,
    /// When the gateway was killed.
    pub(super) gateway_killed: Mutex<Vec<Duration>>,
    /// When a node that was gone offered again, by provider.
    pub(super) back: Mutex<Vec<(Duration, String)>>,
}

impl Diary {
    pub(super) fn begin(&self) -> Instant {
        *self
            .begun
            .lock()
            .expect("no panic here")
            .insert(Instant::now())
    }

    pub(super) fn now(&self) -> Duration {
        let begun = *self.begun.lock().expect("no panic here");
        begun.expect("it began").elapsed()
    }

    fn wait_until(&self, at: Duration) {
        std::thread::sleep(at.saturating_sub(self.now()));
    }

    #[expect(clippy::print_stdout, reason = "what happened is the report")]
    fn note(&self, whom: &str, what: &str) {
        println!("{:7.1} s  {whom:8} {what}", self.now().as_secs_f64());
    }
}

/// A process that is killed and started again.
struct Process {
    name: String,
    host: Host,
    /// Of `longrun`.
    arguments: Vec<String>,
    server: Server,
}

impl Process {
    fn start(name: &str, host: Host, arguments: &[&str]) -> Self {
        let server = Server::start_command(host.longrun().args(arguments));
        Self {
            name: name.to_owned(),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            server,
            host,
        }
    }

    fn start_again(&mut self) {
        self.server = Server::start_command(self.host.longrun().args(&self.arguments));
    }

    /// Does what needs to know nothing of the process, and undoes it.
    fn suffer(&mut self, event: &Event, diary: &Diary) {
        diary.note(&self.name, &format!("{:?}", event.act));
        match event.act {
            Act::Kill => self.server.kill(),
            Act::Stop => self.server.signal("STOP"),
            Act::Link(trouble) => self.host.trouble(trouble),
            Act::Withdraw | Act::Revoke => unreachable!("only nodes do, and see to it themselves"),
        }
        diary.wait_until(event.until);
        match event.act {
            Act::Kill => self.start_again(),
            Act::Stop => self.server.signal("CONT"),
            Act::Link(trouble) => self.host.heal(trouble),
            Act::Withdraw | Act::Revoke => {}
        }
        diary.note(&self.name, "as before");
    }

    fn stop(&mut self) {
        assert!(
            self.server.interrupt().success(),
            "{} stops in order",
            self.name
        );
    }
}

pub(super) struct Log {
    process: Process,
    pub(super) url: String,
}

impl Log {
    pub(super) fn start(place: &Place, host: Host) -> Self {
        let listen = format!("{}:4180", host.address);
        let url = format!("http://{listen}");
        let serve = [
            "log",
            "serve",
            "--open",
            "--dir",
            &place.path("log"),
            "--listen",
            &listen,
        ];
        let mut process = Process::start("log", host, &serve);
        process.server.url("log");
        Self { process, url }
    }

    pub(super) fn live(&mut self, events: &[Event], diary: &Diary) {
        for event in events {
            diary.wait_until(event.at);
            self.process.suffer(event, diary);
        }
    }

    pub(super) fn stop(&mut self) {
        self.process.stop();
    }
}

pub(super) struct Gateway {
    process: Process,
    pub(super) url: String,
    /// Of a caller, who may also see how it is doing.
    pub(super) key: String,
}

impl Gateway {
    pub(super) fn start(place: &Place, host: Host, log_url: &str) -> Self {
        let network = network_of(log_url);
        let log = format!("[log]\nurl = \"{log_url}\"\nread_token_file = \"log/read.token\"\n");
        // So that nodes become ordinary within seconds, at first and whenever they have a new key, and
        // that trouble meets every one of them at work.
        let routing = "[routing]\ntrial_ppm = 200000\nexploration_ppm = 500000\n";
        place.write("longrun.toml", &format!("{log}{routing}{network}"));
        let listen = format!("{}:7411", host.address);
        let (config, dir) = (place.path("longrun.toml"), place.path("gateway"));
        // Beyond its own host it lets in whoever has a key.
        let key = printed(&[
            "gateway",
            "key",
            "add",
            "caller",
            "--operator",
            "--dir",
            &dir,
        ]);
        let serve = [
            "gateway", "--config", &config, "--dir", &dir, "--listen", &listen,
        ];
        let mut process = Process::start("gateway", host, &serve);
        process.server.url("gateway");
        Self {
            process,
            url: format!("http://{listen}"),
            key: key.trim().to_owned(),
        }
    }

    pub(super) fn live(&mut self, events: &[Event], diary: &Diary) {
        for event in events {
            diary.wait_until(event.at);
            if event.act == Act::Kill {
                let killed = diary.now();
                diary.gateway_killed.lock().expect("no panic").push(killed);
            }
            self.process.suffer(event, diary);
        }
    }

    pub(super) fn stop(&mut self) {
        self.process.stop();
    }
}

pub(super) struct Node {
    process: Process,
    provider: String,
    dir: String,
    /// Where its owner keeps the root key, and an instance key of their own.
    owner: String,
    log_url: String,
}

impl Node {
    pub(super) fn start(place: &Place, number: usize, log_url: &str) -> Self {
        let name = format!("node-{number}");
        let host = Host::new(&name, u8::try_from(11 + number).expect("a few"));
        let listen = format!("{}:7412", host.address);
        let (model, dir) = (demo_model().display().to_string(), place.path(&name));
        let serve = [
            "node",
            "--model",
            &model,
            "--model-name",
            "longrun-demo",
            "--workers",
            "1",
            "--dir",
            &dir,
            "--listen",
            &listen,
            "--join",
            log_url,
        ];
        let mut process = Process::start(&name, host, &serve);
        process.server.url("address");
        let provider = std::fs::read_to_string(place.path(&format!("{name}/signer-id")));
        Self {
            process,
            provider: provider.expect("written").trim().to_owned(),
            dir,
            owner: place.path(&format!("owner-{number}")),
            log_url: log_url.to_owned(),
        }
    }

    /// Its owner has a directory elsewhere from where keys can be ended.
    pub(super) fn come_under_an_owner(&mut self, log_url: &str) {
        let root = format!("{}/keys/root.pem", self.dir);
        let deadline = Instant::now() + PATIENCE;
        let recover = [
            "provider",
            "recover",
            "--provider",
            &self.provider,
            "--key",
            &root,
        ];
        let there = ["--dir", &self.owner, "--log", log_url];
        self.manage(&[&recover[..], &there].concat(), deadline);
    }

    pub(super) fn live(&mut self, events: &[Event], diary: &Diary) {
        for event in events {
            diary.wait_until(event.at);
            match event.act {
                Act::Withdraw => self.leave(event, diary),
                Act::Revoke => self.lose_the_key(event, diary),
                _ => self.process.suffer(event, diary),
            }
        }
    }

    /// Withdraws its offer; then it answers at the same address, and offers nothing.
    fn leave(&mut self, event: &Event, diary: &Diary) {
        diary.note(&self.process.name, "withdraws its offer and serves on");
        self.process.stop();
        let joined = self.process.arguments.clone();
        for word in &mut self.process.arguments {
            if word == "--join" {
                "--log".clone_into(word);
            }
        }
        self.process.start_again();
        diary.wait_until(event.until);
        self.process.stop();
        self.process.arguments = joined;
        self.come_back(diary);
    }

    /// Its owner ends its key; it knows nothing of it and offers and answers on.
    fn lose_the_key(&mut self, event: &Event, diary: &Diary) {
        diary.note(&self.process.name, "its key is ended");
        let shown = run(&["key", "show", &format!("{}/keys/instance.pem", self.dir)]);
        let printed = text(&shown.stdout);
        let (_, key) = printed.split_once("key id").expect("it has a key");
        let key = key.split_whitespace().next().expect("an id");
        let revoke = [
            "provider",
            "revoke",
            key,
            "--dir",
            &self.owner,
            "--log",
            &self.log_url,
        ];
        self.manage(&revoke, Instant::now() + PATIENCE);
        diary.note(&self.process.name, "its key's end is in the log");
        diary.wait_until(event.until);
        self.process.server.kill();
        let rotate = ["provider", "rotate", "--instance", "--dir", &self.dir];
        self.manage(
            &[&rotate[..], &["--log", &self.log_url]].concat(),
            Instant::now() + PATIENCE,
        );
        self.come_back(diary);
    }

    fn come_back(&mut self, diary: &Diary) {
        let back = (diary.now(), self.provider.clone());
        diary.back.lock().expect("no panic").push(back);
        self.process.start_again();
        diary.note(&self.process.name, "offers again");
    }

    /// A command of the owner, tried until the log is there; what it changed is sent until the log
    /// has it.
    fn manage(&self, command: &[&str], deadline: Instant) {
        let dir = command
            .iter()
            .position(|it| *it == "--dir")
            .expect("it has one");
        let send = ["provider", "send", "--dir", command[dir + 1]];
        let mut next = command;
        loop {
            let output = run(next);
            let said = text(&output.stdout) + &text(&output.stderr);
            if output.status.success() {
                if said.contains("Everything is in the log.") {
                    return;
                }
                next = &send;
            }
            assert!(Instant::now() < deadline, "{next:?}: {said}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub(super) fn stop(&mut self) {
        self.process.stop();
    }
}
