//! What `lsm status` found as a text file for Prometheus's node_exporter (its textfile collector).

use super::look::Status;
use std::fmt::Write;

/// A metric's value for this signer, with labels of its own.
struct Metric<'a> {
    name: &'a str,
    help: &'a str,
    labels: String,
    value: i64,
}

/// In the exposition format, version 0.0.4. What cannot be told is left out.
pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    let common = format!("instance=\"{}\",network=\"{}\"", status.spec.instance, status.spec.network);
    for Metric { name, help, labels, value } in metrics(status) {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{common}{labels}}} {value}\n");
    }
    text
}

fn metrics(status: &Status) -> Vec<Metric<'_>> {
    let metric = |name, help, value| Metric { name, help, labels: String::new(), value };
    let yes = |name, help, is: bool| metric(name, help, i64::from(is));
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let fence = status.fence.as_ref();
    let holds = fence.map(|fence| fence.no_capabilities && fence.no_new_privileges && fence.seccomp_filters > 0);
    let version = format!(",version=\"{}\",judgement=\"{}\"", status.spec.release, status.judgement);
    let drift = status.drift.steps.as_ref();
    let connections = status.connected.as_ref().map(|peers| peers.values().map(|n| i64::from(*n)).sum());
    let ends = status.certificate.as_ref().map(|certificate| certificate.validity().1.unix_timestamp());
    let told = [
        Some(Metric {
            labels: version,
            ..metric("lsm_signer_info", "The lnd that is wanted, and how the policy in force judges it.", 1)
        }),
        Some(yes("lsm_signer_signs", "1 where lnd can sign.", status.signs())),
        Some(yes("lsm_signer_port_open", "1 where the signer's port is open.", status.port_open)),
        Some(yes("lsm_signer_filtered", "1 where lsm's packet filter is loaded.", status.filtered)),
        Some(yes("lsm_signer_cut_off", "1 where a change was cut off.", status.cut_off.is_some())),
        holds
            .map(|is| yes("lsm_signer_confined", "1 where lnd has no capability and passes a system call filter.", is)),
        drift.map(|steps| metric("lsm_signer_drift_steps", "What lsm install would do.", count(steps.len()))),
        Some(metric("lsm_signer_allowed", "Entries of the allowlist.", count(status.spec.allow.len()))),
        connections.map(|n| metric("lsm_signer_connections", "Connections to the signer's port.", n)),
        status.last_signature.map(|last| Metric {
            labels: format!(",seen_by=\"{}\"", last.seen_by.name()),
            ..metric(
                "lsm_signer_last_signature_seconds",
                "When something was signed last that was seen, in unix time.",
                i64::try_from(last.at).unwrap_or(i64::MAX),
            )
        }),
        ends.map(|at| metric("lsm_signer_certificate_expiry_seconds", "When the certificate ends, in unix time.", at)),
        status.exported.as_ref().map(|exported| {
            metric(
                "lsm_signer_macaroon_written_seconds",
                "When the bundle's macaroon was written, in unix time.",
                exported.at,
            )
        }),
        Some(metric("lsm_status_time_seconds", "When this was written, in unix time.", status.now.unix_timestamp())),
    ];
    told.into_iter().flatten().collect()
}
