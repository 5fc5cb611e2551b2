//! Which address is next. Pure: knows no files.

use crate::Conflict;
use ipnet::Ipv4Net;
use std::{collections::HashSet, net::Ipv4Addr};

/// The addresses of a subnet that can be leased: all but the network's, the gateway's (first) and the broadcast.
pub(crate) struct Range {
    subnet: Ipv4Net,
    first: u32,
    last: u32,
}

impl Range {
    /// `subnet` is a /30 or larger (see [`crate::Network::validate`]).
    pub(crate) fn of(subnet: Ipv4Net) -> Self {
        Self {
            subnet,
            first: subnet.network().to_bits() + 2,
            last: subnet.broadcast().to_bits() - 1,
        }
    }

    /// How many leases there can be.
    fn len(&self) -> u32 {
        self.last - self.first + 1
    }

    /// The next free address after `last`, around the end; or the wanted one.
    ///
    /// Going round keeps an address unused for as long as possible after its pod is gone, so that late packets and
    /// cached neighbours reach nobody rather than somebody else.
    pub(crate) fn choose(
        &self,
        wanted: Option<Ipv4Addr>,
        last: Option<Ipv4Addr>,
        taken: &[(Ipv4Addr, &str)],
    ) -> Result<Ipv4Addr, Conflict> {
        if let Some(wanted) = wanted {
            return self.wanted(wanted, taken);
        }
        let taken: HashSet<u32> = taken.iter().map(|(address, _)| address.to_bits()).collect();
        let start = match last.map(Ipv4Addr::to_bits) {
            Some(last) if (self.first..self.last).contains(&last) => last + 1,
            _ => self.first,
        };
        (start..=self.last)
            .chain(self.first..start)
            .find(|candidate| !taken.contains(candidate))
            .map(Ipv4Addr::from_bits)
            .ok_or(Conflict::Exhausted {
                subnet: self.subnet,
                leases: self.len(),
            })
    }

    fn wanted(&self, wanted: Ipv4Addr, taken: &[(Ipv4Addr, &str)]) -> Result<Ipv4Addr, Conflict> {
        if !(self.first..=self.last).contains(&wanted.to_bits()) {
            let (first, last) = (
                Ipv4Addr::from_bits(self.first),
                Ipv4Addr::from_bits(self.last),
            );
            return Err(Conflict::OutOfRange {
                address: wanted,
                first,
                last,
            });
        }
        match taken.iter().find(|(address, _)| *address == wanted) {
            Some((_, label)) => Err(Conflict::AddressTaken {
                address: wanted,
                label: (*label).to_owned(),
            }),
            None => Ok(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Range;
    use crate::Conflict;
    use ipnet::Ipv4Net;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, net::Ipv4Addr};

    fn subnet(text: &str) -> Ipv4Net {
        text.parse().expect("subnet")
    }

    #[test]
    fn goes_round_before_an_address_comes_back() {
        let range = Range::of(subnet("10.0.0.0/29"));
        let mut last = None;
        let mut seen = Vec::new();
        for _ in 0..6 {
            last = Some(range.choose(None, last, &[]).expect("free"));
            seen.extend(last.map(|address| address.octets()[3]));
        }
        assert_eq!(seen, [2, 3, 4, 5, 6, 2]);
    }

    #[test]
    fn a_slash_30_has_one_lease() {
        let range = Range::of(subnet("10.0.0.8/30"));
        let only = Ipv4Addr::new(10, 0, 0, 10);
        assert_eq!(range.choose(None, Some(only), &[]), Ok(only));
        assert_eq!(
            range.choose(None, None, &[(only, "default/a")]),
            Err(Conflict::Exhausted {
                subnet: subnet("10.0.0.8/30"),
                leases: 1
            })
        );
    }

    #[test]
    fn a_wanted_address_is_given_or_explained() {
        let range = Range::of(subnet("10.0.0.0/24"));
        let wanted = Ipv4Addr::new(10, 0, 0, 77);
        assert_eq!(range.choose(Some(wanted), None, &[]), Ok(wanted));
        assert!(
            matches!(range.choose(Some(wanted), None, &[(wanted, "default/a")]), Err(Conflict::AddressTaken { label, .. }) if label == "default/a")
        );
        for reserved in [
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.255",
            "10.0.1.2",
            "9.255.255.255",
        ] {
            let wanted = reserved.parse().expect("address");
            assert!(
                matches!(
                    range.choose(Some(wanted), None, &[]),
                    Err(Conflict::OutOfRange { .. })
                ),
                "{reserved}"
            );
        }
    }

    proptest! {
        /// Whatever order leases are taken and given back in: never a double, never a reserved address, exhaustion
        /// exactly when all are taken, and everything free again at the end.
        #[test]
        fn leases_are_distinct(prefix in 26_u8..=30, moves in prop::collection::vec((any::<bool>(), any::<u16>()), 1..300)) {
            let subnet = Ipv4Net::new(Ipv4Addr::new(10, 9, 8, 192), prefix).expect("prefix").trunc();
            let range = Range::of(subnet);
            let room = 2_usize.pow(32 - u32::from(prefix)) - 3;
            let (mut held, mut last) = (BTreeMap::new(), None);
            for (take, which) in moves {
                let taken: Vec<(Ipv4Addr, &str)> = held.keys().map(|address| (*address, "x")).collect();
                if take {
                    match range.choose(None, last, &taken) {
                        Ok(address) => {
                            prop_assert!(subnet.contains(&address));
                            prop_assert!(address != subnet.network() && address != subnet.broadcast());
                            prop_assert_ne!(address.to_bits(), subnet.network().to_bits() + 1);
                            prop_assert_eq!(held.insert(address, ()), None);
                            last = Some(address);
                        }
                        Err(_) => prop_assert_eq!(held.len(), room),
                    }
                } else if !held.is_empty() {
                    let gone = *held.keys().nth(usize::from(which) % held.len()).expect("held");
                    held.remove(&gone);
                }
            }
            held.clear();
            for _ in 0..room {
                let taken: Vec<(Ipv4Addr, &str)> = held.keys().map(|address| (*address, "x")).collect();
                last = Some(range.choose(None, last, &taken).expect("released"));
                held.extend(last.map(|address| (address, ())));
            }
            prop_assert_eq!(held.len(), room);
        }
    }
}
