//! Services, endpoints, endpoint slices.

use serde_json::{Value, json};

use super::age;
use super::table::Printer;
use super::words::{labels, name, or_none, some_of};
use crate::kube::tree::{items, plain, text};

pub fn service() -> Printer {
    let columns = [
        ("Name", "string", 0),
        ("Type", "string", 0),
        ("Cluster-IP", "string", 0),
        ("External-IP", "string", 0),
        ("Port(s)", "string", 0),
        ("Age", "string", 0),
        ("Selector", "string", 1),
    ];
    Printer::new(&columns, |object, now| {
        let spec = &object["spec"];
        vec![
            name(object),
            spec["type"].clone(),
            or_none(items(spec, "clusterIPs").first().and_then(Value::as_str).unwrap_or(text(spec, "clusterIP"))),
            json!(external_ip(object)),
            or_none(&ports(spec)),
            age::of(object, now),
            labels(spec, "selector"),
        ]
    })
}

fn external_ip(service: &Value) -> String {
    let spec = &service["spec"];
    let mut addresses: Vec<String> = items(spec, "externalIPs").iter().map(plain).collect();
    match text(spec, "type") {
        "ExternalName" => return text(spec, "externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = items(&service["status"]["loadBalancer"], "ingress").iter();
            let given = ingress.map(|one| match text(one, "ip") {
                "" => text(one, "hostname").to_owned(),
                ip => ip.to_owned(),
            });
            let mut given: Vec<String> = given.filter(|address| !address.is_empty()).collect();
            given.sort();
            given.append(&mut addresses);
            if given.is_empty() {
                return "<pending>".into();
            }
            addresses = given;
        }
        _ => {}
    }
    if addresses.is_empty() { "<none>".into() } else { addresses.join(",") }
}

fn ports(spec: &Value) -> String {
    let one = |port: &Value| match port["nodePort"].as_i64().unwrap_or(0) {
        0 => format!("{}/{}", port["port"], text(port, "protocol")),
        node_port => format!("{}:{node_port}/{}", port["port"], text(port, "protocol")),
    };
    items(spec, "ports").iter().map(one).collect::<Vec<_>>().join(",")
}

pub fn endpoints() -> Printer {
    Printer::new(&[("Name", "string", 0), ("Endpoints", "string", 0), ("Age", "string", 0)], |object, now| {
        let mut all = Vec::new();
        for subset in items(object, "subsets") {
            for address in items(subset, "addresses") {
                let ip = text(address, "ip");
                let ports = items(subset, "ports");
                if ports.is_empty() {
                    all.push(ip.to_owned());
                }
                all.extend(ports.iter().map(|port| join_host_port(ip, &port["port"])));
            }
        }
        vec![name(object), or_none(&some_of(all)), age::of(object, now)]
    })
}

fn join_host_port(ip: &str, port: &Value) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub fn endpoint_slice() -> Printer {
    let columns = [
        ("Name", "string", 0),
        ("AddressType", "string", 0),
        ("Ports", "string", 0),
        ("Endpoints", "string", 0),
        ("Age", "string", 0),
    ];
    Printer::new(&columns, |object, now| {
        let ports = items(object, "ports").iter().map(|port| match port.get("port") {
            None | Some(Value::Null) => "*".to_owned(),
            Some(port) => plain(port),
        });
        let ports = some_of(ports.collect());
        let addresses = items(object, "endpoints").iter().flat_map(|one| items(one, "addresses")).map(plain);
        let addresses = some_of(addresses.collect());
        let or_unset = |text: String| json!(if text.is_empty() { "<unset>".to_owned() } else { text });
        vec![name(object), object["addressType"].clone(), or_unset(ports), or_unset(addresses), age::of(object, now)]
    })
}
