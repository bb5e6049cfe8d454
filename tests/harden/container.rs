//! Faults that the checks of containers have to find, in the facts of a host on which lsm made a signer in one.
//!
//! The facts are those of a real host (Debian 12, Docker 20.10), less what no check here is about.

use super::Recorded;
use serde_json::{Value, json};

const FACTS: &str = include_str!("../data/container/facts.json");

/// What comes of them where lnd is in no container.
pub const OUTSIDE: &[(&str, &str)] = &[
    ("CONT-001", "na"),
    ("CONT-002", "na"),
    ("CONT-003", "na"),
    ("CONT-004", "na"),
    ("CONT-005", "na"),
    ("CONT-006", "na"),
    ("CONT-007", "na"),
    ("CONT-008", "na"),
    ("CONT-009", "na"),
    ("CONT-010", "na"),
    ("CONT-011", "na"),
    ("CONT-012", "na"),
    ("CONT-013", "na"),
    ("NET-006", "na"),
];

/// The facts of a host with a signer in a container on which nothing is wrong.
pub fn facts() -> Value {
    serde_json::from_str(FACTS).expect("facts")
}

/// Broken in those facts.
pub const FAULTS: &[Recorded] = &[
    fault(("CONT-001", "fail"), |facts| container(facts)["user"] = json!("0:0"), &[]),
    fault(("CONT-001", "fail"), |facts| container(facts)["user"] = json!("lnd"), &[]),
    fault(("CONT-001", "fail"), |facts| container(facts)["groups"] = json!(["docker"]), &[]),
    // Somebody of this host has its number.
    fault(
        ("CONT-001", "fail"),
        |facts| {
            let users = facts["accounts"]["users"]["is"].as_array_mut().expect("users");
            let mut other = users.last().expect("a user").clone();
            other["name"] = json!("eve");
            other["uid"] = json!(10012);
            users.push(other);
        },
        &[],
    ),
    fault(("CONT-002", "fail"), |facts| container(facts)["rights"]["privileged"] = json!(true), &["CONT-003"]),
    fault(("CONT-002", "fail"), |facts| container(facts)["rights"]["added"] = json!(["SYS_PTRACE"]), &[]),
    fault(("CONT-002", "fail"), |facts| container(facts)["rights"]["dropped"] = json!([]), &[]),
    fault(("CONT-002", "fail"), |facts| container(facts)["rights"]["no_new"] = json!(false), &[]),
    fault(("CONT-002", "fail"), |facts| container(facts)["rights"]["devices"] = json!(["/dev/mem"]), &[]),
    fault(("CONT-003", "fail"), |facts| container(facts)["rights"]["seccomp"] = json!("unconfined"), &[]),
    fault(("CONT-003", "fail"), |facts| container(facts)["rights"]["seccomp"] = json!("default"), &[]),
    fault(("CONT-003", "fail"), |facts| container(facts)["rights"]["seccomp"] = json!("other"), &[]),
    // Asked for, and not in force.
    fault(
        ("CONT-003", "fail"),
        |facts| {
            let status = &mut facts["signers"][0]["process"]["is"]["texts"]["status"]["is"];
            *status = json!(status.as_str().expect("a text").replace("Seccomp:\t2", "Seccomp:\t0"));
        },
        &["PROC-003"],
    ),
    fault(("CONT-004", "fail"), |facts| container(facts)["read_only"] = json!(false), &[]),
    fault(("CONT-005", "fail"), |facts| container(facts)["told"] = json!(["variable RPC_PASSWORD"]), &[]),
    fault(("CONT-006", "fail"), |facts| mount(facts, "/var/run/docker.sock", "/var/run/docker.sock"), &[]),
    fault(("CONT-006", "fail"), |facts| mount(facts, "/run", "/host"), &[]),
    fault(("CONT-006", "fail"), |facts| mount(facts, "/srv/own", "/srv"), &[]),
    // Its settings, which it may not write.
    fault(("CONT-006", "fail"), |facts| container(facts)["mounts"][2]["writable"] = json!(true), &[]),
    fault(("CONT-006", "fail"), |facts| container(facts)["mounts"][0]["from"] = json!("/srv/wallet"), &[]),
    fault(("CONT-007", "fail"), |facts| other(facts, "/var/lib/docker/volumes/signer-data/_data"), &[]),
    fault(("CONT-008", "fail"), |facts| container(facts)["spaces"]["pid"] = json!("host"), &[]),
    fault(("CONT-008", "fail"), |facts| container(facts)["spaces"]["ipc"] = json!("container:web"), &[]),
    fault(("CONT-008", "fail"), |facts| container(facts)["spaces"]["userns"] = json!("host"), &[]),
    fault(
        ("CONT-008", "fail"),
        |facts| container(facts)["networks"]["lsm-signer"]["is"]["others"] = json!(["web"]),
        &[],
    ),
    fault(
        ("CONT-008", "error"),
        |facts| container(facts)["networks"]["lsm-signer"] = json!({ "unknown": "it does not tell" }),
        &["NET-002"],
    ),
    // Docker's own bridge, which no filter of lsm's is about.
    fault(
        ("CONT-008", "fail"),
        |facts| {
            container(facts)["networks"]["bridge"] =
                json!({ "is": { "interface": "docker0", "addresses": ["172.17.0.2"], "others": [] } });
        },
        &["NET-001", "NET-002", "NET-005", "NET-006"],
    ),
    fault(("CONT-009", "fail"), |facts| container(facts)["limits"]["memory"] = json!(null), &[]),
    fault(("CONT-009", "fail"), |facts| container(facts)["limits"]["with_swap"] = json!(4_294_967_296_u64), &[]),
    fault(("CONT-009", "fail"), |facts| container(facts)["limits"]["pids"] = json!(null), &[]),
    fault(("CONT-009", "fail"), |facts| container(facts)["limits"]["core"] = json!(null), &[]),
    // An engine that cannot hold it to any.
    fault(
        ("CONT-009", "warn"),
        |facts| {
            container(facts)["counts"] = json!({ "memory": false, "swap": false, "pids": false });
            container(facts)["limits"] = json!({ "memory": null, "with_swap": null, "pids": null, "core": 0 });
        },
        &[],
    ),
    fault(("CONT-010", "fail"), |facts| container(facts)["image"]["number"] = json!("sha256:00"), &[]),
    // The next start has another one.
    fault(("CONT-010", "fail"), |facts| container(facts)["image"]["named"] = json!({ "is": "sha256:00" }), &[]),
    fault(("CONT-010", "fail"), |facts| container(facts)["image"]["named"] = json!("absent"), &[]),
    fault(("CONT-010", "error"), |facts| container(facts)["image"]["made"] = json!({ "unknown": "no lnd" }), &[]),
    fault(("CONT-011", "fail"), |facts| container(facts)["ports"]["10012/tcp"] = json!(["0.0.0.0:10012"]), &[]),
    fault(("CONT-011", "fail"), |facts| container(facts)["ports"] = json!({}), &[]),
    fault(("CONT-011", "fail"), |facts| container(facts)["ports"]["10009/tcp"] = json!(["127.0.0.1:10009"]), &[]),
    fault(("CONT-012", "fail"), |facts| container(facts)["restart"] = json!("no"), &[]),
    fault(("CONT-012", "fail"), |facts| container(facts)["log"]["size"] = json!(null), &[]),
    fault(("CONT-013", "fail"), |facts| container(facts)["health"]["state"] = json!("unhealthy"), &[]),
    fault(("CONT-013", "warn"), |facts| container(facts)["health"]["state"] = json!("starting"), &[]),
    fault(("CONT-013", "warn"), |facts| container(facts)["health"]["asked"] = json!(false), &[]),
    // Nobody can be asked: nothing of it has passed. Of its filter everything is known.
    fault(("CONT-001", "error"), |facts| facts["signers"][0]["container"] = json!({ "unknown": "silence" }), UNTOLD),
    fault(("CONT-001", "fail"), |facts| facts["signers"][0]["container"] = json!("absent"), UNTOLD),
    fault(("NET-006", "fail"), |facts| without(facts, "forward", "signer_in"), &["NET-001", "NET-002"]),
    fault(("NET-005", "fail"), |facts| without(facts, "prerouting", "signer_out"), &[]),
    fault(("NET-007", "fail"), |facts| facts["network"]["sharers"] = json!({ "is": ["web"] }), &[]),
    fault(("NET-007", "error"), |facts| facts["network"]["sharers"] = json!({ "unknown": "silence" }), &[]),
    // Sent to the host's own door, which Docker's program opens: by then nobody knows where it came from.
    fault(
        ("NET-002", "fail"),
        |facts| {
            let text = facts["programs"][TABLES]["is"].as_str().expect("a ruleset");
            facts["programs"][TABLES]["is"] = json!(text.replace("dnat to 172.18.0.2:10012", "dnat to 10.0.0.5:10012"));
        },
        &[],
    ),
    fault(
        ("LND-002", "fail"),
        |facts| facts["signers"][0]["settings"]["is"]["rpclisten"] = json!(["0.0.0.0:10009"]),
        &[],
    ),
    fault(
        ("BIN-008", "fail"),
        |facts| facts["binaries"]["lnd"]["container litd-signer"]["is"]["runs"] = json!({ "is": false }),
        &[],
    ),
];

/// What follows where nothing is told of the container: every check of it, and what is sent on to it.
const UNTOLD: &[&str] = &[
    "CONT-002", "CONT-003", "CONT-004", "CONT-005", "CONT-006", "CONT-007", "CONT-008", "CONT-009", "CONT-010",
    "CONT-011", "CONT-012", "CONT-013", "NET-002",
];
const TABLES: &str = "nft -s -t list ruleset";

const fn fault(found: (&'static str, &'static str), cause: fn(&mut Value), with: &'static [&'static str]) -> Recorded {
    Recorded { found, cause, with }
}

fn container(facts: &mut Value) -> &mut Value {
    &mut facts["signers"][0]["container"]["is"]
}

fn mount(facts: &mut Value, from: &str, to: &str) {
    let mounts = container(facts)["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "kind": "bind", "from": from, "to": to, "writable": false }));
}

/// Another container, which has this of the signer's.
fn other(facts: &mut Value, has: &str) {
    container(facts)["others"] = json!({ "is": [{ "name": "web", "has": [has] }] });
}

/// Takes away the rule of lsm's `chain` that jumps to `to`.
fn without(facts: &mut Value, chain: &str, to: &str) {
    const RULESET: &str = "nft -j list ruleset";
    let text = facts["programs"][RULESET]["is"].as_str().expect("a ruleset");
    let mut ruleset: Value = serde_json::from_str(text).expect("JSON");
    let all = ruleset["nftables"].as_array_mut().expect("objects");
    let before = all.len();
    all.retain(|object| {
        let rule = &object["rule"];
        let jumps = rule["expr"].as_array().is_some_and(|parts| parts.iter().any(|part| part["jump"]["target"] == to));
        !(rule["table"] == "lsm" && rule["chain"] == chain && jumps)
    });
    assert_eq!(all.len(), before - 1, "{chain} jumps to {to} once");
    facts["programs"][RULESET]["is"] = json!(ruleset.to_string());
}
