use super::*;

#[test]
fn paths_follow_the_specification() {
    let cases = [
        (
            Resource::Entries(Span::full(1_234_067)),
            "tile/entries/x001/x234/067",
        ),
        (Resource::Entries(Span::full(0)), "tile/entries/000"),
        (Resource::Bodies(Span::full(999)), "bodies/999"),
        (Resource::Bodies(Span::full(1000)), "bodies/x001/000"),
        (
            Resource::Tile(TileId {
                level: 0,
                span: Span {
                    index: 273,
                    width: 112,
                },
            }),
            "tile/0/273.p/112",
        ),
        (
            Resource::Tile(TileId {
                level: 63,
                span: Span {
                    index: 1_000_000,
                    width: 1,
                },
            }),
            "tile/63/x001/x000/000.p/1",
        ),
    ];
    for (resource, path) in cases {
        assert_eq!(resource.to_string(), path);
        assert_eq!(Resource::parse(path), Some(resource), "{path}");
    }
}

#[test]
fn other_spellings_are_refused() {
    for path in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/data/000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "entries/000",
        "tile/8/0/000",
        "tile/0/٠٠٠",
    ] {
        assert_eq!(Resource::parse(path), None, "{path}");
    }
}

#[test]
fn spans_and_tiles_of_the_specifications_example() {
    // "A tree of size 70,000 will be represented by 273 full level 0 tiles, one partial level
    // 0 tile of width 112, one full level 1 tile, one partial level 1 tile of width 17, and
    // one partial level 2 tile of width 1."
    let size = 70_000;
    let width = |level, index| TileId::in_tree(level, index, size).map(|id| id.span.width());
    assert_eq!(width(0, 272), Some(256));
    assert_eq!(width(0, 273), Some(112));
    assert_eq!(width(0, 274), None);
    assert_eq!(width(1, 0), Some(256));
    assert_eq!(width(1, 1), Some(17));
    assert_eq!(width(1, 2), None);
    assert_eq!(width(2, 0), Some(1));
    assert_eq!(width(3, 0), None);
    assert_eq!(width(40, 0), None);
    assert_eq!(Span::of_leaf(69_999, size), Span::new(273, 112));
    assert_eq!(Span::of_leaf(70_000, size), None);
}

#[test]
fn a_tile_of_another_length_is_refused() {
    let id = TileId {
        level: 0,
        span: Span { index: 0, width: 2 },
    };
    assert!(Tile::from_bytes(id, &[0; 64]).is_ok());
    for bytes in [0, 32, 63, 65, 96] {
        assert_eq!(
            Tile::from_bytes(id, &vec![0; bytes]),
            Err(TileError::Malformed { tile: id, bytes })
        );
    }
}
