//! A hostile program in lnd's place, on a real installed host: it gets nowhere, and for most each of two layers is enough.

mod column;
mod container;
mod matrix;
mod servers;

use crate::lab;
use crate::lab::host::Debian;
use crate::stage::{Stage, assert_unchanged};
use column::{AS_LND, Attempt, Field, Layers, Outcome};
use container::Container;
use matrix::{Matrix, OF_A_CONTAINER, OF_A_UNIT};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// What the hostile program's sandbox leaves it of everything that runs out (units/lsm@.service, templates/launch.toml).
const DESCRIPTORS: u32 = 4096;
const THREADS: u32 = 256;
const MEMORY: u32 = 3072 / 16;
const DISK: u32 = 64;

const ENOMEM: u32 = 12;
const EPERM: u32 = 1;
const EAGAIN: u32 = 11;
const EMFILE: u32 = 24;
const ENOSPC: u32 = 28;

type Columns = BTreeMap<Layers, BTreeMap<String, Outcome>>;

#[test]
fn a_hostile_lnd_gets_nowhere() {
    let Some((_folder, hostile)) = build() else { return };
    let Some(stage) = Stage::boot("escape") else { return };
    stage.install(&[]).ok();
    let mut field = Field::take(&stage, &hostile);
    let attempts = field.attempts.clone();
    let free = without_a_sandbox(&mut field);
    let matrix = under_each_layer(&mut field, &attempts, &free, OF_A_UNIT);
    what_it_planted_leads_root_nowhere(&stage, &field);
    field.give_back();
    // In host mode lnd has a network: the same attempts on it.
    stage.install(&["--mode=host"]).ok();
    let mut field = Field::take(&stage, &hostile);
    let network: Vec<Attempt> = attempts.into_iter().filter(|a| a.group == "network").collect();
    let host_mode = under_each_layer(&mut field, &network, &free, OF_A_UNIT);
    field.give_back();
    signs(&stage);
    a_purge_goes_no_further_than_its_folders(&stage);

    let seen = [
        "\n## Isolated mode\n\n",
        &matrix.tables(OF_A_UNIT),
        "\n## Host mode\n\nlnd listens on TCP itself; all but the network is as above.\n\n",
        &host_mode.tables(OF_A_UNIT),
        "\n## Not possible\n\nNot even without a sandbox on the host of the test, and so not counted:\n\n",
        &matrix.not_possible(),
    ]
    .concat();
    println!("{seen}");
    assert!(matrix.open(Layers::Both).is_empty(), "got out: {:?}", matrix.open(Layers::Both));
    assert!(host_mode.open(Layers::Both).is_empty(), "got out in host mode: {:?}", host_mode.open(Layers::Both));
    assert!(matrix.counted().count() >= 50);
    for layers in [Layers::Unit, Layers::Launcher] {
        let denied = matrix.counted().count() - matrix.open(layers).len();
        assert!(denied >= 40, "{layers:?} denies {denied} alone, and not {:?}", matrix.open(layers));
    }
    matrix::keep(OF_A_UNIT, &seen);
}

#[test]
fn a_hostile_lnd_in_a_container_gets_nowhere() {
    let Some((_folder, hostile)) = build() else { return };
    let Some(stage) = Stage::boot_of(Debian::Docker, "escape-docker") else { return };
    // A signer of systemd's beside it: what is possible without a sandbox is so as its user.
    stage.install(&[]).ok();
    let container = match Container::take(&stage) {
        Ok(container) => container,
        Err(reason) => return lab::skip(&reason),
    };
    let mut field = Field::take(&stage, &hostile).with(container);
    let attempts = field.attempts.clone();
    let free = without_a_sandbox(&mut field);
    let matrix = under_each_layer(&mut field, &attempts, &free, OF_A_CONTAINER);
    field.give_back();
    let seen = format!("\n## In a container\n\n{}", matrix.tables(OF_A_CONTAINER));
    println!("{seen}");
    let open = matrix.open(Layers::Contained);
    assert!(open.is_empty(), "got out: {open:?}");
    assert!(matrix.counted().count() >= 50);
    matrix::keep(OF_A_CONTAINER, &seen);
}

#[test]
fn a_hostile_lnd_that_takes_all_there_is_is_bounded() {
    let Some((_folder, hostile)) = build() else { return };
    let Some(stage) = Stage::boot("exhaustion") else { return };
    stage.install(&[]).ok();
    a_disk_of_its_own(&stage);
    let field = Field::take(&stage, &hostile);
    for (what, most, errno) in [
        ("processes", 0, EPERM),
        ("threads", THREADS, EAGAIN),
        ("memory", MEMORY, ENOMEM),
        ("descriptors", DESCRIPTORS, EMFILE),
        ("disk", DISK << 4, ENOSPC),
    ] {
        let (took, why) = field.exhaust(Layers::Both, what);
        assert!(took <= most && why == errno, "{what}: {took}, then error {why}");
        assert_eq!(stage.host.run(["systemctl", "is-system-running"]).ok().trim(), "running", "{what}");
    }
    field.give_back();
    signs(&stage);
    a_full_disk_costs_no_wallet(&stage);
}

/// The hostile program and the folder that it is in; `None`, said as a skip, where it cannot be built.
fn build() -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().expect("a folder");
    match column::build(folder.path()) {
        Ok(program) => Some((folder, program)),
        Err(reason) => {
            lab::skip(&reason);
            None
        }
    }
}

/// Every attempt without a sandbox, by whom it needs.
fn without_a_sandbox(field: &mut Field) -> Columns {
    let attempts = field.attempts.clone();
    let columns = [("user", Layers::NoneAsUser), ("root", Layers::NoneAsRoot)].map(|(who, layers)| {
        let names: Vec<&str> = attempts.iter().filter(|a| a.who == who).map(|a| a.name.as_str()).collect();
        (layers, field.column(layers, &names))
    });
    BTreeMap::from(columns)
}

/// These attempts under each of these layers, beside what came of them without.
fn under_each_layer(field: &mut Field, attempts: &[Attempt], free: &Columns, shown: &[(Layers, &str)]) -> Matrix {
    let names: Vec<&str> = attempts.iter().map(|a| a.name.as_str()).collect();
    let mut columns = free.clone();
    for (layers, _) in shown {
        columns.insert(*layers, field.column(*layers, &names));
    }
    Matrix::new(attempts.to_vec(), columns)
}

/// Whatever links and pipes stand in lnd's folders: root's verbs neither hang nor change anything outside.
fn what_it_planted_leads_root_nowhere(stage: &Stage, field: &Field) {
    field.exhaust(Layers::Both, "processes");
    // More than the sandbox lets it plant: as its user, but free.
    let script = "cd /var/lib/lsm/signer && ln -s /etc/shadow tls.key && ln -s /etc away && mkfifo pipe && \
        cd /run/lsm/signer && rm -f lnd.sock && mkfifo lnd.sock && \
        cd /run/lsm/signer-admin && rm -f admin.macaroon && ln -s /etc/shadow admin.macaroon";
    stage.host.sh(&format!("{AS_LND} sh -c '{script}'")).ok();
    let before = stage.listing("/etc /root/out /root/kept /usr/bin");
    let install = format!("{} --dry-run", stage.arguments().join(" "));
    for verb in ["status", "ready", "bundle export --yes --out /root/out/new", &install] {
        let done = stage.host.sh(&format!("timeout -s KILL 60 /root/lsm {verb}"));
        assert!(done.code != 128 + 9, "{verb} hangs: {done:?}");
        assert!(!format!("{}{}", done.stdout, done.stderr).contains("root:"), "{verb}: {done:?}");
    }
    assert_unchanged(&before, &stage.listing("/etc /root/out /root/kept /usr/bin"));
}

/// What leads out of lnd's folders is taken away, and what it leads to stays.
fn a_purge_goes_no_further_than_its_folders(stage: &Stage) {
    stage
        .host
        .sh("mkdir -p /srv/precious/below && date >/srv/precious/below/file && chmod -R a+rwX /srv/precious")
        .ok();
    let script = "cd /var/lib/lsm/signer && ln -s /srv/precious out && ln -s /srv/precious data/out && mkfifo data/pipe && \
        ln -s .. up && mkdir -p deep/er && ln -s /srv/precious/below deep/er/file && chmod 000 deep && \
        cd /run/lsm/signer && ln -s /srv/precious out";
    stage.host.sh(&format!("{AS_LND} sh -c '{script}'")).ok();
    let before = stage.listing("/srv/precious /usr/bin /root/out");
    stage.host.sh("timeout -s KILL 120 /root/lsm uninstall --purge --confirm signer --yes").ok();
    assert_unchanged(&before, &stage.listing("/srv/precious /usr/bin /root/out"));
    for folder in ["/var/lib/lsm/signer", "/run/lsm/signer"] {
        assert!(fs::symlink_metadata(stage.host.path(folder)).is_err(), "{folder} is there still");
    }
}

/// A small disk under lnd's folder.
fn a_disk_of_its_own(stage: &Stage) {
    stage
        .host
        .sh(&format!(
            "systemctl stop lsm@signer && cp -a /var/lib/lsm/signer /root/data && \
             mount -t tmpfs -o size={DISK}m tmpfs /var/lib/lsm/signer && cp -a /root/data/. /var/lib/lsm/signer/"
        ))
        .ok();
}

/// A disk that is full while lnd runs, and when it starts: lnd stops cleanly, and signs with the same key afterwards.
fn a_full_disk_costs_no_wallet(stage: &Stage) {
    let fill = "head -c 99999999 /dev/zero >/var/lib/lsm/signer/full; ! echo more >>/var/lib/lsm/signer/full";
    stage.host.sh(&format!("{AS_LND} sh -c '{fill}'")).ok();
    stage.host.sh("timeout 60 systemctl stop lsm@signer").ok();
    let end = stage.host.sh("systemctl show -P Result -P ExecMainCode -P ExecMainStatus lsm@signer").ok();
    assert_eq!(end.split_whitespace().collect::<Vec<_>>(), ["success", "1", "0"], "lnd did not stop cleanly");
    // Whether it can start on a full disk is lnd's affair; the wait for it is cut short.
    stage.host.sh("timeout 5 systemctl start lsm@signer");
    stage.host.sh("timeout 20 systemctl stop lsm@signer");
    stage.host.run(["rm", "/var/lib/lsm/signer/full"]).ok();
    signs(stage);
}

/// The real lnd is back with its wallet: it signs with the key that the bundle names.
fn signs(stage: &Stage) {
    stage.host.sh("systemctl reset-failed; systemctl start lsm@signer").ok();
    let (signer, bundle) = (stage.signer(), stage.bundle());
    let proof = lab::wait_for("a signature", Duration::from_secs(30), || {
        stage.host.allowed().inside(|| lsm::watch_only::prove_at_signer(&signer, bundle.identity_pubkey()).ok())
    });
    assert_eq!(proof.identity_pubkey, bundle.identity_pubkey());
}
