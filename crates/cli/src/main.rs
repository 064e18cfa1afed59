//! The one binary, `longrun`.
fn main() {}
