//! A packet whose way through the packet filter is asked for.

use crate::facts::audit::Protocol;
use std::net::IpAddr;

/// The first packet of a connection, or a single one.
#[derive(Debug, Clone)]
pub struct Packet {
    /// What carries it; nothing where it is neither.
    pub protocol: Option<Protocol>,
    /// Where it comes from, where that counts.
    pub from: Option<IpAddr>,
    /// Where it goes to, where that is one address.
    pub to: Option<IpAddr>,
    /// To which port, where that counts.
    pub port: Option<u16>,
    /// It is of IPv6.
    pub is_v6: bool,
    /// Of one that leaves: the user who sends it, by number and, where it has one, name.
    pub sender: Option<(u32, Option<String>)>,
    /// Which way it goes.
    pub way: Way,
}

/// Which way a packet goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Way {
    /// From another host to this one, or the other way round.
    #[default]
    Here,
    /// From another host to what is behind this interface.
    Into(String),
    /// From behind this interface, to wherever.
    OutOf(String),
}
