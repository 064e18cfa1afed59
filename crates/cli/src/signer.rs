//! Opening a signer, in words that lead on where its disk does not take it.

use anyhow::{Result, anyhow};
use recorder::{Config, Context, Recorder, RecorderError};
use store::spool::SpoolError;

/// Opens the signer of this configuration. A database says that a disk is full, and not which: the error
/// names the directory.
pub(crate) fn open(config: &Config, context: Context) -> Result<Recorder> {
    let opened = Recorder::open(config, context);
    opened.map_err(|error| match error {
        RecorderError::Spool(SpoolError::Database(why)) => {
            let dir = config.directory.display();
            // SQLite's own words (SQLITE_FULL).
            let way_out = if why.contains("disk is full") {
                "make room there"
            } else {
                "see to it that this disk and what is on it are well"
            };
            anyhow!("{dir}: {why}; {way_out}, or choose another directory")
        }
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spool whose pages were overwritten: what SQLite says of it names no file either.
    #[tokio::test]
    async fn an_error_of_the_database_names_the_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config::new(dir.path().join("signer"), "somebody", "observer");
        let context = Context::system().expect("randomness");
        let recorder = open(&config, context.clone()).expect("a new one");
        let patience = std::time::Duration::ZERO;
        recorder.close(patience).await.expect("closed");
        let database = config.directory.join(store::spool::SPOOL_FILE);
        let mut bytes = std::fs::read(&database).expect("it is there");
        // The first page has the tables' names and stays.
        bytes[4096..].fill(b'?');
        std::fs::write(&database, bytes).expect("written");
        let why = open(&config, context).err().expect("it is damaged");
        let (told, dir) = (format!("{why:#}"), config.directory.display().to_string());
        assert!(
            told.starts_with(&dir) && told.contains("another directory"),
            "{told}"
        );
    }
}
