//! The commands, a file each. They read files, wire parts together and print; what they decide,
//! a core crate decides.

pub(crate) mod check;
pub(crate) mod forecast;
pub(crate) mod gateway;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod provider;
pub(crate) mod publish;
pub(crate) mod record;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod route;
pub(crate) mod top;
mod traffic;
pub(crate) mod trust;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod witness;
