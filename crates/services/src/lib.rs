//! Long-running services: the log's sequencer and its HTTP server.
