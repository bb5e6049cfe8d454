#!/usr/bin/python
"""Drives `lsm install`: the plan is its dry run, the change its run, and whether there is one is lsm's to say."""

DOCUMENTATION = r"""
module: install
short_description: Make a host a Lightning remote signer, and keep it one
description:
  - Runs C(lsm install), which converges. What it would do is asked for by its dry run, so that check mode and diff mode
    show its own plan.
  - No option holds a secret and no result does. A new seed is encrypted on the host to an age recipient, and so is the
    bundle that is handed out.
options:
  network:
    description: The bitcoin network.
    type: str
    required: true
    choices: [mainnet, testnet, testnet4, signet, regtest, simnet]
  instance:
    description: Which signer on the host.
    type: str
    default: signer
  listen:
    description: Where the signer answers, IP:PORT. Left out, as it was, or lsm's default.
    type: str
  allow:
    description: Who may connect, addresses or CIDRs; an empty list is nobody. Left out, as it was.
    type: list
    elements: str
  san:
    description: What else the watch-only side dials, names or addresses for the certificate. Left out, as it was.
    type: list
    elements: str
  mode:
    description: How lnd meets the network.
    type: str
    choices: [isolated, host]
  backend:
    description: What runs the signer.
    type: str
    choices: [native, docker]
  release:
    description: The version of lnd. Left out, the installed one, or the newest that is pinned.
    type: str
  archive:
    description: An archive of lnd on the host, or a folder of C(lsm release fetch). Left out, lsm gets it.
    type: path
  seed_recipient:
    description: The age recipient (age1...) that the words of a new wallet are encrypted to. Needed where there is no wallet yet.
    type: str
  seed_file:
    description: Where the encrypted words of a new wallet go on the host. Nothing may be there yet when one is made.
    type: path
    default: /root/lsm-seed.age
  bundle_recipient:
    description: The age recipient that the bundle is encrypted to. Left out, none is handed out.
    type: str
  bundle_dir:
    description: The folder on the host for the encrypted bundle, one for each instance.
    type: path
    default: /root/lsm-bundle
  program:
    description: The lsm on the host.
    type: str
    default: lsm
attributes:
  check_mode:
    support: full
    description: Nothing is changed; lsm's dry run tells whether something would be.
  diff_mode:
    support: full
    description: The steps of lsm's plan.
author: The maintainers of lsm
"""

EXAMPLES = r"""
- name: The host is a signer
  lsm.signer.install:
    network: mainnet
    listen: 10.0.0.5:10012
    allow: [10.0.0.7]
    seed_recipient: age1...
    bundle_recipient: age1...
"""

RETURN = r"""
steps:
  description: How many steps lsm had to do.
  returned: always
  type: int
signer:
  description: What lsm tells of the signer. Its identity_pubkey, listen, network and release are public.
  returned: when not in check mode, or when nothing is to be done
  type: dict
seed_file:
  description: The encrypted words, where a wallet was made now.
  returned: when a wallet was made
  type: str
encrypted_bundle:
  description: The encrypted bundle on the host.
  returned: when bundle_recipient is given; in check mode where it is there already
  type: str
"""

import hashlib
import json
import os

from ansible.module_utils.basic import AnsibleModule

# The name that lsm gives an encrypted bundle.
BUNDLE = "credentials-bundle.tar.gz.b64.age"


class Lsm:
    """The lsm of the host: one object out, or the end of the task with lsm's own code, cause and hint."""

    def __init__(self, module):
        self.module = module
        self.program = module.params["program"]

    def run(self, arguments):
        """What lsm prints."""
        code, out, err = self.module.run_command([self.program] + arguments + ["--instance", self.module.params["instance"]])
        if code != 0:
            self.fail(code, out, err)
        return out

    def json(self, arguments):
        """The object that lsm prints."""
        return json.loads(self.run(arguments + ["--json"]))

    def fail(self, code, out, err):
        """Ends the task as lsm ended."""
        try:
            told = json.loads(out)["error"]
            text = "%s: %s" % (told["code"], told["cause"])
            if told.get("hint"):
                text += " (%s)" % told["hint"]
        except (ValueError, KeyError, TypeError):
            text = err.strip() or out.strip()
        self.module.fail_json(msg=text, rc=code)


def arguments_of(params):
    """The arguments of `lsm install`: what was left out is left to lsm."""
    arguments = ["install", "--network", params["network"]]
    for option, name in [
        ("--listen", "listen"), ("--mode", "mode"), ("--backend", "backend"), ("--release", "release"), ("--from", "archive"),
    ]:
        if params[name] is not None:
            arguments += [option, params[name]]
    for option, name in [("--allow", "allow"), ("--san", "san")]:
        for value in params[name] or []:
            arguments += [option, value]
    if params["allow"] == []:
        arguments += ["--allow", "none"]
    if params["seed_recipient"] is not None:
        arguments += ["--seed-age", params["seed_recipient"], "--seed-out", params["seed_file"]]
    return arguments


def hand_out(module, lsm, bundle):
    """Encrypts the bundle where the last encrypted one is not of it, or for somebody else. Returns its file, and whether it
    was made now: encrypting twice never gives the same bytes, so a note beside it says of what it is."""
    folder, recipient = module.params["bundle_dir"], module.params["bundle_recipient"]
    encrypted, note = os.path.join(folder, BUNDLE), os.path.join(folder, "of.json")
    of = {"recipient": recipient, "bundle": fingerprint(lsm, bundle)}
    was = read_note(note) if os.path.exists(encrypted) else None
    # Where the plain one was moved away nothing tells of what the encrypted one is but its note.
    if was == of or (was is not None and of["bundle"] is None and was.get("recipient") == recipient):
        return encrypted, False
    if not module.check_mode:
        lsm.run(["bundle", "export", "--encrypt-to", recipient, "--out", folder, "--yes"])
        of["bundle"] = fingerprint(lsm, bundle)
        aside = os.path.join(module.tmpdir, "of.json")
        with open(aside, "w") as file:
            json.dump(of, file)
        module.atomic_move(aside, note)
    return encrypted, True


def fingerprint(lsm, bundle):
    """What tells one bundle from the next, the signer's address and all; nothing where it is not there any more."""
    if not os.path.exists(bundle):
        return None
    told = lsm.json(["bundle", "show", "--bundle", bundle])
    shown = {name: told[name] for name in ("network", "lnd_version", "birthday", "recovery_window", "rpchost", "sha256")}
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def read_note(path):
    """What the last encrypted bundle is of; nothing where that cannot be told."""
    try:
        with open(path) as file:
            told = json.load(file)
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def choice(*choices):
    """An option that is one of these."""
    return {"type": "str", "choices": list(choices)}


def main():
    """Runs the module."""
    module = AnsibleModule(
        supports_check_mode=True,
        argument_spec={
            "network": dict(choice("mainnet", "testnet", "testnet4", "signet", "regtest", "simnet"), required=True),
            "instance": {"type": "str", "default": "signer"},
            "listen": {"type": "str"},
            "allow": {"type": "list", "elements": "str"},
            "san": {"type": "list", "elements": "str"},
            "mode": choice("isolated", "host"),
            "backend": choice("native", "docker"),
            "release": {"type": "str"},
            "archive": {"type": "path"},
            "seed_recipient": {"type": "str"},
            "seed_file": {"type": "path", "default": "/root/lsm-seed.age"},
            "bundle_recipient": {"type": "str"},
            "bundle_dir": {"type": "path", "default": "/root/lsm-bundle"},
            "program": {"type": "str", "default": "lsm"},
        },
    )
    lsm = Lsm(module)
    if module.get_bin_path(lsm.program) is None and not os.path.exists(lsm.program):
        if module.check_mode:
            # The task before this one would have brought it.
            module.exit_json(changed=True, steps=0, msg="lsm is not there yet")
        module.fail_json(msg="there is no %s on the host" % lsm.program)

    install = arguments_of(module.params)
    plan = lsm.json(install + ["--dry-run"])["steps"]
    result = {"changed": bool(plan), "steps": len(plan)}
    if plan and module._diff:
        result["diff"] = {"before": "", "after": lsm.run(install + ["--dry-run"]), "after_header": "lsm install"}
    if module.check_mode and plan:
        module.exit_json(**result)
    # Without consent it tells of a signer that is complete, and does nothing.
    told = lsm.json(install + ([] if module.check_mode else ["--yes"]))
    seed = told.pop("seed", None)
    if seed:
        result["seed_file"] = seed
    result["signer"] = told
    if module.params["bundle_recipient"] is not None:
        encrypted, made = hand_out(module, lsm, told["bundle"])
        result["changed"] = result["changed"] or made
        if os.path.exists(encrypted):
            result["encrypted_bundle"] = encrypted
    module.exit_json(**result)


if __name__ == "__main__":
    main()
