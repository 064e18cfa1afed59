use super::*;

const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

#[test]
fn an_address_has_one_spelling() {
    for ways in [
        "relay=https://relay.example.com",
        "relay=http://10.0.0.1:3340&direct=203.0.113.7:7413",
        "relay=https://[2001:db8::1]:8443&direct=[2001:db8::7]:7413&direct=192.0.2.1:1",
        "direct=127.0.0.1:65535",
        "direct=1.1.1.1:1&direct=1.1.1.1:2&direct=1.1.1.1:3&direct=1.1.1.1:4",
    ] {
        let text = format!("iroh://{KEY}?{ways}");
        let address: Address = text.parse().expect(&text);
        assert_eq!(address.to_string(), text);
        assert_eq!(address.base(), format!("iroh://{KEY}"));
        let Address::Key(address) = address else {
            panic!("{text} is by key");
        };
        assert_eq!(address.key().to_string(), KEY);
    }
    let web: Address = "https://gpu.example:8443".parse().expect("an origin");
    assert!(matches!(&web, Address::Web(_)));
    assert_eq!(web.base(), "https://gpu.example:8443");
}

#[test]
fn what_is_no_address_is_refused_and_named() {
    let long = format!("relay=https://{}.example", "a".repeat(ADDRESS_BYTES_MAX));
    for (ways, culprit) in [
        ("", "neither relay"),
        ("relay=", "origin"),
        ("relay=relay.example.com", "origin"),
        ("relay=https://relay.example.com/", "origin"),
        (
            "relay=https://a.example&relay=https://b.example",
            "one relay",
        ),
        ("direct=1.1.1.1:1&relay=https://a.example", "one relay"),
        ("direct=1.1.1.1", "one spelling"),
        ("direct=1.1.1.1:0", "65535"),
        ("direct=1.1.1.1:01", "one spelling"),
        ("direct=01.1.1.1:1", "one spelling"),
        ("direct=1.1.1.1:70000", "one spelling"),
        ("direct=localhost:1", "one spelling"),
        ("direct=[2001:DB8::1]:1", "one spelling"),
        ("direct=[2001:db8:0::1]:1", "one spelling"),
        ("direct=[::ffff:1.2.3.4]:1", "65535"),
        ("direct=[::ffff:102:304]:1", "one spelling"),
        ("direct=[fe80::1%3]:1", "65535"),
        ("direct=1.1.1.1:1&direct=1.1.1.1:1", "twice"),
        ("direct=1.1.1.1:1&", "neither relay"),
        ("token=secret", "token=secret"),
        (&long, "too long"),
    ] {
        let error = format!("iroh://{KEY}?{ways}").parse::<Address>();
        let error = error.expect_err(ways).to_string();
        assert!(error.contains(culprit), "{ways}: {error}");
    }
    let five = ["direct=1.1.1.1:"; 5].iter().zip(1..);
    let five: Vec<String> = five.map(|(way, port)| format!("{way}{port}")).collect();
    let five = format!("iroh://{KEY}?{}", five.join("&"));
    assert!(five.parse::<Address>().is_err(), "five direct addresses");
    for key in [&KEY[..63], &KEY.to_uppercase(), "", "relay.example.com"] {
        let text = format!("iroh://{key}?direct=1.1.1.1:1");
        let error = text.parse::<Address>().expect_err(&text).to_string();
        assert!(error.contains("64 lower-case hex digits"), "{error}");
    }
    let bare = format!("iroh://{KEY}").parse::<Address>();
    assert!(bare.expect_err("no way").to_string().contains("neither"));
}
