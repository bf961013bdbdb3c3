//! The endpoints of the Service `kubernetes`: each frontend keeps a record with a lease, and every frontend writes the
//! endpoints from the records that exist, so that a frontend that is gone disappears from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use serde_json::{Value, json};

use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::LeaseId;

use super::codec;
use super::request::{Api, timestamp};
use super::storage::{Write, refusal};

const RECORDS: &str = "/registry/masterleases/";
const TTL_SECONDS: i64 = 15;
const NAMESPACE: Option<&str> = Some("default");

impl Api {
    /// Renews this frontend's record and brings the endpoints up to date.
    pub(super) async fn publish_endpoint(&self, ip: IpAddr, port: u16) -> Result<(), Status> {
        let granted = self.storage.store().lease_grant(pb::LeaseGrantRequest { ttl: TTL_SECONDS, id: 0 }).await;
        let lease = LeaseId(granted.map_err(|error| refusal(&error))?.id);
        let key = format!("{RECORDS}{ip}/{port}");
        self.storage.commit(Write::default().put(&key, Bytes::new(), Some(lease))).await?;
        let records = self.storage.keys_under(RECORDS).await?;
        let ports = by_port(&records);
        self.write_if_changed("", "endpoints", "kubernetes", endpoints(&ports)).await?;
        let first = ports.keys().next().copied();
        for (port, addresses) in &ports {
            let name = if Some(*port) == first { "kubernetes".to_owned() } else { format!("kubernetes-{port}") };
            self.write_if_changed("discovery.k8s.io", "endpointslices", &name, slice(*port, addresses)).await?;
        }
        Ok(())
    }

    /// Writes an object that differs from what it should be. These objects skip validation: they name addresses that
    /// users may not name, such as a loopback address in a cluster on one machine.
    async fn write_if_changed(&self, group: &str, plural: &str, name: &str, wanted: Value) -> Result<(), Status> {
        let resource = self.table.get(group, "v1", plural).ok_or_else(Status::no_such_resource)?;
        let key = self.storage.key(resource, NAMESPACE, name)?;
        let write = match self.storage.read(resource, NAMESPACE, name).await? {
            None => Write::create(&key, codec::encode(&self.fresh(resource, name, wanted)), None),
            Some(stored) => {
                let mut object = stored.object.value();
                let before = object.clone();
                for (field, value) in wanted.as_object().into_iter().flatten() {
                    object[field] = value.clone();
                }
                if object == before {
                    return Ok(());
                }
                Write::replace(&key, stored.revision, codec::encode(&object), None)
            }
        };
        // On a conflict another frontend has written the same.
        self.storage.commit(write).await.map(|_| ())
    }

    fn fresh(&self, resource: &Resource, name: &str, wanted: Value) -> Value {
        let mut object = json!({
            "apiVersion": resource.group_version(),
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": self.world.random.uuid().to_string(),
                "creationTimestamp": timestamp(self.world.clock.unix()),
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
        });
        if resource.plural == "endpointslices" {
            object["metadata"]["labels"] = json!({"kubernetes.io/service-name": "kubernetes"});
        }
        for (field, value) in wanted.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        object
    }
}

/// Addresses by port, from records `ip/port`.
fn by_port(records: &[String]) -> BTreeMap<u16, BTreeSet<String>> {
    let mut ports: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for record in records {
        if let Some((ip, port)) = record.rsplit_once('/')
            && let Ok(port) = port.parse()
        {
            ports.entry(port).or_default().insert(ip.to_owned());
        }
    }
    ports
}

fn endpoints(ports: &BTreeMap<u16, BTreeSet<String>>) -> Value {
    let subset = |(port, addresses): (&u16, &BTreeSet<String>)| {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})
    };
    json!({"subsets": ports.iter().map(subset).collect::<Vec<_>>()})
}

fn slice(port: u16, addresses: &BTreeSet<String>) -> Value {
    let endpoint = |ip: &String| json!({"addresses": [ip], "conditions": {"ready": true}});
    json!({
        "addressType": if addresses.iter().any(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" },
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_subsets_by_port() {
        let records = ["127.0.0.1/6443", "127.0.0.1/16443", "10.0.0.2/6443", "nonsense"].map(str::to_owned);
        let ports = by_port(&records);
        assert_eq!(
            endpoints(&ports)["subsets"][0],
            json!({"addresses": [{"ip": "10.0.0.2"}, {"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]})
        );
        assert_eq!(slice(6443, &ports[&6443])["endpoints"].as_array().map(Vec::len), Some(2));
    }
}
