//! A container as a compose file: the same as the engine's API is told, in compose's words. Beside it a litd.

use crate::error::{Code, Error, Result};
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, Mount, PortBinding, ResourcesUlimits};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::Path;

pub use litd::Litd;

mod litd;

const UNREADABLE: Code = Code::refused("E-RENDER-003");

/// A second, in the API's nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// The compose file (compose-spec.io) of the container `name`, which is made of `body`, the API's JSON. Its profile of
/// system calls is in the file `seccomp`; network and volume are those that lsm made. `litd` is one more service, where it could
/// reach the signer.
///
/// # Errors
/// Where `body` is not the API's.
pub fn render_compose(name: &str, body: &str, seccomp: &Path, litd: Option<&Litd>) -> Result<String> {
    let body: ContainerCreateBody = serde_json::from_str(body)
        .map_err(|e| Error::new(UNREADABLE, "a container's description cannot be read").because(e))?;
    let host = body.host_config.clone().unwrap_or_default();
    let network = host.network_mode.clone().unwrap_or_default();
    let mut service = of_body(name, &body);
    service.extend(of_host(&host, seccomp));
    service.insert("networks".to_owned(), json!([network]));
    let volumes = host.mounts.iter().flatten().filter(|mount| kind(mount) == "volume").filter_map(|m| m.source.clone());
    let external = |name: String| (name, json!({"external": true}));
    let mut whole = json!({
        "services": {"signer": literal(Value::Object(service))},
        "networks": Map::from_iter([external(network)]),
        "volumes": volumes.map(external).collect::<Map<_, _>>(),
    });
    let mut text =
        "# The signer's container, as lsm has its engine run it; written by lsm install --format compose.\n".to_owned();
    text.push_str(&litd.map_or_else(litd::absent, Litd::explain));
    if let Some(litd) = litd {
        whole["services"]["litd"] = litd.service();
        whole["networks"]["litd"] = litd.network();
    }
    write_yaml(&mut text, &whole, 0);
    Ok(text)
}

fn of_body(name: &str, body: &ContainerCreateBody) -> Map<String, Value> {
    let fields = [
        ("image", json!(body.image)),
        ("container_name", json!(name)),
        ("hostname", json!(body.hostname)),
        ("user", json!(body.user)),
        ("working_dir", json!(body.working_dir)),
        ("environment", json!(body.env)),
        ("command", json!(body.cmd)),
        ("stop_signal", json!(body.stop_signal)),
        ("stop_grace_period", json!(body.stop_timeout.map(|seconds| format!("{seconds}s")))),
        ("healthcheck", body.healthcheck.as_ref().map_or(Value::Null, of_health)),
    ];
    given(fields)
}

fn of_host(host: &HostConfig, seccomp: &Path) -> Map<String, Value> {
    let profile = format!("seccomp:{}", seccomp.display());
    let options = host.security_opt.iter().flatten();
    let options = options.map(|option| if option.starts_with("seccomp=") { &profile } else { option });
    let tmpfs = host.tmpfs.iter().flatten().map(|(path, options)| format!("{path}:{options}"));
    let log = host.log_config.as_ref();
    let ports = host
        .port_bindings
        .iter()
        .flatten()
        .flat_map(|(inside, at)| at.iter().flatten().map(move |at| port(at, inside)));
    let sysctls = host.sysctls.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    let restart = host.restart_policy.as_ref().and_then(|policy| policy.name);
    let fields = [
        ("read_only", json!(host.readonly_rootfs)),
        ("cap_drop", json!(host.cap_drop)),
        ("security_opt", json!(options.collect::<Vec<_>>())),
        ("tmpfs", json!(tmpfs.collect::<Vec<_>>())),
        ("mem_limit", json!(host.memory)),
        ("memswap_limit", json!(host.memory_swap)),
        ("pids_limit", json!(host.pids_limit)),
        ("ulimits", Value::Object(host.ulimits.iter().flatten().filter_map(limit).collect())),
        ("logging", json!(log.map(|log| json!({"driver": log.typ, "options": sorted(log.config.as_ref())})))),
        ("ipc", json!(host.ipc_mode)),
        ("userns_mode", json!(host.userns_mode)),
        ("restart", json!(restart)),
        ("sysctls", json!(sysctls.collect::<Vec<_>>())),
        ("ports", json!(ports.collect::<Vec<_>>())),
        ("volumes", json!(host.mounts.iter().flatten().map(mount).collect::<Vec<_>>())),
    ];
    given(fields)
}

/// Those that say something.
fn given<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let says = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    fields.into_iter().filter(|(_, value)| says(value)).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_health(health: &HealthConfig) -> Value {
    let time = |nanoseconds: Option<i64>| nanoseconds.map(|time| format!("{}s", time / SECOND));
    Value::Object(given([
        ("test", json!(health.test)),
        ("interval", json!(time(health.interval))),
        ("timeout", json!(time(health.timeout))),
        ("retries", json!(health.retries)),
        ("start_period", json!(time(health.start_period))),
    ]))
}

fn port(at: &PortBinding, inside: &str) -> String {
    let (address, port) = (at.host_ip.as_deref().unwrap_or_default(), at.host_port.as_deref().unwrap_or_default());
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{address}:{port}:{inside}")
}

fn limit(limit: &ResourcesUlimits) -> Option<(String, Value)> {
    Some((limit.name.clone()?, json!({"soft": limit.soft, "hard": limit.hard})))
}

fn kind(mount: &Mount) -> String {
    mount.typ.map(|kind| kind.to_string()).unwrap_or_default()
}

fn mount(mount: &Mount) -> Value {
    let read_only = mount.read_only.unwrap_or(false);
    json!({"type": kind(mount), "source": mount.source, "target": mount.target, "read_only": read_only})
}

fn sorted(map: Option<&std::collections::HashMap<String, String>>) -> Map<String, Value> {
    map.into_iter().flatten().map(|(name, value)| (name.clone(), json!(value))).collect()
}

/// Block style; a text as JSON has it, which is YAML too (yaml.org/spec/1.2.2, 1.3).
fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    let pad = "  ".repeat(depth);
    let is_block = |value: &Value| {
        value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|list| !list.is_empty())
    };
    let mut entry = |head: String, value: &Value| {
        if is_block(value) {
            let _ = writeln!(text, "{pad}{head}");
            write_yaml(text, value, depth + 1);
        } else {
            let _ = writeln!(text, "{pad}{head} {value}");
        }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| entry(format!("{name}:"), value)),
        Value::Array(list) => list.iter().for_each(|value| entry("-".to_owned(), value)),
        other => entry(String::new(), other),
    }
}

/// The same in a compose file, which takes a dollar sign for a variable unless there are two.
fn literal(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('$', "$$")),
        Value::Array(list) => list.into_iter().map(literal).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, literal(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_is_told_is_said_in_composes_words() {
        let body = json!({
            "Image": "i:1", "Cmd": ["/lsm", "a: $b"], "ExposedPorts": {"10012/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "/lsm"], "Interval": 15 * SECOND},
            "HostConfig": {
                "NetworkMode": "lsm-signer", "ReadonlyRootfs": true, "Memory": 5, "Tmpfs": {"/tmp": "rw,noexec"},
                "SecurityOpt": ["no-new-privileges:true", "seccomp={\"a\":1}"],
                "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
                "PortBindings": {"10012/tcp": [{"HostIp": "::1", "HostPort": "10012"}]},
                "Mounts": [{"Type": "volume", "Source": "v", "Target": "/signer"}],
                "RestartPolicy": {"Name": "unless-stopped"},
            },
        });
        let text = render_compose("litd-signer", &body.to_string(), Path::new("/root/seccomp.json"), None).unwrap();
        for line in [
            "    container_name: \"litd-signer\"",
            "      - \"a: $$b\"",
            "      - \"seccomp:/root/seccomp.json\"",
            "      - \"[::1]:10012:10012/tcp\"",
            "      interval: \"15s\"",
            "    mem_limit: 5",
            "    restart: \"unless-stopped\"",
            "        soft: 0",
            "  lsm-signer:",
            "    external: true",
        ] {
            assert!(text.lines().any(|said| said == line), "{line:?} in {text}");
        }
        assert!(text.contains("# No litd") && !text.contains("  litd:"), "{text}");
        assert!(!text.contains("null") && !text.contains("{\\\"a"), "{text}");
    }
}
