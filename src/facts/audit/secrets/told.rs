//! Secrets among arguments, variables and lines of units: where one is, and never the secret itself.

use super::words::holds_seed;
use crate::signer::macaroon::Macaroon;

/// What the name of a secret has in it.
const SECRET: [&str; 4] = ["pass", "secret", "mnemonic", "cipherseed"];
/// What the name of something ends with that says where a secret is and is none.
const POINTER: [&str; 4] = ["file", "path", "dir", "folder"];

/// The names of arguments (`--name=value`, `--name value`) that hold a secret.
pub(in crate::facts::audit) fn in_arguments(arguments: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = arguments.iter().peekable();
    let mut place = 0;
    while let Some(argument) = rest.next() {
        place += 1;
        let Some(name) = argument.strip_prefix("--") else {
            if is_secret("", argument) {
                found.push(format!("argument {place}"));
            }
            continue;
        };
        let value = match name.split_once('=') {
            Some((_, value)) => value,
            None => rest.peek().filter(|next| !next.starts_with('-')).map_or("", |next| next.as_str()),
        };
        let name = name.split('=').next().unwrap_or_default();
        if is_secret(name, value) {
            found.push(format!("--{name}"));
        }
    }
    if found.is_empty() && holds_seed(arguments.join(" ").as_bytes()) {
        found.push("24 words".to_owned());
    }
    found
}

/// The names of variables (`NAME=value`) that hold a secret.
pub(in crate::facts::audit) fn in_variables(variables: &[String]) -> Vec<String> {
    let named = variables.iter().filter_map(|one| one.split_once('='));
    named.filter(|(name, value)| is_secret(name, value)).map(|(name, _)| name.to_owned()).collect()
}

/// What of a unit's text (systemd.exec(5)) holds a secret, by the names of its settings.
pub(super) fn in_unit(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in settings(text) {
        let words: Vec<String> = value.split_whitespace().map(|word| word.replace(['"', '\''], "")).collect();
        let inside = match name {
            "Environment" => in_variables(&words),
            // In clear text, by the setting's nature.
            "SetCredential" => value.split(':').take(1).map(str::to_owned).collect(),
            _ if name.starts_with("Exec") => in_arguments(&words),
            _ => Vec::new(),
        };
        found.extend(inside.into_iter().map(|one| format!("{name} {one}")));
    }
    found
}

/// The settings in a unit's text: `Name=value`, comments left out.
pub(super) fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim(), value.trim()))
}

fn is_secret(name: &str, value: &str) -> bool {
    // The bytes of every macaroon of lnd's begin so: version 2, and who made it.
    let is_macaroon = value.starts_with("0201036c6e64") && Macaroon::parse_hex(value).is_ok();
    is_macaroon || (is_named_secret(name) && is_value(value)) || holds_seed(value.as_bytes())
}

fn is_named_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part)) && !POINTER.iter().any(|end| name.ends_with(end))
}

/// Not a switch, and not where something else is.
fn is_value(value: &str) -> bool {
    !matches!(value, "" | "0" | "1" | "true" | "false") && !value.starts_with(['/', '$', '~', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn secrets_in_arguments_are_named_and_pointers_are_none() {
        let seed = vec!["abandon"; 24].join(" ");
        for (line, found) in [
            ("--bitcoind.rpcpass=hunter2 --norest", vec!["--bitcoind.rpcpass"]),
            ("--tor.password hunter2", vec!["--tor.password"]),
            ("--wallet-unlock-password-file=$CREDENTIALS_DIRECTORY/wallet-password", vec![]),
            ("--wallet-unlock-password-file /etc/x --noseedbackup", vec![]),
            ("--remotesigner.macaroonpath=/x", vec![]),
            (seed.as_str(), vec!["24 words"]),
        ] {
            assert_eq!(in_arguments(&words(line)), found, "{line}");
        }
        assert_eq!(in_arguments(&[format!("--x={seed}")]), ["--x"]);
    }

    #[test]
    fn secrets_in_a_unit_are_named_and_their_values_are_not() {
        let text = "[Service]\n# Environment=PASSWORD=no\nEnvironment=\"WALLET_PASSWORD=hunter2\" A=b\n\
            ExecStart=/bin/lnd --tor.password=hunter2\nSetCredential=wallet:hunter2\nLoadCredential=a:/b\n";
        let found = in_unit(text);
        assert_eq!(found, ["Environment WALLET_PASSWORD", "ExecStart --tor.password", "SetCredential wallet"]);
        assert!(in_variables(&words("PATH=/bin CREDENTIALS_DIRECTORY=/run/x SSH_ASKPASS=/bin/y")).is_empty());
    }
}
