//! The embedded engine, OpenAI-compatible upstreams, and the OpenAI wire types both speak.
