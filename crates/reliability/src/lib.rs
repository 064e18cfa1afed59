//! Estimators and the fold that turns records into a reliability history.
