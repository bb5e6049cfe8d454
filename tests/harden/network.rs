//! Faults that the NET checks have to find.

use super::{Area, Planted, Recorded, set_text};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: CLEAN };

/// No Docker. Debian drops nothing by itself and takes redirects; a container's systemd sets nothing of the kernel's network.
const CLEAN: &[(&str, &str)] = &[("NET-007", "na"), ("NET-008", "warn"), ("NET-010", "fail"), ("NET-012", "fail")];

/// Loads lsm's table again.
const CURE: &str = "nft -f /etc/lsm/firewall.nft";

const PLANTED: &[Planted] = &[
    Planted {
        found: ("NET-001", "fail"),
        cause: "nft delete table inet lsm",
        cure: CURE,
        with: &["NET-002", "NET-004"],
    },
    Planted {
        found: ("NET-001", "fail"),
        cause: "nft insert rule inet lsm prerouting iifname host0 accept",
        cure: CURE,
        with: &["NET-002", "NET-004"],
    },
    Planted {
        found: ("NET-001", "fail"),
        cause: "nft add table inet lsm '{ flags dormant; }'",
        cure: CURE,
        with: &["NET-002", "NET-004"],
    },
    Planted {
        found: ("NET-002", "fail"),
        cause: "nft add element inet lsm signer_allow4 '{ 10.9.0.0/16 }'",
        cure: CURE,
        with: &["NET-004"],
    },
    Planted {
        found: ("NET-002", "fail"),
        cause: "nft add table ip more && nft add chain ip more c '{ type nat hook prerouting priority -100; }' && \
            nft add rule ip more c tcp dport 443 redirect to :10012",
        cure: "nft delete table ip more",
        with: &[],
    },
    Planted {
        found: ("NET-003", "fail"),
        cause: "systemd-run --quiet --unit=other systemd-socket-activate -l 0.0.0.0:8000 cat && sleep 1",
        cure: "systemctl stop other",
        with: &[],
    },
    Planted {
        found: ("NET-005", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && { echo '[Service]'; echo PrivateNetwork=no; \
            echo IPAddressDeny=; } >$d/x.conf && systemctl daemon-reload && systemctl restart lsm@signer && \
            nft delete table inet lsm && sed '/skuid.*original/d' /etc/lsm/firewall.nft | nft -f -",
        cure: "rm -r /run/systemd/system/lsm@signer.service.d && systemctl daemon-reload && \
            systemctl restart lsm@signer && nft -f /etc/lsm/firewall.nft",
        with: &["NET-004", "PROC-001", "UNIT-001"],
    },
    Planted {
        found: ("NET-007", "fail"),
        cause: "systemd-run --quiet --unit=docker-of-a-kind systemd-socket-activate -l /run/docker.sock cat && sleep 1 && \
            chmod 0666 /run/docker.sock",
        cure: "systemctl stop docker-of-a-kind; rm -f /run/docker.sock",
        with: &[],
    },
    Planted {
        found: ("NET-009", "fail"),
        cause: "echo 1 >/proc/sys/net/ipv4/ip_forward",
        cure: "echo 0 >/proc/sys/net/ipv4/ip_forward",
        with: &[],
    },
];

const RECORDED: &[Recorded] = &[
    Recorded {
        found: ("NET-001", "error"),
        cause: |facts| facts["programs"]["nft -j list ruleset"] = json!({ "is": "[]" }),
        with: &["NET-002", "NET-008"],
    },
    Recorded {
        found: ("NET-002", "error"),
        cause: |facts| set_text(facts, "/proc/net/ip_tables_names", "filter\n"),
        with: &["NET-008"],
    },
    Recorded {
        found: ("NET-003", "fail"),
        cause: |facts| add_socket(facts, "tcp", "[::]:111", &json!({ "program": "/usr/sbin/rpcbind" })),
        with: &[],
    },
    // Another program has the signer's port, which the filter closes to strangers.
    Recorded {
        found: ("NET-003", "warn"),
        cause: |facts| add_socket(facts, "tcp", "0.0.0.0:10012", &json!({ "program": "/usr/bin/socat" })),
        with: &[],
    },
    Recorded {
        found: ("NET-003", "warn"),
        cause: |facts| add_socket(facts, "udp", "0.0.0.0:51820", &json!("kernel")),
        with: &[],
    },
    // A name alone is no sign of the real one.
    Recorded {
        found: ("NET-003", "fail"),
        cause: |facts| add_socket(facts, "tcp", "0.0.0.0:22", &json!({ "program": "/home/x/sshd" })),
        with: &[],
    },
    Recorded {
        found: ("NET-003", "error"),
        cause: |facts| add_socket(facts, "udp", "0.0.0.0:53", &json!({ "unseen": "it is" })),
        with: &[],
    },
    Recorded {
        found: ("NET-004", "fail"),
        cause: |facts| facts["network"]["as_on_disk"] = json!({ "is": false }),
        with: &[],
    },
    Recorded {
        found: ("NET-007", "fail"),
        cause: |facts| add_socket(facts, "tcp", "127.0.0.1:2375", &Value::Null),
        with: &[],
    },
    Recorded {
        found: ("NET-008", "pass"),
        cause: |facts| {
            let base = json!({"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "input",
                "prio": 0, "policy": "drop"}});
            facts["programs"]["nft -j list ruleset"]["is"] = json!(add_chain(facts, &base));
        },
        with: &[],
    },
    Recorded { found: ("NET-010", "pass"), cause: |facts| set_interfaces(facts, "accept_redirects", "0"), with: &[] },
    Recorded {
        found: ("NET-011", "fail"),
        cause: |facts| facts["network"]["sniffers"] = json!({ "is": [{ "program": "/usr/bin/tcpdump" }] }),
        with: &[],
    },
    Recorded { found: ("NET-012", "pass"), cause: |facts| set_interfaces(facts, "rp_filter", "2"), with: &[] },
    Recorded {
        found: ("NET-013", "fail"),
        cause: |facts| set_text(facts, "/proc/sys/net/ipv4/tcp_syncookies", "0\n"),
        with: &[],
    },
];

fn add_socket(facts: &mut Value, protocol: &str, address: &str, holder: &Value) {
    let sockets = facts["network"]["sockets"]["is"].as_array_mut().expect("sockets");
    sockets.push(json!({ "protocol": protocol, "address": address, "holder": holder }));
}

/// The ruleset with one more chain.
fn add_chain(facts: &Value, chain: &Value) -> String {
    let text = facts["programs"]["nft -j list ruleset"]["is"].as_str().expect("a ruleset");
    let mut ruleset: Value = serde_json::from_str(text).expect("JSON");
    ruleset["nftables"].as_array_mut().expect("objects").push(chain.clone());
    ruleset.to_string()
}

fn set_interfaces(facts: &mut Value, name: &str, value: &str) {
    let all = facts["network"]["interfaces"]["is"].as_object_mut().expect("interfaces");
    all.iter_mut().filter(|(path, _)| path.ends_with(name)).for_each(|(_, is)| *is = json!(value));
}
