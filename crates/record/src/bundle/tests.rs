use super::*;

#[test]
fn the_log_id_starts_with_the_notes_key_id() {
    // A checkpoint's signature line carries the first four bytes of SHA-256(name, LF, 01, key).
    let key = [7; 32];
    let id = log_id("log.example", &key);
    let text = [b"log.example\n\x01".as_slice(), &key].concat();
    assert_eq!(id, crate::sha256(&text));
}

#[test]
fn a_trusted_root_names_its_logs_and_nothing_else() {
    let logs = [
        TrustedLog {
            name: "a.example/log",
            ed25519: &[1; 32],
        },
        TrustedLog {
            name: "b.example",
            ed25519: &[2; 32],
        },
    ];
    let json: serde_json::Value =
        serde_json::from_slice(&trusted_root_json(&logs)).expect("valid JSON");
    let listed = json["tlogs"].as_array().expect("a list");
    assert_eq!(listed.len(), 2);
    for (log, listed) in logs.iter().zip(listed) {
        let url = listed["baseUrl"].as_str().expect("a text");
        assert!(
            url.contains(log.name),
            "tools look for the note's name in the URL: {url}"
        );
        assert_eq!(listed["logId"], listed["checkpointKeyId"]);
    }
    for none in ["certificateAuthorities", "ctlogs", "timestampAuthorities"] {
        assert_eq!(json[none], serde_json::json!([]), "{none}");
    }
}
