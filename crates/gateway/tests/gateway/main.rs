//! A gateway on a port of its own, with everything around it that it meets: upstreams that misbehave,
//! logs, callers, receivers of traces and alarms. One program, so that it is linked once.

mod support;

mod alarms;
mod bad_input;
mod callers;
mod checks;
mod connections;
mod continuing;
mod docs;
mod evidence;
mod forwarding;
mod hedging;
mod imported;
mod judging;
mod merged;
mod misbehaviour;
mod nodes;
mod offers;
mod openapi;
mod outlook;
mod pace;
mod page;
mod restarts;
mod seeing;
mod staying_up;
mod surface;
mod traces;
mod wishes;
