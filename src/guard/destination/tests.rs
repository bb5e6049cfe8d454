//! Destinations, held against what BIP 84 and BIP 380 give as examples.

use super::*;

/// The account of BIP 84's example, as an xpub.
const XPUB: &str =
    "xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V";
const FIRST: &str = "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu";
const SECOND: &str = "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g";
const CHANGE: &str = "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el";

fn named(kind: &str, text: &str) -> Named {
    let of = |name| (kind == name).then(|| text.to_owned());
    let look_ahead = (kind != "address").then_some(3);
    Named { address: of("address"), descriptor: of("descriptor"), xpub: of("xpub"), look_ahead }
}

fn script(address: &str) -> ScriptBuf {
    Address::from_str(address).unwrap().assume_checked().script_pubkey()
}

fn paid(one: Named) -> Vec<bool> {
    let all = Destinations::new(&[one]).unwrap();
    [FIRST, SECOND, CHANGE].iter().map(|address| all.holds(&script(address))).collect()
}

#[test]
fn a_wallets_addresses_are_known_by_each_of_its_names() {
    assert_eq!(paid(named("address", FIRST)), [true, false, false]);
    assert_eq!(paid(named("xpub", XPUB)), [true, true, true]);
    for (text, wanted) in [
        (format!("wpkh({XPUB}/0/*)"), [true, true, false]),
        (format!("wpkh([73c5da0a/84h/0h/0h]{XPUB}/<0;1>/*)"), [true, true, true]),
        (format!("wpkh({XPUB}/1/*)"), [false, false, true]),
        (format!("tr({XPUB}/0/*)"), [false, false, false]),
        (format!("sh(wpkh({XPUB}/0/*))"), [false, false, false]),
    ] {
        assert_eq!(paid(named("descriptor", &text)), wanted, "{text}");
        let sum = checksum(&text).unwrap();
        assert_eq!(paid(named("descriptor", &format!("{text}#{sum}"))), wanted, "{text}");
    }
    assert_eq!(paid(Named { look_ahead: Some(1), ..named("xpub", XPUB) }), [true, false, true]);
    let all = Destinations::new(&[Named { look_ahead: None, ..named("descriptor", &format!("wpkh({XPUB}/0/*)")) }]);
    assert_eq!(all.unwrap().scripts.len(), 1000);
}

#[test]
fn a_checksum_is_that_of_bip_380() {
    assert_eq!(checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
    assert_eq!(checksum("raw(Ü)"), None);
}

#[test]
fn what_does_not_read_is_named_by_its_number_and_not_repeated() {
    let private = "xprv9s21ZrQH143K3GJpoapnV8SFfukcVBSfeCficPSGfubmSFDxo1kuHnLisriDvSnRRuL2Qrg5ggqHKNVpxR86QEC8w35uxmGoggxtQTPvfUu";
    let descriptor = |text: &str| named("descriptor", text);
    for bad in [
        named("", ""),
        Named { xpub: Some(XPUB.into()), ..named("address", FIRST) },
        Named { look_ahead: Some(5), ..named("address", FIRST) },
        Named { look_ahead: Some(0), ..named("xpub", XPUB) },
        Named { look_ahead: Some(10_001), ..named("xpub", XPUB) },
        named("address", "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyv"),
        named("xpub", private),
        named("xpub", &format!("{XPUB}/0")),
        descriptor(XPUB),
        descriptor(&format!("wpkh({XPUB})")),
        descriptor(&format!("wpkh({XPUB}/0'/*)")),
        descriptor(&format!("wpkh({XPUB}/0/*')")),
        descriptor(&format!("wpkh({XPUB}/+0/*)")),
        descriptor(&format!("wpkh({XPUB}/<0;1>/<0;1>/*)")),
        descriptor(&format!("wpkh({XPUB}/0/*)#89f8spxm")),
        descriptor(&format!("wsh({XPUB}/0/*)")),
        descriptor(&format!("wpkh([73c5da0a{XPUB}/0/*)")),
    ] {
        let said = Destinations::new(&[named("address", FIRST), bad.clone()]).map(drop).expect_err(&format!("{bad:?}"));
        assert_eq!(said.code(), BAD, "{bad:?}");
        assert!(said.cause().contains("number 2") && !said.to_string().contains("prv"), "{said}");
    }
}

#[test]
fn an_address_of_another_network_is_told() {
    let all = Destinations::new(&[named("address", FIRST)]).unwrap();
    assert_eq!(all.foreign_to(Network::Bitcoin), None);
    assert_eq!(all.foreign_to(Network::Regtest).as_deref(), Some(FIRST));
}
