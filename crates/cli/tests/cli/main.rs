//! The binary as its users meet it, the documents that describe it, and the rules of the house. One
//! program, so that it is linked once.

mod support;

mod by_key;
mod clients;
mod docs;
mod flood;
mod gateway;
mod histories;
mod house;
mod joining;
mod killed;
mod living;
mod log;
mod network;
mod others;
mod provider;
mod publish;
mod upgrade;
