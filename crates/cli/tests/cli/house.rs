//! The house rules, held by a test: which crate may use which, what a core crate may never
//! touch, where dependencies come from and under which licences.
//!
//! A new edge fails here first. That is the point: it becomes a deliberate, reviewed change of
//! this table and of ARCHITECTURE.md, which is compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Crate → the crates of ours that it may use in what it ships.
const TABLE: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("tlog", &["record"]),
    ("reliability", &["record"]),
    ("store", &[]),
    ("engine", &[]),
    ("recorder", &["record", "tlog", "store"]),
    ("node", &["record", "tlog", "engine", "store", "recorder"]),
    (
        "gateway",
        &[
            "record",
            "tlog",
            "engine",
            "store",
            "recorder",
            "reliability",
        ],
    ),
    (
        "services",
        &["record", "tlog", "reliability", "engine", "store"],
    ),
    ("web", &[]),
    ("dial", &["record", "engine"]),
    (
        "cli",
        &[
            "record",
            "tlog",
            "reliability",
            "store",
            "engine",
            "recorder",
            "node",
            "gateway",
            "services",
            "web",
            "dial",
        ],
    ),
    ("xtask", &["record", "engine"]),
    (
        "fuzz",
        &[
            "record", "tlog", "engine", "store", "recorder", "gateway", "services",
        ],
    ),
];

/// Pure crates: no sockets, files, environment, wall clock or ambient randomness.
const CORE: &[&str] = &["record", "tlog", "reliability"];

/// What a core crate may use from outside. Everything here computes and does nothing else;
/// `ring` takes its randomness as an argument.
const CORE_MAY_USE: &[&str] = &[
    "base64",
    "bytes",
    "ed25519-dalek",
    "hashbrown",
    "hex",
    "libm",
    "pem",
    "ring",
    "serde",
    "serde_json",
    "thiserror",
];

/// Drivers that belong to `store`.
const DRIVERS: &[&str] = &["rusqlite", "sqlx", "redb", "object_store", "tokio-postgres"];

/// Past this a file holds a second idea.
const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/cli lies two levels below the root")
        .to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".into()])
        .exec()
        .expect("cargo metadata runs where the tests run")
}

fn shipped(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|d| d.kind != DependencyKind::Development)
        .map(|d| d.name.as_str())
        .collect()
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the source tree is readable") {
        let path = entry.expect("the source tree is readable").path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_edge_between_our_crates_is_in_the_table() {
    let metadata = metadata();
    let table: BTreeMap<&str, BTreeSet<&str>> = TABLE
        .iter()
        .map(|(name, may)| (*name, may.iter().copied().collect()))
        .collect();
    let ours: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(
        ours,
        table.keys().copied().collect(),
        "crates and table differ"
    );
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let used: BTreeSet<&str> = shipped(package).intersection(&ours).copied().collect();
        let new: Vec<_> = used.difference(&table[name]).collect();
        assert!(new.is_empty(), "{name} may not use {new:?}");
        assert_eq!(
            package.manifest_path.parent().and_then(|p| p.file_name()),
            Some(name),
            "folder equals crate"
        );
    }
}

#[test]
fn core_crates_use_only_what_computes() {
    let may: BTreeSet<&str> = CORE_MAY_USE.iter().copied().collect();
    for package in metadata().workspace_packages() {
        let name = package.name.as_str();
        if !CORE.contains(&name) {
            continue;
        }
        let outside: Vec<_> = shipped(package)
            .into_iter()
            .filter(|d| !may.contains(d) && !CORE.contains(d))
            .map(str::to_owned)
            .collect();
        assert!(
            outside.is_empty(),
            "{name} is a core crate and may not use {outside:?}"
        );
        let bans = std::fs::read_to_string(root().join(format!("crates/{name}/clippy.toml")))
            .unwrap_or_else(|e| panic!("{name} has no ban list: {e}"));
        for banned in [
            "SystemTime::now",
            "Instant::now",
            "std::fs",
            "std::net",
            "std::env",
        ] {
            assert!(
                bans.contains(banned),
                "{name}/clippy.toml does not ban {banned}"
            );
        }
    }
}

#[test]
fn drivers_stay_in_the_store() {
    for package in metadata().workspace_packages() {
        if package.name.as_str() == "store" {
            continue;
        }
        let found: Vec<_> = package
            .dependencies
            .iter()
            .filter(|d| DRIVERS.contains(&d.name.as_str()))
            .collect();
        assert!(
            found.is_empty(),
            "{} uses a driver: {found:?}",
            package.name
        );
    }
}

#[test]
fn dependencies_come_from_the_registry_under_known_licences() {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml exists");
    let deny: toml::Table = text.parse().expect("deny.toml is TOML");
    let allowed: BTreeSet<&str> = deny["licenses"]["allow"]
        .as_array()
        .expect("a list of licences")
        .iter()
        .filter_map(|l| l.as_str())
        .collect();
    for package in metadata().packages {
        if let Some(source) = &package.source {
            assert!(
                source.repr.starts_with("registry+"),
                "{} comes from {source}",
                package.name
            );
        }
        let licence = package.license.as_deref().unwrap_or("none");
        assert!(
            satisfied(licence, &allowed),
            "{} is under {licence}",
            package.name
        );
    }
}

/// An SPDX expression of the shapes that occur: `A OR B`, `A/B`, `A AND B`, brackets.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    flat.split(" AND ")
        .all(|all| all.split(" OR ").any(|one| allowed.contains(one.trim())))
}

#[test]
fn no_source_file_holds_two_ideas() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    assert!(files.len() > 20, "the walk found the sources");
    for file in files {
        let lines = std::fs::read_to_string(&file)
            .expect("sources are UTF-8")
            .lines()
            .count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

#[test]
fn the_architecture_page_shows_this_table() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page exists");
    for (name, may) in TABLE {
        let uses = if may.is_empty() {
            "none of ours".to_owned()
        } else {
            may.join(", ")
        };
        let row = format!("| `{name}` | {uses} |");
        assert!(page.contains(&row), "ARCHITECTURE.md has no row `{row}`");
    }
}

/// A decision is cited by its number.
#[test]
fn every_decision_has_a_number_of_its_own() {
    let folder = root().join("docs/decisions");
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(folder).expect("readable") {
        let file = file.expect("an entry");
        let name = file.file_name().into_string().expect("a name in UTF-8");
        let number: usize = name[..4].parse().expect("four digits first");
        let text = std::fs::read_to_string(file.path()).expect("readable");
        let title = format!("# {number}. ");
        assert!(text.starts_with(&title), "{name} begins with {title:?}");
        numbers.push(number);
    }
    numbers.sort_unstable();
    let counted: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, counted, "decisions are numbered from 1 on");
}
