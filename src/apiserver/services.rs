//! Addresses of Services: cluster IPs and node ports. Each is claimed by a key of its own in the transaction that
//! writes the Service, so that frontends never allocate the same one twice, and nothing leaks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Range;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::kube::resources::Resource;
use crate::kube::status::{Cause, Status};
use crate::world::{Random, Revision};

use super::error::Error;
use super::storage::{Storage, Write};

const ADDRESSES: &str = "/registry/ranges/serviceips/";
const PORTS: &str = "/registry/ranges/servicenodeports/";

/// The cluster's service network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u32,
    size: u32,
}

impl Network {
    /// `10.96.0.0/16`.
    pub fn parse(cidr: &str) -> Result<Network, Error> {
        let refuse = || Error::ServiceCidr(cidr.to_owned());
        let (address, bits) = cidr.split_once('/').ok_or_else(refuse)?;
        let address: Ipv4Addr = address.parse().map_err(|_| refuse())?;
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(refuse)?;
        let size = 1u32 << (32 - bits);
        let base = u32::from(address);
        if base % size == 0 { Ok(Network { base, size }) } else { Err(refuse()) }
    }

    /// The address of the `kubernetes` Service.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The network and broadcast addresses are never given out.
    fn contains(&self, address: Ipv4Addr) -> bool {
        (self.base + 1..self.base + self.size - 1).contains(&u32::from(address))
    }

    /// Addresses are allocated from this offset on. Those below it are left to users who choose an address themselves,
    /// and are allocated only when the others are taken.
    fn band(&self) -> u32 {
        (self.size / 16).clamp(16, 256).min(self.size / 2)
    }

    fn pick(&self, random: &Random, used: &BTreeSet<String>) -> Option<Ipv4Addr> {
        let band = self.band();
        let (above, below) = (band..self.size - 1, 1..band);
        let free = |offset: u32| Some(Ipv4Addr::from(self.base + offset)).filter(|ip| !used.contains(&ip.to_string()));
        turned(random, above).find_map(free).or_else(|| turned(random, below).find_map(free))
    }
}

/// The numbers of a range, beginning at a random one and wrapping around.
fn turned(random: &Random, range: Range<u32>) -> impl Iterator<Item = u32> {
    let length = range.end.saturating_sub(range.start).max(1);
    let from = random.within(0..u64::from(length)) as u32;
    (0..length).map(move |step| range.start + (from + step) % length)
}

/// Allocates and releases addresses.
pub struct Addresses {
    pub storage: Storage,
    pub random: Random,
    pub network: Network,
    pub node_ports: Range<u16>,
}

impl Addresses {
    /// Fills in the addresses that a Service needs and does not have. The write that is returned claims them, and
    /// releases those that `old` had and the new state no longer has.
    pub async fn allocate(
        &self,
        resource: &Resource,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Write, Status> {
        if !is_service(resource) {
            return Ok(Write::default());
        }
        if let Some(old) = old {
            keep_allocated(service, old);
        }
        let had = old.map(claims).unwrap_or_default();
        self.fill_address(service, &had).await?;
        self.fill_ports(service, &had).await?;
        let has = claims(service);
        let owner =
            Bytes::from(format!("{}/{}", text(&service["metadata"]["namespace"]), text(&service["metadata"]["name"])));
        let mut write = Write::default();
        for key in has.difference(&had) {
            write = write.if_revision(key, Revision(0)).put(key, owner.clone(), None);
        }
        for key in had.difference(&has) {
            write = write.delete(key);
        }
        Ok(write)
    }

    /// Releases the addresses of a Service.
    pub fn release(&self, resource: &Resource, service: &Value) -> Write {
        if !is_service(resource) {
            return Write::default();
        }
        claims(service).iter().fold(Write::default(), |write, key| write.delete(key))
    }

    async fn fill_address(&self, service: &mut Value, had: &BTreeSet<String>) -> Result<(), Status> {
        let spec = &mut service["spec"];
        let wanted = text(&spec["clusterIP"]).to_owned();
        if text(&spec["type"]) == "ExternalName" || wanted == "None" {
            return Ok(());
        }
        if had.contains(&format!("{ADDRESSES}{wanted}")) && !wanted.is_empty() {
            return Ok(());
        }
        let used: BTreeSet<String> = self.storage.keys_under(ADDRESSES).await?.into_iter().collect();
        let address = if wanted.is_empty() {
            let picked = self.network.pick(&self.random, &used);
            picked.ok_or_else(|| Status::internal_error("failed to allocate a serviceIP: range is full"))?
        } else {
            self.check_address(service, &wanted, &used)?
        };
        let spec = &mut service["spec"];
        spec["clusterIP"] = json!(address.to_string());
        spec["clusterIPs"] = json!([address.to_string()]);
        Ok(())
    }

    fn check_address(&self, service: &Value, wanted: &str, used: &BTreeSet<String>) -> Result<Ipv4Addr, Status> {
        let refuse = |why: &str| {
            let message = format!("Invalid value: [\"{wanted}\"]: failed to allocate IP {wanted}: {why}");
            invalid(service, "spec.clusterIPs", message)
        };
        let address: Ipv4Addr = wanted.parse().map_err(|_| refuse("it is not an IPv4 address"))?;
        if !self.network.contains(address) {
            return Err(refuse("the provided IP is not in the valid range of the cluster's Services"));
        }
        if used.contains(wanted) { Err(refuse("provided IP is already allocated")) } else { Ok(address) }
    }

    async fn fill_ports(&self, service: &mut Value, had: &BTreeSet<String>) -> Result<(), Status> {
        if !matches!(text(&service["spec"]["type"]), "NodePort" | "LoadBalancer") {
            return Ok(());
        }
        let mut used: BTreeSet<String> = self.storage.keys_under(PORTS).await?.into_iter().collect();
        let whole = service.clone();
        for port in ports_mut(service) {
            let protocol = protocol(port).to_owned();
            let own = |number: u16| format!("{number}/{protocol}");
            let wanted = port["nodePort"].as_u64().unwrap_or(0);
            let number = if wanted == 0 {
                let range = u32::from(self.node_ports.start)..u32::from(self.node_ports.end);
                let free = |number: u32| u16::try_from(number).ok().filter(|number| !used.contains(&own(*number)));
                let picked = turned(&self.random, range).find_map(free);
                picked.ok_or_else(|| Status::internal_error("failed to allocate a nodePort: range is full"))?
            } else {
                let number = u16::try_from(wanted).ok().filter(|number| self.node_ports.contains(number));
                let number = number
                    .ok_or_else(|| self.port_refused(&whole, wanted, "provided port is not in the valid range"))?;
                if used.contains(&own(number)) && !had.contains(&format!("{PORTS}{}", own(number))) {
                    return Err(self.port_refused(&whole, wanted, "provided port is already allocated"));
                }
                number
            };
            used.insert(own(number));
            port["nodePort"] = json!(number);
        }
        Ok(())
    }

    fn port_refused(&self, service: &Value, wanted: u64, why: &str) -> Status {
        let Range { start, end } = self.node_ports;
        let range = format!(". The range of valid ports is {start}-{}", end - 1);
        invalid(service, "spec.ports[0].nodePort", format!("Invalid value: {wanted}: {why}{range}"))
    }
}

fn invalid(service: &Value, field: &str, message: String) -> Status {
    let cause = Cause { reason: "FieldValueInvalid".to_owned(), message: message.clone(), field: field.to_owned() };
    let name = text(&service["metadata"]["name"]);
    Status::invalid_with("", "Service", name, &format!("{field}: {message}"), vec![cause])
}

fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

/// The ports, mutable; none where there are none.
fn ports_mut(service: &mut Value) -> impl Iterator<Item = &mut Value> {
    let ports = service.get_mut("spec").and_then(|spec| spec.get_mut("ports"));
    ports.and_then(Value::as_array_mut).into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// The keys that hold a Service's addresses.
fn claims(service: &Value) -> BTreeSet<String> {
    let spec = &service["spec"];
    let mut keys = BTreeSet::new();
    if text(&spec["type"]) == "ExternalName" {
        return keys;
    }
    let address = text(&spec["clusterIP"]);
    if !address.is_empty() && address != "None" {
        keys.insert(format!("{ADDRESSES}{address}"));
    }
    if matches!(text(&spec["type"]), "NodePort" | "LoadBalancer") {
        for port in spec["ports"].as_array().into_iter().flatten() {
            if let Some(number) = port["nodePort"].as_u64().filter(|number| *number > 0) {
                keys.insert(format!("{PORTS}{number}/{}", protocol(port)));
            }
        }
    }
    keys
}

/// A replacement that leaves out what was allocated keeps it.
fn keep_allocated(service: &mut Value, old: &Value) {
    if text(&service["spec"]["type"]) == "ExternalName" {
        return;
    }
    if text(&service["spec"]["clusterIP"]).is_empty() && text(&old["spec"]["type"]) != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if !old["spec"][field].is_null() {
                service["spec"][field] = old["spec"][field].clone();
            }
        }
    }
    if !matches!(text(&service["spec"]["type"]), "NodePort" | "LoadBalancer") {
        for port in ports_mut(service) {
            if let Some(port) = port.as_object_mut() {
                port.shift_remove("nodePort");
            }
        }
        return;
    }
    for port in ports_mut(service) {
        if port["nodePort"].as_u64().unwrap_or(0) > 0 {
            continue;
        }
        let same = |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        let before = old["spec"]["ports"].as_array().into_iter().flatten().find(same);
        if let Some(number) = before.map(|before| before["nodePort"].clone()).filter(|number| !number.is_null()) {
            port["nodePort"] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let network = Network::parse("10.96.0.0/16").unwrap();
        assert_eq!(network.first(), Ipv4Addr::new(10, 96, 0, 1));
        for bad in ["10.96.0.0", "10.96.0.1/16", "fd00::/108", "10.96.0.0/31", "10.0.0.0/4", "x/16"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_given_until_none_is_left() {
        let network = Network::parse("10.0.0.0/29").unwrap();
        let random = Random::from_seed(1);
        let mut used = BTreeSet::new();
        while let Some(address) = network.pick(&random, &used) {
            assert!(network.contains(address) && used.insert(address.to_string()));
        }
        assert_eq!(used.len(), 6);
    }

    #[test]
    fn chosen_addresses_have_a_band_of_their_own() {
        let network = Network::parse("10.96.0.0/16").unwrap();
        for seed in 0..50 {
            let address = network.pick(&Random::from_seed(seed), &BTreeSet::new()).unwrap();
            assert!(u32::from(address) - network.base >= 256);
        }
    }

    #[test]
    fn an_update_keeps_what_was_allocated() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"],
            "ports": [{"port": 80, "nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        keep_allocated(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.96.1.1");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        assert!(new["spec"]["ports"][1]["nodePort"].is_null());

        let mut plain = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30001}]}});
        keep_allocated(&mut plain, &old);
        assert_eq!(claims(&plain).len(), 1, "the node port is let go");
    }
}
