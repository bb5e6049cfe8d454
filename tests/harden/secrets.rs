//! Faults that the SECR checks have to find.

use super::{Area, Planted, Recorded};
use serde_json::{Value, json};

pub const AREA: Area = Area { planted: PLANTED, recorded: RECORDED, clean: &[] };

const PLANTED: &[Planted] = &[
    Planted {
        found: ("SECR-001", "fail"),
        cause: "chmod 0750 /var/lib/lsm/signer",
        cure: "chmod 0700 /var/lib/lsm/signer",
        with: &[],
    },
    // The folder makes up for it.
    Planted {
        found: ("SECR-001", "warn"),
        cause: "chmod 0640 /var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db",
        cure: "chmod 0600 /var/lib/lsm/signer/data/chain/bitcoin/regtest/wallet.db",
        with: &[],
    },
    Planted {
        found: ("SECR-002", "fail"),
        cause: "chmod 0733 /var/lib/lsm",
        cure: "chmod 0711 /var/lib/lsm",
        with: &[],
    },
    Planted {
        found: ("SECR-003", "fail"),
        cause: "{ echo ls; for n in $(seq 24); do printf 'zoo '; done; echo; } >/root/.bash_history",
        cure: "rm /root/.bash_history",
        with: &[],
    },
    Planted {
        found: ("SECR-003", "fail"),
        cause: "for n in $(seq 24); do echo $n. abandon; done >/var/lib/lsm/signer/x",
        cure: "rm /var/lib/lsm/signer/x",
        with: &[],
    },
    // A pipe where a history should be is no file with a seed, and is not waited on.
    Planted {
        found: ("SECR-003", "fail"),
        cause: "mkfifo /root/.sh_history /root/x.macaroon && ln -s . /root/loop && \
            mkdir -p /srv/a && for n in $(seq 24); do printf 'zoo '; done >/srv/a/notes",
        cure: "rm -r /root/.sh_history /root/x.macaroon /root/loop /srv/a",
        with: &[],
    },
    Planted {
        found: ("SECR-004", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && \
            printf '[Service]\\nEnvironment=WALLET_PASSWORD=hunter2\\n' >$d/x.conf && systemctl daemon-reload",
        cure: "rm -r /run/systemd/system/lsm@signer.service.d && systemctl daemon-reload",
        with: &["UNIT-001"],
    },
    Planted {
        found: ("SECR-005", "fail"),
        cause: "d=/run/systemd/system/lsm@signer.service.d; mkdir -p $d && (umask 077; echo x >/root/out/x) && \
            printf '[Service]\\nLoadCredential=wallet-password:/root/out/x\\n' >$d/x.conf && systemctl daemon-reload",
        cure: "rm -r /root/out/x /run/systemd/system/lsm@signer.service.d && systemctl daemon-reload",
        with: &["UNIT-001"],
    },
    Planted {
        found: ("SECR-006", "fail"),
        cause: "cp /run/lsm/signer-admin/admin.macaroon /var/backups/old.macaroon",
        cure: "rm /var/backups/old.macaroon",
        with: &[],
    },
    Planted {
        found: ("SECR-007", "fail"),
        cause: "cp -a /root/out/bundle/admin.macaroon /root/out/kept && \
            cat /run/lsm/signer-admin/admin.macaroon >/root/out/bundle/admin.macaroon",
        cure: "mv /root/out/kept /root/out/bundle/admin.macaroon",
        with: &["SECR-006"],
    },
    // The folder makes up for it.
    Planted {
        found: ("SECR-008", "warn"),
        cause: "chmod 0644 /root/out/bundle/accounts.json",
        cure: "chmod 0600 /root/out/bundle/accounts.json",
        with: &[],
    },
    Planted {
        found: ("SECR-008", "fail"),
        cause: "cp -a /root/out/bundle /srv/bundle && chmod 0755 /srv/bundle && chmod 0644 /srv/bundle/accounts.json",
        cure: "rm -r /srv/bundle",
        with: &[],
    },
    Planted {
        found: ("SECR-009", "fail"),
        cause: "chmod 0640 /etc/credstore.encrypted/lsm-signer.wallet-password",
        cure: "chmod 0600 /etc/credstore.encrypted/lsm-signer.wallet-password",
        with: &[],
    },
];

const RECORDED: &[Recorded] = &[
    // No program on the host sets an access control list.
    Recorded {
        found: ("SECR-001", "fail"),
        cause: |facts| kept(facts)["folder"]["is"][1]["acl"] = json!(true),
        with: &[],
    },
    Recorded {
        found: ("SECR-001", "error"),
        cause: |facts| kept(facts)["folder"] = json!({ "unknown": "no" }),
        with: &[],
    },
    // lnd's folder is closed, and the wallet is not in it.
    Recorded {
        found: ("SECR-001", "fail"),
        cause: |facts| {
            let mut wallet = kept(facts)["folder"]["is"][0].clone();
            (wallet["path"], wallet["mode"]) = (json!("/srv/x"), json!(0o755));
            kept(facts)["data"] = json!({ "is": [wallet] });
        },
        with: &[],
    },
    Recorded {
        found: ("SECR-003", "error"),
        cause: |facts| facts["secrets"]["strewn"]["unseen"] = json!(["/root"]),
        with: &["SECR-006"],
    },
    Recorded {
        found: ("SECR-003", "warn"),
        cause: |facts| facts["secrets"]["strewn"]["cut_short"] = json!(true),
        with: &["SECR-006"],
    },
    Recorded { found: ("SECR-007", "fail"), cause: |facts| permit_musig2(facts), with: &[] },
    Recorded {
        found: ("SECR-007", "warn"),
        cause: |facts| {
            permit_musig2(facts);
            facts["signers"][0]["spec"]["is"]["taproot_channels"] = json!(true);
        },
        with: &[],
    },
];

fn kept(facts: &mut Value) -> &mut Value {
    &mut facts["secrets"]["kept"]["lsm@signer.service"]
}

fn permit_musig2(facts: &mut Value) {
    let permissions = &mut facts["secrets"]["strewn"]["macaroons"][0]["permissions"];
    let permissions = permissions.as_array_mut().expect("the bundle's macaroon");
    permissions.push(json!("uri:/signrpc.Signer/MuSig2Sign"));
}
