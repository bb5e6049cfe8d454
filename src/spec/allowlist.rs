//! The allowlist with one entry more or less.

use super::Spec;
use crate::error::{Code, Error, Result};
use ipnet::IpNet;

const IN_WIDER: Code = Code::refused("E-SPEC-006");

impl Spec {
    /// The same with `net` allowed; nothing changes where all of it is.
    ///
    /// # Errors
    /// Where everybody would be allowed.
    pub fn allowing(&self, net: IpNet) -> Result<Self> {
        let allow = self.allow.iter().copied().chain([net]).collect();
        Self { allow, ..self.clone() }.checked()
    }

    /// The same without `net` and all that is in it; nothing changes where none of it is allowed.
    ///
    /// # Errors
    /// Where it is a part of a wider net that is allowed.
    pub fn forbidding(&self, net: IpNet) -> Result<Self> {
        if let Some(wider) = self.allow.iter().find(|there| there.contains(&net) && **there != net) {
            return Err(Error::new(IN_WIDER, format!("{net} is a part of {wider}, which is allowed as a whole"))
                .hint(format!("add what is to stay of it, as smaller nets, after removing {wider}")));
        }
        let allow = self.allow.iter().copied().filter(|there| !net.contains(there)).collect();
        Self { allow, ..self.clone() }.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Instance, Network, parse_cidr};

    fn spec(allow: &[&str]) -> Spec {
        let allow = allow.iter().map(|net| parse_cidr(net).unwrap()).collect();
        Spec { allow, ..Spec::new(&Instance::default(), Network::Regtest, "v0") }
    }

    #[test]
    fn what_is_allowed_already_changes_nothing() {
        let before = spec(&["10.0.0.0/24", "fd00::1"]);
        for net in ["10.0.0.0/24", "10.0.0.7", "fd00::1"] {
            assert_eq!(before.allowing(parse_cidr(net).unwrap()).unwrap(), before, "{net}");
        }
        let more = before.allowing(parse_cidr("10.0.1.0/24").unwrap()).unwrap();
        assert_eq!(more.allow, spec(&["10.0.0.0/23", "fd00::1"]).allow);
    }

    #[test]
    fn nobody_adds_the_other_half_of_everybody() {
        assert!(spec(&["0.0.0.0/1"]).allowing(parse_cidr("128.0.0.0/1").unwrap()).is_err());
    }

    #[test]
    fn what_is_in_the_net_goes_and_a_part_of_a_wider_one_does_not() {
        let before = spec(&["10.0.0.7", "10.0.0.16/28", "fd00::1"]);
        let without = |net: &str| before.forbidding(parse_cidr(net).unwrap());
        assert_eq!(without("10.0.0.7").unwrap(), spec(&["10.0.0.16/28", "fd00::1"]));
        assert_eq!(without("10.0.0.0/24").unwrap(), spec(&["fd00::1"]));
        assert_eq!(without("10.0.0.8").unwrap(), before);
        let error = without("10.0.0.17").unwrap_err();
        assert_eq!(error.code(), IN_WIDER);
        assert!(error.cause().contains("10.0.0.16/28"), "{error}");
    }
}
