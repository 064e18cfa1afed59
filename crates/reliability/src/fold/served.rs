//! What a provider says it serves, as far as a change of it opens an epoch.

use record::Digest;
use record::digest::Sha256;
use record::manifest::Manifest;

/// What a manifest says is served, without when it was said: a node that only starts again serves
/// the same.
pub(crate) fn identity(manifest: &Manifest) -> Digest {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for file in [
        &manifest.weights,
        &manifest.tokenizer,
        &manifest.chat_template,
    ] {
        part(file.sha256.as_ref().map_or(&[][..], AsRef::as_ref));
        // Where nobody has seen the bytes, the name is all there is.
        let named = file.name.as_ref().filter(|_| file.sha256.is_none());
        part(named.map_or("", |name| name.as_str()).as_bytes());
    }
    for text in [
        manifest.precision.value.as_str(),
        manifest.kv_precision.value.as_str(),
        manifest.engine.name.as_str(),
        manifest.engine.version.as_str(),
        manifest.sampler.as_str(),
    ] {
        part(text.as_bytes());
    }
    for number in [manifest.batch_size.map(u64::from), manifest.context_tokens] {
        part(&number.unwrap_or(u64::MAX).to_be_bytes());
    }
    hasher.finish()
}
