//! The provider: an engine behind HTTP, with a signed receipt for every inference.
