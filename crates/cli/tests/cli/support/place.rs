//! A directory for one test, and the logs, nodes and gateways that keep their files in it.

use std::path::Path;

use super::{Server, demo_model, longrun};

/// Wherever the system finds a free port.
pub const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// Gone with everything in it when dropped; whoever runs in it is dropped first.
pub struct Place(tempfile::TempDir);

impl Default for Place {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }
}

impl Place {
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> String {
        let path = self.dir().join(name);
        path.to_str().expect("temporary paths are UTF-8").to_owned()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir().join(name), text).expect("written");
    }

    /// A log that takes records from anybody; its URL is what it prints as `log`.
    pub fn log(&self, name: &str) -> Server {
        let serve = ["log", "serve", "--open", "--dir", &self.path(name)];
        Server::start(&[&serve[..], &ANY_PORT].concat())
    }

    /// A node that serves the demonstration model as `longrun-demo`, on any port; `more` are
    /// arguments of `longrun node`. What it prints as `node` is where it is called.
    pub fn node(&self, name: &str, more: &[&str]) -> Server {
        let model = demo_model().display().to_string();
        let node = ["node", "--model", &model, "--model-name", "longrun-demo"];
        let dir = ["--dir", &self.path(name)];
        Server::start(&[&node[..], &ANY_PORT, &dir, more].concat())
    }

    /// A gateway by the configuration in `longrun.toml`; its URL is what it prints as `gateway`.
    pub fn gateway(&self, config: &str) -> Server {
        self.gateway_with(config, &[])
    }

    /// With more variables in its environment.
    pub fn gateway_with(&self, config: &str, variables: &[(&str, &str)]) -> Server {
        self.write("longrun.toml", config);
        Server::start_command(
            longrun()
                .envs(variables.iter().copied())
                .args(["gateway", "--config", &self.path("longrun.toml")])
                .args(["--dir", &self.path("gateway")])
                .args(ANY_PORT),
        )
    }

    /// Everything in one process, without traffic of its own.
    pub fn up(&self, name: &str) -> Server {
        let up = ["up", "--no-traffic", "--dir", &self.path(name)];
        Server::start(&[&up[..], &ANY_PORT].concat())
    }
}

/// The configuration of a gateway that finds its endpoints in a log of this machine.
pub fn network_of(log_url: &str) -> String {
    format!("[[network]]\nlog = \"{log_url}\"\nallow_private = true\n")
}
