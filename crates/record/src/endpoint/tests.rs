use super::*;

#[test]
fn origins_have_one_spelling() {
    for good in [
        "https://api.example.com",
        "http://127.0.0.1:11434",
        "https://[2001:db8::1]:8443",
        "https://[::1]",
        "http://localhost:443",
    ] {
        assert_eq!(
            good.parse::<Origin>().map(|o| o.to_string()),
            Ok(good.to_owned())
        );
        assert!(matches!(good.parse(), Ok(Provider::Outside(_))));
    }
    for bad in [
        "api.example.com",
        "ftp://api.example.com",
        "https://",
        "https://API.example.com",
        "https://api.example.com/",
        "https://api.example.com:443",
        "http://api.example.com:80",
        "https://api.example.com:0",
        "https://api.example.com:08443",
        "https://api.example.com:99999",
        "https://user@api.example.com",
        "https://[::1",
    ] {
        assert!(bad.parse::<Origin>().is_err(), "{bad}");
    }
}

#[test]
fn numbers_start_at_one() {
    assert!(Seq::new(0).is_err());
    assert_eq!(Seq::FIRST.number(), 1);
    assert_eq!(Seq::new(INTEGER_MAX).map(Seq::next), Ok(None));
}
