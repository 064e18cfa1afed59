//! Model files, which come from anywhere.

use std::io::Write as _;

use engine::embedded::model_info;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[Target {
    name: "gguf",
    run: read_model,
    seeds: model_seeds,
}];

/// The header of a model file: what is said of it, or why it is refused. Memory stays in
/// proportion to the file, which libFuzzer watches.
fn read_model(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it takes a few bytes");
    let _ = model_info(file.path());
}

/// A header with one pair of each kind and one tensor.
fn model_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let pair =
        |key: &str, kind: u32, value: &[u8]| [&text(key)[..], &kind.to_le_bytes(), value].concat();
    let array = |kind: u32, items: u64, content: &[u8]| {
        [&kind.to_le_bytes()[..], &items.to_le_bytes(), content].concat()
    };
    let pairs = [
        pair("general.architecture", 8, &text("llama")),
        pair("general.alignment", 4, &32u32.to_le_bytes()),
        pair("llama.block_count", 4, &1u32.to_le_bytes()),
        pair("llama.rope.freq_base", 6, &1e4f32.to_le_bytes()),
        pair("a.flag", 7, &[1]),
        pair("a.long", 10, &7u64.to_le_bytes()),
        pair(
            "tokenizer.ggml.tokens",
            9,
            &array(8, 2, &[text("a"), text("b")].concat()),
        ),
        pair(
            "tokenizer.ggml.token_type",
            9,
            &array(5, 2, &[1, 0, 0, 0, 3, 0, 0, 0]),
        ),
        pair(
            "tokenizer.chat_template",
            8,
            &text("{{ messages[0].content }}"),
        ),
    ];
    let tensor = [
        &text("token_embd.weight")[..],
        &2u32.to_le_bytes(),
        &32u64.to_le_bytes(),
        &2u64.to_le_bytes(),
        &0u32.to_le_bytes(),
        &0u64.to_le_bytes(),
    ]
    .concat();
    let whole = |version: u32| {
        let mut file = b"GGUF".to_vec();
        file.extend(version.to_le_bytes());
        file.extend(1u64.to_le_bytes());
        file.extend((pairs.len() as u64).to_le_bytes());
        file.extend(pairs.concat());
        file.extend(&tensor);
        file.resize(file.len().next_multiple_of(32) + 32 * 2 * 4, 0);
        file
    };
    vec![whole(3), whole(2)]
}
