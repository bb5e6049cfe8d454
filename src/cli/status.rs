//! `lsm status`: what is true of the running signer; it succeeds only where lnd can sign.

mod drift;
mod look;
mod prometheus;
mod signature;

use crate::backend::{Layout, native};
use crate::cli::release::in_words;
use crate::cli::{Common, cert, machine, strings};
use crate::error::{Code, Error, Exit, Result};
use crate::facts::running::Fence;
use crate::guard::{clock, now};
use crate::host::file::{self, Access};
use crate::plan::History;
use crate::spec::Places;
use crate::ui::{self, say};
use clap::Args;
use look::Status;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use time::OffsetDateTime;

const NOT_INSTALLED: Code = Code::refused("E-STATUS-001");

/// `lsm status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo lsm status\n  sudo lsm status --json\n  \
    sudo lsm status --prometheus /var/lib/prometheus/node-exporter/lsm.prom")]
pub struct Options {
    /// Write the same as metrics to this file too, for node_exporter's textfile collector; it is replaced whole
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
}

/// Runs it. Needs root, or the proxy's group: nobody else may enter the socket's folder.
///
/// # Errors
/// Where there is no such signer, its spec cannot be read, or the file cannot be written.
pub fn run(options: &Options, common: &Common) -> Result<ExitCode> {
    let layout = Layout::new(&common.instance);
    let history = History::read(&layout.journal()).ok();
    // A spec that is there and cannot be read is told as that: a signer may run by it.
    if !file::is_there(&layout.spec())? {
        let cut_off = history.as_ref().and_then(machine::describe_cut_off);
        let begun = cut_off.map(|what| format!("; {what}")).unwrap_or_default();
        return Err(Error::new(NOT_INSTALLED, format!("this host has no signer called {}{begun}", common.instance))
            .hint("make one with: lsm install --network NETWORK"));
    }
    let spec = native::read_spec(&layout.spec())?;
    let status = Status::look(spec, history.as_ref());
    if let Some(path) = &options.prometheus {
        file::replace(path, prometheus::render(&status).as_bytes(), Access::mode(0o644))?;
    }
    if ui::voice().json {
        say!("{}", to_json(&status));
    } else {
        show(&status);
    }
    Ok(if status.signs() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Refused as u8) })
}

fn to_json(status: &Status) -> Value {
    let (spec, landlock) = (&status.spec, &status.landlock);
    let peer = |(address, connections)| json!({"address": address, "connections": connections});
    json!({
        "instance": spec.instance, "network": spec.network, "release": spec.release, "signs": status.signs(),
        "wallet": status.state.map(|state| state.name()),
        "listen": spec.listen, "allow": spec.allow, "port_open": status.port_open, "filtered": status.filtered,
        "unit_filters": status.unit_filters, "guard": spec.guard, "guard_runs": status.guard_runs,
        "guard_warnings": status.guard_warnings, "frozen": status.frozen.is_some(),
        "frozen_seconds": status.frozen.and_then(|frozen| frozen.seconds(now())),
        "connected": status.connected.as_ref().map(|peers| peers.iter().map(peer).collect::<Vec<_>>()),
        "sandbox": status.fence,
        "certificate": status.certificate.as_ref().map(|certificate| cert::to_json(certificate, status.now)),
        "next_certificate": status.next_certificate.as_ref().map(|certificate| cert::to_json(certificate, status.now)),
        "retiring_root_keys": status.retiring,
        "bundle": status.exported,
        "last_signature": status.last_signature,
        "identity_pubkey": status.identity_pubkey,
        "landlock": {
            "abi": landlock.number(), "missing": landlock.missing(), "required": spec.require_landlock,
        },
        "drift": status.drift.steps, "drift_unknown": status.drift.unknown, "general_drop_ins": status.drift.general,
        "cut_off": status.cut_off,
        "why": status.why, "judgement": status.judgement, "judgement_reason": status.judgement_reason, "lnd": status.lnd,
        "next": status.next(),
    })
}

fn show(status: &Status) {
    let spec = &status.spec;
    let yes = |is: bool| if is { "yes" } else { "NO" };
    say!("signer     {} on {}, lnd {}", spec.instance, spec.network, spec.release);
    if let Some(reason) = &status.judgement_reason {
        say!("judgement  {}: {reason}", status.judgement);
    }
    say!("can sign   {}{}", yes(status.signs()), status.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default());
    if let Some(runs) = status.guard_runs {
        say!(
            "guard      {}, {}; what it proves: lsm guard status",
            spec.guard.name(),
            if runs { "runs" } else { "does NOT run" }
        );
        status.guard_warnings.iter().for_each(|what| say!("warning    {what}"));
    }
    show_door(status);
    if let Some(last) = &status.last_signature {
        say!("signed     last {} ({})", clock::in_words(last.at * 1000), last.seen_by.words());
    }
    say!("sandbox    {}", status.fence.as_ref().map_or_else(|| "lnd does not run".to_owned(), describe_fence));
    say!("           {}", status.landlock);
    if let Some(certificate) = &status.certificate {
        say!("TLS until  {}", cert::describe_end(certificate, status.now));
    }
    if let Some(next) = &status.next_certificate {
        say!(
            "renewal    {} is in the bundle; once the other side has that: lsm cert renew --finish",
            next.fingerprint()
        );
    }
    if !status.retiring.is_empty() {
        say!("rotation   once the other side has the new macaroon: lsm macaroon rotate --finish");
    }
    if let Some(exported) = &status.exported {
        let since = OffsetDateTime::from_unix_timestamp(exported.at).unwrap_or(status.now);
        let (key, days) = (&exported.root_key_id, (status.now - since).whole_days());
        say!(
            "bundle     {}, its macaroon (root key {key}) of {} ({days} days old)",
            exported.folder.display(),
            since.date()
        );
    }
    if let Some(what) = &status.cut_off {
        say!("unfinished {what}");
    }
    status.drift.show(spec);
    if let Some(identity) = &status.identity_pubkey {
        say!("identity   {identity}");
    }
    if let Some(lnd) = &status.lnd {
        say!("lnd is     the archive with sha256 {}, verified {}", lnd.sha256, lnd.at);
        lnd.provenance.iter().for_each(|provenance| say!("           {}", in_words(provenance)));
    }
    say!("next       {}", status.next().as_deref().unwrap_or("nothing"));
}

/// Who may come in, by what, and who has.
fn show_door(status: &Status) {
    let spec = &status.spec;
    let yes = |is: bool| if is { "yes" } else { "NO" };
    let or = |list: Vec<String>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    say!("port open  {} ({})", yes(status.port_open), spec.listen);
    let twice = match status.unit_filters {
        Some(true) => ", and once more by the unit",
        Some(false) => "; not by the unit: systemd has no eBPF for control groups here",
        None => "",
    };
    if Places::of(spec).are_users() {
        say!(
            "filtered   no: the packet filter is root's; any program of this host may connect, and none from elsewhere"
        );
    } else {
        say!("filtered   {}{twice}", yes(status.filtered));
        say!("allowed    {}", or(strings(&spec.allow), "nobody"));
    }
    if let Some(peers) = &status.connected {
        let peers = peers.iter().map(|(address, times)| format!("{address} ({times})"));
        say!("connected  {}", or(peers.collect(), "nobody"));
    }
}

fn describe_fence(fence: &Fence) -> String {
    let network = match fence.own_network {
        Some(true) => ", a network of its own",
        Some(false) => ", this host's network",
        None => "",
    };
    format!(
        "lnd (process {}, user {}) has {} capability, {} gain privileges, passes {} filters of system calls{network}",
        fence.pid,
        fence.uid,
        if fence.no_capabilities { "no" } else { "SOME" },
        if fence.no_new_privileges { "cannot" } else { "CAN" },
        fence.seccomp_filters
    )
}
