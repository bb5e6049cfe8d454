//! A signer whose secrets are sealed to a TPM: it starts with that one alone, and comes back from its words without.

use super::machine;
use crate::lab::vm::Firmware;
use crate::lab::wait_for;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(900);
/// What is sealed.
const SEALED: [&str; 3] = ["wallet-password", "tls-key", "guard-macaroon"];
/// What begins a credential that the host's key and a TPM open together (CRED_AES256_GCM_BY_HOST_AND_TPM2 in systemd's
/// src/shared/creds-util.c).
const BY_HOST_AND_TPM: &str = "93a894094874449090caf2fc93cab553";

#[test]
#[ignore = "long: boots of an emulated machine"]
fn a_signer_that_a_tpm_seals_comes_back_from_its_words_when_the_tpm_is_lost() {
    let Some(mut vm) = machine() else { return };
    if !vm.put_in_tpm() {
        return;
    }
    vm.boot(Firmware::SecureBoot, "");
    vm.make("mkdir -m 700 /root/out");
    let said = vm.install("--guard=enforce --seed-out=/root/out/seed");
    assert!(!said.contains("the TPM cannot be used"), "{said}");
    for secret in SEALED {
        let head = format!(
            "base64 -d /etc/credstore.encrypted/lsm-signer.{secret} | head -c 16 | od -A n -t x1 | tr -d ' \\n'"
        );
        assert_eq!(vm.sh(&head).ok(), BY_HOST_AND_TPM, "{secret}");
    }
    let bundle = vm.bundle();
    wait_for("a signature", PATIENCE, || vm.sign(&bundle).ok());

    // That TPM opens them after a boot too.
    vm.stop();
    vm.boot_with_signer(Firmware::SecureBoot, "");
    wait_for("a signature after a boot", PATIENCE, || vm.sign(&bundle).ok());

    // Another one does not, and the host's key alone is not enough.
    vm.stop();
    vm.put_in_tpm();
    vm.boot(Firmware::SecureBoot, "");
    wait_for("a start that fails for want of its password", PATIENCE, || {
        let status = vm.sh("systemctl show --property=ExecMainStatus lsm@signer.service").ok();
        (status.trim() == "ExecMainStatus=243").then_some(())
    });
    let said = vm.lsm("status");
    assert!(said.code != 0 && vm.sign(&bundle).is_err(), "{said:?}");

    // As the guide has it.
    vm.lsm("uninstall --purge --confirm signer --yes").ok();
    vm.install("--restore --seed-file=/root/out/seed");
    let restored = vm.bundle();
    assert_eq!(restored.identity_pubkey(), bundle.identity_pubkey());
    wait_for("a signature of the restored signer", PATIENCE, || vm.sign(&restored).ok());

    // A TPM without the libraries that systemd asks for at that moment: the host's key, and it is said.
    vm.lsm("uninstall --purge --confirm signer --yes").ok();
    vm.make("cd /usr/lib/x86_64-linux-gnu && mkdir /root/away && mv libtss2-*.so* /root/away");
    let said = vm.install("--restore --seed-file=/root/out/seed");
    assert!(said.contains("the TPM cannot be used"), "{said}");
    wait_for("a signature without a TPM", PATIENCE, || vm.sign(&vm.bundle()).ok());
}
