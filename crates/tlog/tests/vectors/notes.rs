//! Checkpoints, tlog-policies and tlog-proof files: which are read, and what they say.

use serde_json::{Value, json};
use tlog::checkpoint::SignedCheckpoint;
use tlog::log_policy::LogPolicy;
use tlog::merkle::leaf_hash;
use tlog::note::{KeyHash, Note, SignatureLine, VerifierKey};
use tlog::proof::{TreeView, verify_inclusion};
use tlog::tlog_proof::TlogProof;

use crate::{Files, ORIGIN, TIME_S, cosigned, log_key, pretty, signed, tiles_of, witness};

/// Checkpoints, each with whether it parses and who signed.
pub(crate) fn checkpoints(files: &mut Files) {
    let good = signed(300).note().to_string();
    let both = cosigned(300, &[1, 2]).note().to_string();
    let note = |lines: Vec<SignatureLine>| {
        let mut note = Note::new(signed(300).note().text()).unwrap();
        lines.into_iter().for_each(|line| note.add(line));
        note.to_string()
    };
    let own = || signed(300).note().signatures()[0].clone();
    let stranger = |number: u8| SignatureLine {
        name: "stranger.example".to_owned(),
        key: KeyHash([number; 4]),
        signature: vec![number; 64],
    };
    let lines = |count: u8| note([vec![own()], (1..=count).map(stranger).collect()].concat());
    let unknown = lines(3);
    let mut again = signed(300);
    for time_s in [TIME_S + 9, TIME_S + 5] {
        let line = witness(1).cosign(&again, time_s);
        again.note_mut().add(line);
    }
    let again = again.note().to_string();
    let other_key_id = note(vec![SignatureLine {
        key: KeyHash([9; 4]),
        ..own()
    }]);
    let changed = |text: &str, which: usize| {
        let parsed = SignedCheckpoint::parse(text.as_bytes()).unwrap();
        let mut lines = parsed.note().signatures().to_vec();
        *lines[which].signature.last_mut().unwrap() ^= 1;
        note(lines)
    };
    let root = good.lines().nth(2).unwrap();
    let short_root = good.replacen(root, "AAAA", 1);
    let refused = |text: String| (text, false, false, vec![]);
    let cases = [
        ("empty", (signed(0).note().to_string(), true, true, vec![])),
        ("signed", (good.clone(), true, true, vec![])),
        ("cosigned", (both.clone(), true, true, vec![1, 2])),
        ("cosigned_again", (again, true, true, vec![1])),
        ("unknown_signatures", (unknown, true, true, vec![])),
        ("sixty_four_signatures", (lines(63), true, true, vec![])),
        // Read, and signed by nobody who is known.
        (
            "other_size",
            (both.replacen("\n300\n", "\n301\n", 1), true, false, vec![]),
        ),
        (
            "forged_signature",
            (changed(&both, 0), true, false, vec![1, 2]),
        ),
        (
            "forged_cosignature",
            (changed(&both, 2), true, true, vec![1]),
        ),
        ("other_key_id", (other_key_id, true, false, vec![])),
        // Not checkpoints.
        (
            "extension_line",
            refused(good.replacen("\n\n", "\nextra\n\n", 1)),
        ),
        (
            "leading_zero",
            refused(good.replacen("\n300\n", "\n0300\n", 1)),
        ),
        (
            "size_two_to_the_63",
            refused(good.replacen("\n300\n", "\n9223372036854775808\n", 1)),
        ),
        ("short_root", refused(short_root)),
        (
            "empty_with_another_root",
            refused(good.replacen("\n300\n", "\n0\n", 1)),
        ),
        ("no_origin", refused(good.replacen(ORIGIN, "", 1))),
        ("space_in_a_name", refused(good.replace("/log ", "/l og "))),
        ("crlf", refused(good.replace('\n', "\r\n"))),
        (
            "no_signature",
            refused(good.split("\n\n").next().unwrap().to_owned() + "\n\n"),
        ),
        ("no_final_newline", refused(good.trim_end().to_owned())),
        ("unpadded_signature", refused(good.replace("=\n", "\n"))),
        ("hyphen", refused(good.replace('—', "-"))),
        ("too_many_signatures", refused(lines(64))),
    ];
    let mut index = Vec::new();
    for (name, (text, parses, log_signed, witnesses)) in cases {
        let parsed = SignedCheckpoint::parse(text.as_bytes());
        assert_eq!(parsed.is_ok(), parses, "{name}");
        if let Ok(parsed) = parsed {
            let by_log = parsed
                .note()
                .is_signed_by(&log_key().verifier())
                .unwrap_or(false);
            assert_eq!(by_log, log_signed, "{name}");
            let found: Vec<u8> = (1..=3)
                .filter(|n| matches!(witness(*n).verifier().find(&parsed), Ok(Some(_))))
                .collect();
            assert_eq!(found, witnesses, "{name}");
        }
        let file = format!("checkpoints/{name}.txt");
        index.push(json!({"file": file, "parses": parses, "signed_by_log": log_signed, "cosigned_by": witnesses}));
        files.insert(file, text.into_bytes());
    }
    files.insert("checkpoints.json".to_owned(), pretty(&index.into()));
}

/// Policies with the sets of witnesses that reach their quorum, and lines that are refused.
pub(crate) fn policies(files: &mut Files) {
    let log = format!("log {}\n", log_key().verifier().to_vkey());
    let witnesses: String = (1..=3)
        .map(|n| format!("witness w{n} {}\n", witness(n).verifier().to_vkey()))
        .collect();
    let base = log.clone() + &witnesses;
    let mut index = Vec::new();
    for (name, text) in [
        ("none", log.clone() + "quorum none\n"),
        ("one", base.clone() + "quorum w2\n"),
        (
            "two_of_three",
            base.clone() + "group g 2 w1 w2 w3\nquorum g\n",
        ),
        (
            "nested",
            base.clone() + "group g any w1 w2\ngroup h all g w3\nquorum h\n",
        ),
    ] {
        let policy = LogPolicy::parse(text.as_bytes()).unwrap();
        let reached: Vec<Vec<u8>> = (0..8u8)
            .map(|set| {
                (1..=3)
                    .filter(|n| set & (1 << (n - 1)) != 0)
                    .collect::<Vec<u8>>()
            })
            .filter(|set| policy.witnessing(&cosigned(300, set)).unwrap().quorum != Some(false))
            .collect();
        let file = format!("policies/{name}.txt");
        index.push(json!({"file": file, "reached_by": reached}));
        files.insert(file, text.into_bytes());
    }
    let of = |name: &str, vkey: String| format!("witness {name} {vkey}\n");
    let refused: Vec<Value> = [
        ("no quorum", log.clone()),
        ("two quorums", "quorum none\nquorum none\n".to_owned()),
        (
            "unknown member",
            base.clone() + "group g any w4\nquorum g\n",
        ),
        (
            "member of two groups",
            base.clone() + "group g any w1\ngroup h any w1\nquorum h\n",
        ),
        (
            "threshold too high",
            base.clone() + "group g 4 w1 w2 w3\nquorum g\n",
        ),
        ("log listed twice", log.clone() + &log + "quorum none\n"),
        (
            "witness listed twice",
            format!(
                "{base}{}quorum w1\n",
                of("w4", witness(1).verifier().to_vkey())
            ),
        ),
        (
            "name defined twice",
            format!(
                "{base}{}quorum w1\n",
                of("w1", witness(4).verifier().to_vkey())
            ),
        ),
        (
            "name none",
            format!(
                "{}quorum none\n",
                of("none", witness(4).verifier().to_vkey())
            ),
        ),
        (
            "none in a group",
            base.clone() + "group g any w1 none\nquorum g\n",
        ),
        (
            "threshold of zero",
            base.clone() + "group g 0 w1 w2\nquorum g\n",
        ),
        (
            "group without members",
            base.clone() + "group g all\nquorum g\n",
        ),
        (
            "member defined later",
            log.clone() + "group g any w1\n" + &witnesses + "quorum g\n",
        ),
        ("quorum of an unknown name", base.clone() + "quorum w4\n"),
        (
            "quorum before its definition",
            "quorum w1\n".to_owned() + &base,
        ),
        ("unknown line", base.clone() + "mirror x\nquorum w1\n"),
        ("too many items", base.clone() + "quorum w1 w2\n"),
        (
            "carriage return",
            base.replace('\n', "\r\n") + "quorum none\r\n",
        ),
        (
            "log with a witness's key",
            format!("log {}\nquorum none\n", witness(1).verifier().to_vkey()),
        ),
        (
            "witness with a log's key",
            format!("{}quorum none\n", of("w", log_key().verifier().to_vkey())),
        ),
        (
            "key id of another key",
            log.replace("+6072f96f+", "+6072f960+") + "quorum none\n",
        ),
        (
            "key of small order",
            format!("log {}\nquorum none\n", of_small_order()),
        ),
        (
            "key too short",
            format!("log {}\nquorum none\n", too_short()),
        ),
    ]
    .into_iter()
    .map(|(why, text)| {
        assert!(LogPolicy::parse(text.as_bytes()).is_err(), "{why}");
        json!({"why": why, "policy": text})
    })
    .collect();
    files.insert(
        "policies.json".to_owned(),
        pretty(&json!({"good": index, "refused": refused})),
    );
}

/// The neutral point: everything verifies under it that anybody makes up.
fn of_small_order() -> VerifierKey {
    let mut public = vec![0; 32];
    public[0] = 1;
    VerifierKey {
        public,
        ..too_short()
    }
}

fn too_short() -> VerifierKey {
    VerifierKey {
        name: ORIGIN.to_owned(),
        key_type: 1,
        public: log_key().verifier().public()[..31].to_vec(),
    }
}

/// Proofs as files: what is read from them, and what is none.
pub(crate) fn proof_files(files: &mut Files) {
    let tiles = tiles_of(300);
    let proof = |index: u64, size: u64, extra: Option<&str>| TlogProof {
        extra: extra.map(|text| text.as_bytes().to_vec()),
        index,
        hashes: TreeView::new(&tiles, size).inclusion(index).unwrap(),
        checkpoint: cosigned(size, &[1]),
    };
    let text = |proof: TlogProof| String::from_utf8(proof.to_bytes()).unwrap();
    let plain = text(proof(255, 300, None));
    let extra = text(proof(255, 300, Some("anything")));
    let first = proof(255, 300, None).hashes[0];
    let first = text(TlogProof {
        hashes: vec![first],
        ..proof(255, 300, None)
    });
    let hash = first.lines().nth(2).unwrap();
    let cases = [
        ("plain", plain.clone(), true),
        ("extra", extra.clone(), true),
        ("only_entry", text(proof(0, 1, None)), true),
        (
            "other_index",
            plain.replacen("index 255", "index 254", 1),
            true,
        ),
        ("other_hash", plain.replacen(hash, &leaf_base64(), 1), true),
        (
            "hash_missing",
            plain.replacen(&format!("{hash}\n"), "", 1),
            true,
        ),
        ("other_header", plain.replacen("@v1", "@v2", 1), false),
        ("no_index", plain.replacen("index 255\n", "", 1), false),
        (
            "index_with_zero",
            plain.replacen("index 255", "index 0255", 1),
            false,
        ),
        (
            "extra_after_index",
            plain.replacen("index 255\n", "index 255\nextra AAAA\n", 1),
            false,
        ),
        (
            "extra_unpadded",
            extra.replacen("extra YW55dGhpbmc=", "extra YW55dGhpbmc", 1),
            false,
        ),
        ("hash_too_short", plain.replacen(hash, "AAAA", 1), false),
        ("no_empty_line", plain.replacen("\n\n", "\n", 1), false),
        ("crlf", plain.replace('\n', "\r\n"), false),
        (
            "no_checkpoint",
            plain.split("\n\n").next().unwrap().to_owned() + "\n\n",
            false,
        ),
    ];
    let mut index = Vec::new();
    for (name, text, parses) in cases {
        let file = format!("proofs/{name}.tlog-proof");
        let mut case = json!({"file": file, "parses": parses});
        let parsed = TlogProof::parse(text.as_bytes());
        assert_eq!(parsed.is_ok(), parses, "{name}");
        if let Ok(proof) = parsed {
            assert_eq!(proof.to_bytes(), text.as_bytes(), "{name}");
            let at = proof.checkpoint.checkpoint();
            // Of entry `index`, whose text is `entry <index>`.
            let leaf = leaf_hash(format!("entry {}", proof.index).as_bytes());
            let holds = verify_inclusion(&leaf, proof.index, at.size, &proof.hashes, &at.root);
            case["index"] = json!(proof.index);
            case["size"] = json!(at.size);
            case["extra"] = json!(proof.extra.map(|bytes| String::from_utf8(bytes).unwrap()));
            case["holds"] = json!(holds.is_ok());
        }
        index.push(case);
        files.insert(file, text.into_bytes());
    }
    files.insert("proof_files.json".to_owned(), pretty(&index.into()));
}

fn leaf_base64() -> String {
    let checkpoint = signed(1).note().to_string();
    checkpoint.lines().nth(2).unwrap().to_owned()
}
