//! Nodes of the configuration whose instance keys ended: their own description may keep quiet about it, the log
//! of their network does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use record::KeyId;
use record::offer::Book;

use crate::site::Site;

/// Tells the sites of the configuration which keys of their providers the log says have ended; whether one of them
/// is not used any more because of it. Only providers at home in this log are in its book.
pub(super) fn tell(sites: &[Arc<Site>], book: &Book) -> bool {
    let mut is_news = false;
    for site in sites {
        let signer = site.look(|known| known.joined.as_ref().map(|it| it.chain.signer()));
        let Some(chain) = signer.and_then(|signer| book.chain(&signer)) else {
            continue;
        };
        let valid: BTreeSet<KeyId> = chain.valid_instances().map(|it| it.key.key_id()).collect();
        let all = chain.instances().iter().map(|it| it.key.key_id());
        is_news |= site.keys_ended(all.filter(|key| !valid.contains(key)).collect());
    }
    is_news
}
