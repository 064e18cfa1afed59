//! Histories: what an honest exporter writes verifies; whatever was left out, altered, doubled,
//! reordered, cut or made old is named.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is no core code"
)]

mod common;
#[path = "common/story.rs"]
mod story;

use proptest::prelude::*;
use record::control::{Action, HomeLog, LogOrigin};
use story::{Story, only, outside};
use tlog::checkpoint::SignedCheckpoint;
use tlog::history::account::Account;
use tlog::history::{HistoryError, HistoryReader, Item, MAGIC, RecordItem, Selection};
use tlog::merkle::leaf_hash;
use tlog::proof::TreeView;
use tlog::verify::history::{Finding, HistoryReport, verify_history};
use tlog::verify::{FileKind, Status, Verdict, verify_file};

const CALLS: u64 = 12;

fn check(story: &Story, bytes: &[u8]) -> HistoryReport {
    verify_history(bytes, Some(&story.policy()), None).unwrap()
}

fn failed<'a>(report: &'a HistoryReport, name: &str) -> &'a Finding {
    assert_eq!(report.report.verdict, Verdict::Invalid, "{report:#?}");
    let status = report.report.check(name).unwrap().status;
    assert_eq!(status, Status::Failed, "{name}: {report:#?}");
    report.findings.iter().find(|f| f.check == name).unwrap()
}

fn record_at(items: &mut [Item], index: u64) -> &mut RecordItem {
    let found = items.iter_mut().find_map(|item| match item {
        Item::Record(item) if item.place.index == index => Some(item),
        _ => None,
    });
    found.unwrap()
}

fn place_of(items: &[Item], index: u64) -> usize {
    let is = |item: &Item| matches!(item, Item::Record(item) if item.place.index == index);
    items.iter().position(is).unwrap()
}

/// The account that fits these entries.
fn account_of(story: &Story, entries: &[u64]) -> Account {
    let mut account = Account::default();
    for index in entries.iter().filter(|index| !story.erased.contains(index)) {
        account.add(&story.records[usize::try_from(*index).unwrap()], *index);
    }
    account
}

/// A story, the history of outside model `a`, and the indices in it.
fn selected() -> (Story, Selection, Vec<u64>) {
    let story = Story::new(CALLS);
    let selection = only(&[outside("a")]);
    let entries = story.plan(&selection).entries;
    (story, selection, entries)
}

#[test]
fn the_history_of_a_whole_log_holds() {
    let story = Story::new(CALLS);
    let bytes = story.export(&Selection::default());
    let found = check(&story, &bytes);
    assert_eq!(found.report.verdict, Verdict::Valid, "{found:#?}");
    assert!(found.whole);
    assert_eq!(found.findings, []);
    let size = u64::try_from(story.records.len()).unwrap();
    assert_eq!(
        (found.size, found.records, found.erased),
        (size, size - 1, 1)
    );
    assert_eq!(found.streams.len(), 4, "receipts and three of observations");
    assert_eq!(found.signers.len(), 2);
    let a = found.streams.iter().find(|s| s.model == "a").unwrap();
    assert_eq!(a.voided.to_string(), "3");
    assert_eq!(a.missing.to_string(), "5, 7", "7 was erased");
    assert_eq!(a.records.count(), CALLS - 3);

    let untrusted = verify_history(&bytes, None, None).unwrap();
    assert_eq!(untrusted.report.verdict, Verdict::IntactButUntrusted);
    assert_eq!(FileKind::detect(&bytes), FileKind::History);
    assert_eq!(
        verify_file(&bytes, Some(&story.policy())).verdict,
        Verdict::Valid
    );
}

#[test]
fn a_selection_comes_with_its_signers_and_nothing_else() {
    let (story, selection, entries) = selected();
    let found = check(&story, &story.export(&selection));
    assert_eq!(found.report.verdict, Verdict::Valid, "{found:#?}");
    assert_eq!(found.streams.len(), 1);
    assert_eq!(found.signers.len(), 1, "the provider signed nothing in it");
    // The caller's two controls, ten records and one void less what was erased, and its leaf.
    assert_eq!((found.records, found.erased), (CALLS - 2 + 2, 1));
    assert_eq!(u64::try_from(entries.len()).unwrap(), CALLS - 2 + 3);
    let provider = Selection {
        providers: [story.joined().provider].into(),
        ..Selection::default()
    };
    let found = check(&story, &story.export(&provider));
    assert_eq!(found.report.verdict, Verdict::Valid);
    assert_eq!((found.streams.len(), found.signers.len()), (2, 2));
}

#[test]
fn an_altered_record_is_named() {
    let (story, selection, entries) = selected();
    let plan = story.plan(&selection);
    for index in &entries[..3] {
        let mut items = story.items(&entries);
        let statement = &mut record_at(&mut items, *index).statement;
        let at = statement.len() - 40;
        statement[at] ^= 1;
        let found = check(&story, &story.file(&selection, &plan, items));
        assert_eq!(failed(&found, "signature").entries, Some([*index, *index]));
    }
    // Another record that the same key signed: the signature holds, the tree does not.
    let mut items = story.items(&entries);
    let other = story::observe(&story.caller, &outside("a"), 2, None);
    let item = record_at(&mut items, entries[3]);
    item.statement = other.envelope.payload().to_vec();
    item.signature = other.envelope.signature().to_vec();
    let found = check(&story, &story.file(&selection, &plan, items));
    failed(&found, "inclusion");
}

#[test]
fn a_record_that_was_left_out_is_named() {
    let (story, selection, entries) = selected();
    let plan = story.plan(&selection);
    // Two control records come first, and 3 is a void.
    let gone = entries[5];
    // Clumsily: the frame is cut out.
    let mut items = story.items(&entries);
    items.remove(place_of(&items, gone));
    let found = check(&story, &story.file(&selection, &plan, items));
    let [first, last] = failed(&found, "order").entries.unwrap();
    assert!((first..=last).contains(&gone));
    let numbers = failed(&found, "numbers");
    assert_eq!(numbers.numbers.as_ref().unwrap().to_string(), "4");

    // With a proof that fits: the account still says that there was a record.
    let fewer: Vec<u64> = entries.iter().copied().filter(|i| *i != gone).collect();
    let bytes = story.file(&selection, &plan, story.items(&fewer));
    let found = check(&story, &bytes);
    let numbers = failed(&found, "numbers");
    assert_eq!(numbers.numbers.as_ref().unwrap().to_string(), "4");
    assert_eq!(
        found.report.check("inclusion").unwrap().status,
        Status::Passed
    );

    // With a fitting account, too: the number is missing and says so.
    let mut lying = story.plan(&selection);
    lying.account = account_of(&story, &fewer);
    let found = check(&story, &story.file(&selection, &lying, story.items(&fewer)));
    assert_eq!(found.report.verdict, Verdict::Valid);
    assert_eq!(found.streams[0].missing.to_string(), "4 to 5, 7");

    // Of a whole log nothing can be left out, whatever else is changed.
    let whole = Selection::default();
    let mut all = story.plan(&whole);
    all.account = lying.account;
    let most: Vec<u64> = all.entries.iter().copied().filter(|i| *i != gone).collect();
    let found = check(&story, &story.file(&whole, &all, story.items(&most)));
    assert_eq!(failed(&found, "complete").entries, Some([gone, gone]));
}

#[test]
fn a_tail_that_was_cut_off_shows_where_receipts_name_its_numbers() {
    let story = Story::new(CALLS);
    let selection = only(&[story.joined()]);
    let entries = story.plan(&selection).entries;
    // The last two observations are left out, skilfully.
    let mut lying = story.plan(&selection);
    let is_last = |index: &u64| {
        let record = &story.records[usize::try_from(*index).unwrap()];
        record.signer_id() == story.caller.id
            && record
                .stream()
                .is_some_and(|(_, seq)| seq.number() > CALLS - 2)
    };
    let fewer: Vec<u64> = entries
        .into_iter()
        .filter(|index| !is_last(index))
        .collect();
    lying.account = account_of(&story, &fewer);
    let found = check(&story, &story.file(&selection, &lying, story.items(&fewer)));
    let numbers = &found.report.check("numbers").unwrap().reason;
    assert!(
        numbers.contains("receipts name 2 later numbers"),
        "{numbers}"
    );
}

#[test]
fn a_doubled_and_a_reordered_record_are_named() {
    let (story, selection, entries) = selected();
    let plan = story.plan(&selection);
    let mut items = story.items(&entries);
    let place = place_of(&items, entries[5]);
    items.insert(place + 1, items[place].clone());
    let found = check(&story, &story.file(&selection, &plan, items));
    assert_eq!(
        failed(&found, "order").entries,
        Some([entries[5], entries[5]])
    );
    let mut items = story.items(&entries);
    items.swap(place, place + 1);
    let found = check(&story, &story.file(&selection, &plan, items));
    failed(&found, "order");
    let named = |finding: &Finding| finding.entries == Some([entries[5], entries[5]]);
    assert!(found.findings.iter().any(named), "{found:#?}");
}

#[test]
fn a_record_of_another_endpoint_is_named() {
    let (story, selection, entries) = selected();
    let mut more = entries.clone();
    more.extend([6, 7]);
    more.sort_unstable();
    more.dedup();
    let plan = story.plan(&selection);
    let found = check(&story, &story.file(&selection, &plan, story.items(&more)));
    failed(&found, "selection");
    failed(&found, "numbers");
}

#[test]
fn a_file_cut_short_is_named_wherever_it_ends() {
    let (story, selection, entries) = selected();
    let bytes = story.export(&selection);
    let policy = story.policy();
    let mut unusable = 0;
    // Every length near the start, then one in so many.
    for length in (0..700).chain((700..bytes.len()).step_by(211)) {
        match verify_history(&bytes[..length], Some(&policy), None) {
            Ok(found) => {
                failed(&found, "format");
            }
            Err(_) => unusable += 1,
        }
    }
    // Only a file without a whole header is not recognised as a history.
    assert!(unusable < 700, "{unusable}");
    let cut = bytes.len() - 1;
    let found = check(&story, &bytes[..cut]);
    let why = &failed(&found, "format").why;
    assert!(why.contains("cut short"), "{why}");
    assert_eq!(
        found.records + found.erased,
        u64::try_from(entries.len()).unwrap()
    );
    let mut longer = bytes;
    longer.push(0);
    failed(&check(&story, &longer), "format");
}

#[test]
fn an_old_checkpoint_passes_only_as_what_it_is() {
    let mut story = Story::new(CALLS);
    let old = story.export(&Selection::default());
    let more = story::observe(&story.caller, &outside("a"), CALLS + 1, None);
    story.append(more);
    let now = story.log.checkpoint();
    let policy = story.policy();
    let verify = |bytes: &[u8], known: Option<&SignedCheckpoint>| {
        verify_history(bytes, Some(&policy), known).unwrap()
    };
    assert_eq!(verify(&old, None).report.verdict, Verdict::Valid);
    let found = verify(&old, Some(&now));
    assert_eq!(found.report.verdict, Verdict::Invalid);
    let fresh = found.report.check("fresh").unwrap();
    assert!(fresh.reason.contains("cut short"), "{}", fresh.reason);
    let new = story.export(&Selection::default());
    assert_eq!(verify(&new, Some(&now)).report.verdict, Verdict::Valid);
    // Nothing is said of a checkpoint before it: that may be one of another history.
    let next = story::observe(&story.caller, &outside("a"), CALLS + 2, None);
    story.append(next);
    let found = verify(&story.export(&Selection::default()), Some(&now));
    let fresh = found.report.check("fresh").unwrap();
    assert_eq!(fresh.status, Status::NotChecked, "{}", fresh.reason);
}

#[test]
fn a_control_record_that_the_policy_knows_cannot_be_left_out() {
    let mut story = Story::new(CALLS);
    story.revoke();
    let selection = only(&[outside("a")]);
    let last = u64::try_from(story.records.len()).unwrap() - 1;
    let mut plan = story.plan(&selection);
    assert_eq!(plan.entries.last(), Some(&last));
    assert_eq!(
        check(&story, &story.export(&selection)).report.verdict,
        Verdict::Valid
    );
    // Left out with a proof and an account that fit.
    plan.entries.pop();
    plan.account = account_of(&story, &plan.entries);
    let found = check(
        &story,
        &story.file(&selection, &plan, story.items(&plan.entries)),
    );
    let signer = found.report.check("signer").unwrap();
    assert_eq!(signer.status, Status::Failed);
    assert!(
        signer.reason.contains("control record 3 was left out"),
        "{}",
        signer.reason
    );
}

#[test]
fn a_revocation_cannot_be_left_out_by_leaving_out_the_move_to_another_log_too() {
    let mut story = Story::new(CALLS);
    story.revoke();
    let moved = story.caller.control(Action::HomeLog(HomeLog {
        home_log: LogOrigin::new("log.example/2").unwrap(),
    }));
    story.append(moved);
    let selection = only(&[outside("a")]);
    let mut plan = story.plan(&selection);
    plan.entries.truncate(plan.entries.len() - 2);
    plan.account = account_of(&story, &plan.entries);
    let items = story.items(&plan.entries);
    let found = check(&story, &story.file(&selection, &plan, items));
    let signer = found.report.check("signer").unwrap();
    assert_eq!(signer.status, Status::Failed, "{}", signer.reason);
    assert!(signer.reason.contains("left out"), "{}", signer.reason);
}

#[test]
fn a_control_record_cannot_pass_for_an_erased_one() {
    let mut story = Story::new(CALLS);
    let before = story.policy();
    story.revoke();
    story
        .erased
        .push(u64::try_from(story.records.len()).unwrap() - 1);
    let whole = Selection::default();
    let mut plan = story.plan(&whole);
    plan.account = account_of(&story, &plan.entries);
    let bytes = story.file(&whole, &plan, story.items(&plan.entries));
    let found = verify_history(&bytes, Some(&before), None).unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    assert_eq!(found.report.verdict, Verdict::IntactButUntrusted);
    let signer = found.report.check("signer").unwrap();
    assert!(signer.reason.contains("erased"), "{}", signer.reason);
}

#[test]
fn signers_and_logs_count_only_by_the_policy() {
    let story = Story::new(CALLS);
    let stranger = Story::new(1);
    let bytes = stranger.export(&Selection::default());
    // The same log key, other signers.
    let found = check(&story, &bytes);
    assert_eq!(found.report.verdict, Verdict::IntactButUntrusted);
    assert_eq!(found.report.check("signer").unwrap().status, Status::Failed);
    assert_eq!(
        found.report.check("checkpoint").unwrap().status,
        Status::Passed
    );
}

#[test]
fn a_foreign_root_is_refused() {
    let (story, selection, entries) = selected();
    let other = Story::new(CALLS);
    let plan = story.plan(&selection);
    let bytes = story.file_with(
        other.log.checkpoint(),
        &selection,
        &plan,
        story.items(&entries),
    );
    failed(&check(&story, &bytes), "inclusion");
}

#[test]
fn other_files_are_no_histories() {
    for bytes in [&b""[..], b"{}", b"longrun history", b"longrun history 2\nH"] {
        let error = verify_history(bytes, None, None).unwrap_err();
        assert!(matches!(error, HistoryError::NotAHistory(_)), "{error}");
    }
    let error = verify_history(MAGIC, None, None).unwrap_err();
    assert!(matches!(error, HistoryError::CutShort { .. }), "{error}");
}

#[test]
fn the_proof_of_a_whole_log_needs_no_hash() {
    let story = Story::new(CALLS);
    let mut reader = HistoryReader::open(&*story.export(&Selection::default())).map(|_| ());
    reader.as_mut().unwrap();
    let bytes = story.export(&Selection::default());
    let mut reader = HistoryReader::open(&*bytes).unwrap();
    while let Some(item) = reader.next_item().unwrap() {
        let hashes = match &item {
            Item::Record(item) => item.place.gap.len(),
            Item::Erased(item) => item.place.gap.len(),
            Item::Tail(gap) => gap.len(),
            _ => 0,
        };
        assert_eq!(hashes, 0);
    }
    // And what stands for an entry is its leaf hash.
    let size = u64::try_from(story.records.len()).unwrap();
    let view = TreeView::new(&story.log.tiles, size);
    assert_eq!(view.gap(3..4).unwrap(), [leaf_hash(&story.log.leaves[3])]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the bytes are, reading ends, and nothing verifies but what was written.
    #[test]
    fn a_changed_byte_never_passes(at in any::<prop::sample::Index>(), flip in 1u8..) {
        thread_local! {
            static FILE: (Story, Vec<u8>) = {
                let story = Story::new(4);
                let bytes = story.export(&only(&[outside("a")]));
                (story, bytes)
            };
        }
        FILE.with(|(story, bytes)| {
            let mut changed = bytes.clone();
            let at = at.index(changed.len());
            changed[at] ^= flip;
            if let Ok(found) = verify_history(&changed, Some(&story.policy()), None) {
                assert_ne!(found.report.verdict, Verdict::Valid, "byte {at}");
            }
        });
    }

    #[test]
    fn frames_of_any_bytes_are_decoded_or_refused(kind in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Item::decode(kind, &payload);
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&payload);
        prop_assert!(HistoryReader::open(&*file).is_err());
    }
}
