//! Nodes on loopback, spoken to over real HTTP.

mod answers;
mod common;
mod completions;
mod demo;
mod drain;
mod joining;
mod manifests;
mod scripted;
mod secrecy;
mod trouble;
mod upstreams;
