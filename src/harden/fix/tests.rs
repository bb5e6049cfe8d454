//! What is planned for which finding, by facts alone.

use super::*;
use crate::harden::tests::recorded;
use crate::harden::{Choice, checks, judge};

const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";
const SYSRQ: &str = "/proc/sys/kernel/sysrq";

/// A host with nothing known of it but these texts.
fn host(texts: &[(&str, &str)]) -> Host {
    let mut host = recorded();
    host.texts = texts.iter().map(|(path, text)| ((*path).to_owned(), Answer::Is((*text).to_owned()))).collect();
    host
}

fn fixes(host: &Host, ids: &[&str]) -> Fixes {
    let ids: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let only = Choice { only: ["KERN-001", "KERN-020", "SSH-002"].map(str::to_owned).into(), ..Choice::default() };
    fix(host, &judge(host, &only), &ids)
}

#[test]
fn every_mend_is_of_a_check_and_no_check_has_two() {
    let ids: BTreeSet<&str> = MENDS.iter().map(|mend| mend.id).collect();
    assert_eq!(ids.len(), MENDS.len());
    assert!(ids.iter().chain(&OF_INSTALL).all(|id| checks().any(|check| check.id == *id)));
    let dangerous = ["KERN-", "SSH-", "DISK-"];
    for mend in MENDS.iter().filter(|mend| mend.safe) {
        assert!(!dangerous.iter().any(|area| mend.id.starts_with(area)), "{} is never done unasked", mend.id);
    }
}

#[test]
fn the_kernel_is_changed_by_name_alone_and_an_earlier_fix_stays_in_the_file() {
    let there = [(SCOPE, "0\n"), (SYSRQ, "438\n"), (SYSCTL, "# x\nkernel.kptr_restrict = 1\nkernel.sysrq=1\n")];
    let unasked = fixes(&host(&there), &[]);
    assert_eq!((unasked.steps, unasked.named_only), (vec![], vec!["KERN-001", "KERN-020"]));
    let asked = fixes(&host(&there), &["KERN-001", "KERN-020"]);
    let text = format!("{HEAD}kernel.kptr_restrict = 1\nkernel.sysrq = 176\nkernel.yama.ptrace_scope = 1\n");
    let settings = vec![(SYSRQ.into(), "176".into()), (SCOPE.into(), "1".into())];
    assert_eq!(asked.steps, [Step::Sysctl { file: SYSCTL.into(), text, settings }]);
    // Named, and not a finding.
    assert_eq!(fixes(&host(&[(SCOPE, "2\n")]), &["KERN-001"]).mended, [""; 0]);
    // A kernel that lacks what would mend it.
    let without = fixes(&host(&[]), &["KERN-001"]);
    assert_eq!((without.steps.len(), without.by_hand.len()), (0, 1));
    let unasked = fixes(&host(&[]), &[]);
    assert!(!unasked.named_only.contains(&"KERN-001"), "what has no step is not offered");
    assert!(unasked.by_hand.iter().any(|(id, _)| *id == "KERN-001"));
}

#[test]
fn a_drop_in_is_written_where_sshd_reads_it() {
    let told = include_str!("../../../tests/harden/sshd.txt")
        .replace("\npasswordauthentication no", "\npasswordauthentication yes");
    let mut one = host(&[(SSH_CONFIG, "  include /etc/ssh/sshd_config.d/*.conf\n"), (SSH_UNIT, "")]);
    one.root = true;
    one.programs.insert("sshd -T".to_owned(), Answer::Is(told));
    let steps = fixes(&one, &["SSH-002"]).steps;
    let [Step::Text { path, text, .. }, Step::Reload { unit, .. }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((path, unit.as_str()), (&PathBuf::from(SSH), "ssh.service"));
    assert_eq!(*text, format!("{HEAD}KbdInteractiveAuthentication no\nPasswordAuthentication no\n"));
    one.texts.insert(SSH_CONFIG.to_owned(), Answer::Is("# Include /etc/ssh/sshd_config.d/*.conf\n".to_owned()));
    assert_eq!(fixes(&one, &["SSH-002"]).by_hand.len(), 1);
}

#[test]
fn whose_a_file_is_changes_unasked_only_where_it_is_lsms() {
    let mut gathered = Gathered::default();
    let loose = |path: &str, to_root| Loose { path: path.into(), mode: 0o644, to_root };
    let close = |gathered: &mut Gathered, path, to_root, named| gathered.close(&[loose(path, to_root)], named);
    assert!(close(&mut gathered, "/usr/local/lib/lsm/lsm", true, false) == Added::All);
    assert!(close(&mut gathered, "/opt/run", false, false) == Added::All);
    assert!(close(&mut gathered, "/opt/other", true, false) == Added::OnlyNamed);
    assert!(close(&mut gathered, "/opt/other", true, true) == Added::All);
    assert_eq!(gathered.close.len(), 3);
}
