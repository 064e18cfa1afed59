use super::*;

#[test]
fn durations_round_down_to_quarter_octaves() {
    let cases = [
        (0, 0),
        (999, 0),
        (1000, 1000),
        (1188, 1000),
        (1189, 1189),
        (1413, 1189),
        (1414, 1414),
        (1681, 1414),
        (1682, 1682),
        (1999, 1682),
        (2000, 2000),
        (2377, 2000),
        (2378, 2378),
        (1_000_000, 861_184),
        (u64::MAX, 1682 << 29),
    ];
    for (exact, edge) in cases {
        assert_eq!(duration_us(exact).us(), edge, "{exact}");
    }
}

#[test]
fn every_edge_is_its_own_bucket_and_indexes_are_dense() {
    assert_eq!(DurationUs::default().index(), 0);
    for (number, edge) in edges().enumerate() {
        assert_eq!(duration_us(edge).us(), edge);
        assert_eq!(duration_us(edge).index(), number + 1);
        let below = duration_us(edge - 1);
        assert!(below.us() < edge);
        assert_eq!(below.upper_us(), Some(edge));
    }
    assert_eq!(duration_us(u64::MAX).index(), DurationUs::COUNT - 1);
    assert_eq!(duration_us(u64::MAX).upper_us(), None);
}

#[test]
fn token_counts_round_down_to_half_octaves() {
    let cases = [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 4),
        (6, 6),
        (7, 6),
        (8, 8),
        (11, 8),
        (12, 12),
        (15, 12),
        (16, 16),
        (23, 16),
        (24, 24),
        (1000, 768),
        (u64::MAX, TOKENS_MAX),
    ];
    for (exact, edge) in cases {
        assert_eq!(tokens(exact).tokens(), edge, "{exact}");
        assert_eq!(Tokens::from_edge(edge), Ok(tokens(exact)));
    }
}

#[test]
fn starts_round_down_to_ten_seconds() {
    assert_eq!(start_ms(1_763_596_800_123).ms(), 1_763_596_800_000);
    assert_eq!(start_ms(9_999).ms(), 0);
    assert!(start_ms(u64::MAX).ms() <= INTEGER_MAX);
}

#[test]
fn an_exact_value_is_no_edge() {
    let error = DurationUs::from_edge(1001).expect_err("1001 is no edge");
    assert_eq!(error.code(), Code::BadBucket);
    assert!(error.to_string().contains("1000 is"), "{error}");
    assert!(Tokens::from_edge(5).is_err());
    assert!(StartMs::from_edge(10_001).is_err());
}
