//! The walk, held against what nft makes of rules.

use super::*;
use crate::host::network::in_empty_network;
use crate::host::{program, program::Program, user};
use crate::render::nft::render_nft;
use crate::secret::Secret;
use crate::spec::{Docker, Mode, Network, Spec, parse_cidr};

const INWARD: [&str; 2] = ["prerouting", "input"];

fn nft(args: &[&str], input: &str) -> String {
    let run = Program::new("nft").args(args).input(Secret::new(input.into())).run().expect("nft");
    String::from_utf8(run).expect("text")
}

fn live() -> Ruleset {
    let text = nft(&["-s", "-t", "list", "ruleset"], "");
    Ruleset::parse(&nft(&["-j", "list", "ruleset"], ""), &text).expect("a ruleset")
}

fn knock(from: &str) -> Packet {
    let from: IpAddr = from.parse().expect("an address");
    let (protocol, is_v6) = (Some(Protocol::Tcp), from.is_ipv6());
    Packet { protocol, from: Some(from), to: None, port: Some(10012), is_v6, sender: None, way: Way::Here }
}

fn letter(passage: Passage) -> char {
    match passage {
        Passage::Never => 'n',
        Passage::Perhaps(_) => 'p',
        Passage::Always(_) => 'a',
    }
}

/// Rules, and what becomes of a connection to port 10012 from 10.0.0.1, 203.0.113.77 and fd00::1: always in, perhaps, never.
const FILTERS: &[(&str, &str)] = &[
    ("", "aaa"),
    ("policy drop;", "nnn"),
    ("policy drop; tcp dport 22 accept", "nnn"),
    ("policy drop; tcp dport { 22, 10000-10100 } accept", "aaa"),
    ("policy drop; ip saddr 10.0.0.0/8 tcp dport 10012 accept", "ann"),
    ("policy drop; ip saddr != 10.0.0.0/8 accept", "nan"),
    ("policy drop; ip saddr @some accept", "ann"),
    ("policy drop; ip saddr . tcp dport { 10.0.0.1 . 10012 } accept", "ann"),
    ("policy drop; ip saddr vmap { 10.0.0.0/9 : accept, 10.128.0.0/9 : drop }", "ann"),
    ("policy drop; tcp dport vmap { 22 : accept, 10012 : jump more }", "ann"),
    ("policy drop; jump more", "ann"),
    ("policy drop; goto more; accept", "ann"),
    ("jump more; drop", "ann"),
    ("policy drop; ct state established,related accept", "nnn"),
    ("policy drop; ct state vmap { established : accept, related : accept, invalid : drop }", "nnn"),
    ("ct state new drop", "nnn"),
    ("policy drop; iif lo accept", "nnn"),
    ("policy drop; iifname eth7 accept", "ppp"),
    ("policy drop; meta mark 1 accept", "ppp"),
    ("tcp dport 10012 limit rate 5/second drop", "ppp"),
    ("tcp dport 10012 limit rate 5/second accept; drop", "ppp"),
    ("udp dport 10012 drop", "aaa"),
    ("th dport 10012 drop", "nnn"),
    ("tcp dport != 22 drop", "nnn"),
    ("tcp dport 10000-10020 reject with tcp reset", "nnn"),
    ("meta nfproto ipv6 drop", "aan"),
    ("meta l4proto tcp drop", "nnn"),
    ("ip6 nexthdr tcp drop", "aap"),
    ("ip saddr . tcp dport vmap { 10.0.0.1 . 22 : accept, * : drop }", "nna"),
    ("ip dscp set cs1; policy drop", "nnn"),
    ("ip saddr 10.0.0.1 drop; ip saddr set 10.0.0.9", "ppa"),
    ("ct state != { established, related } drop", "nnn"),
    ("notrack; ct state new drop", "ppp"),
    ("fib daddr type local drop", "nnn"),
    ("ip saddr @filled drop; tcp dport 22 add @filled { ip saddr }", "ppa"),
    ("policy drop; return; accept", "nnn"),
    ("log prefix \"x\" counter drop", "nnn"),
];

#[test]
fn what_gets_in_is_what_the_kernel_would_let_in() {
    if !user::is_root() || program::find("nft").is_none() {
        eprintln!("skipped: this test needs root and nft");
        return;
    }
    let found = in_empty_network(|| {
        let outcome = |rules: &str| -> String {
            let table = format!(
                "flush ruleset; table inet t {{ set some {{ type ipv4_addr; elements = {{ 10.0.0.1 }}; }}; \
                 set filled {{ type ipv4_addr; size 9; flags dynamic; }}; chain more {{ ip saddr 10.0.0.1 accept; }}; \
                 chain c {{ type filter hook input priority 0; {rules}; }}; }}"
            );
            nft(&["-f", "-"], &table.replace(";;", ";"));
            let ruleset = live();
            let senders = ["10.0.0.1", "203.0.113.77", "fd00::1"];
            senders.iter().map(|from| letter(walk(&ruleset, &knock(from), &INWARD).unwrap())).collect()
        };
        FILTERS.iter().map(|(rules, _)| outcome(rules)).collect::<Vec<_>>()
    });
    let found = found.expect("a network of its own");
    for ((rules, wanted), found) in FILTERS.iter().zip(found) {
        assert_eq!(found, *wanted, "{rules}");
    }
}

/// Each opens lsm's own filter to 203.0.113.77; the last two do not.
const CHANGES: [(&str, char); 9] = [
    ("delete table inet lsm", 'a'),
    ("flush chain inet lsm a_judge", 'a'),
    ("insert rule inet lsm prerouting accept", 'a'),
    ("insert rule inet lsm prerouting iifname \"eth0\" accept", 'p'),
    ("add element inet lsm a_allow4 { 203.0.113.0/24 }", 'p'),
    ("add table inet lsm { flags dormant; }", 'a'),
    (
        "table inet lsm { chain prerouting { type filter hook prerouting priority mangle; policy accept; }; }; \
      flush chain inet lsm prerouting",
        'a',
    ),
    ("table inet other { chain c { type filter hook input priority -500; accept; }; }", 'n'),
    ("insert rule inet lsm output accept", 'n'),
];

#[test]
fn lsms_own_filter_is_seen_to_close_the_port_and_every_way_of_opening_it_too() {
    if !user::is_root() || program::find("nft").is_none() {
        eprintln!("skipped: this test needs root and nft");
        return;
    }
    let allow = vec![parse_cidr("10.0.0.0/24").unwrap()];
    let spec = |mode| Spec { mode, allow: allow.clone(), ..Spec::new(&"a".parse().unwrap(), Network::Regtest, "v") };
    in_empty_network(|| {
        for mode in [Mode::Isolated, Mode::Host] {
            // Users that every machine has.
            let text =
                render_nft(&[&spec(mode)]).unwrap().replace("\"lsm-a\"", "daemon").replace("\"lsm-proxy-a\"", "bin");
            let passes = |from: &str| letter(walk(&live(), &knock(from), &INWARD).unwrap());
            nft(&["-f", "-"], &text);
            assert_eq!((passes("203.0.113.77"), passes("2001:db8::77")), ('n', 'n'));
            // Fewer than too many connections, and in host mode once the gate is open.
            assert_eq!(passes("10.0.0.5"), 'p');
            let out = Packet { sender: Some((1, Some("daemon".to_owned()))), from: None, ..knock("203.0.113.77") };
            assert_eq!(letter(walk(&live(), &out, &["output"]).unwrap()), 'n', "lnd calls nobody");
            let root = Packet { sender: Some((0, Some("root".to_owned()))), ..out };
            assert_ne!(letter(walk(&live(), &root, &["output"]).unwrap()), 'n', "others do");
            for (change, wanted) in CHANGES.iter().filter(|_| mode == Mode::Isolated) {
                nft(&["-f", "-"], change);
                assert_eq!(passes("203.0.113.77"), *wanted, "{change}");
                nft(&["-f", "-"], &format!("flush ruleset\n{text}"));
            }
        }
    })
    .unwrap();
}

/// What opens the way into a container's bridge, or out of it, and what becomes of 203.0.113.77 and of what begins inside.
const BRIDGES: [(&str, &str); 8] = [
    ("", "nn"),
    ("flush chain inet lsm forward", "an"),
    ("flush chain inet lsm signer_out", "np"),
    ("flush chain inet lsm prerouting", "na"),
    ("insert rule inet lsm forward iifname eth0 accept", "pn"),
    ("insert rule inet lsm forward oifname \"lsm-*\" accept", "pn"),
    ("insert rule inet lsm forward oifname docker0 accept", "nn"),
    ("delete table inet lsm", "aa"),
];

#[test]
fn what_is_forwarded_into_a_container_or_comes_out_of_it_is_seen_to_be_judged() {
    if !user::is_root() || program::find("nft").is_none() {
        eprintln!("skipped: this test needs root and nft");
        return;
    }
    let instance = "signer".parse().unwrap();
    let docker = Docker {
        engine: "/run/docker.sock".into(),
        container: Docker::container_of(&instance),
        volume: Some(Docker::volume_of(&instance)),
        data: "/d".into(),
        folder: "/f".into(),
        uid: 10012,
        maps_users: false,
    };
    let allow = vec![parse_cidr("10.0.0.0/24").unwrap()];
    let spec = Spec { allow, docker: Some(docker), ..Spec::new(&instance, Network::Regtest, "v") };
    in_empty_network(|| {
        let text = render_nft(&[&spec]).unwrap();
        let bridge = || "lsm-signer".to_owned();
        let into = |from: &str| Packet { way: Way::Into(bridge()), ..knock(from) };
        let out = Packet { from: None, port: None, way: Way::OutOf(bridge()), ..knock("203.0.113.77") };
        let passes = |packet: &Packet, hooks: &[&str]| letter(walk(&live(), packet, hooks).unwrap());
        let way_in = ["prerouting", "forward"];
        for (change, wanted) in BRIDGES {
            nft(&["-f", "-"], &format!("flush ruleset\n{text}"));
            nft(&["-f", "-"], change);
            let found = [passes(&into("203.0.113.77"), &way_in), passes(&out, &["prerouting", "input"])];
            assert_eq!(String::from_iter(found), wanted, "{change}");
        }
        nft(&["-f", "-"], &format!("flush ruleset\n{text}"));
        assert_eq!((passes(&into("10.0.0.5"), &way_in), passes(&into("2001:db8::77"), &way_in)), ('p', 'n'));
        let other = Packet { port: Some(22), ..into("10.0.0.5") };
        assert_eq!(passes(&other, &way_in), 'n', "its port alone");
    })
    .unwrap();
}

#[test]
fn chains_that_go_in_circles_are_told() {
    let rule = |chain: &str, to: &str| {
        format!(
            r#"{{"rule": {{"family": "ip", "table": "t", "chain": "{chain}", "expr": [{{"jump": {{"target": "{to}"}}}}]}}}}"#
        )
    };
    let base = r#"{"chain": {"family": "ip", "table": "t", "name": "a", "type": "filter", "hook": "input", "policy": "drop"}}"#;
    let json = format!(r#"{{"nftables": [{base}, {}, {}]}}"#, rule("a", "b"), rule("b", "a"));
    let ruleset = Ruleset::parse(&json, "").unwrap();
    assert!(walk(&ruleset, &knock("10.0.0.1"), &INWARD).is_err());
}
