//! A signer at work: instance key, numbering before the outcome, spool, shipping to the home log.
