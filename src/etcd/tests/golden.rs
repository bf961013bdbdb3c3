//! Requests and answers as etcd's own gateway gives them, from a script: `golden.txt`.

use base64::prelude::{BASE64_STANDARD, Engine};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use super::{Member, run};

const SCRIPT: &str = include_str!("golden.txt");

#[test]
fn the_gateway_answers_as_etcds_does() {
    run(async {
        let member = Member::start().await;
        let lines: Vec<_> = SCRIPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let mut differences = Vec::new();
        for row in lines.chunk_by(|_, next| !next.starts_with('/')) {
            let (request, expected) = row.split_first().unwrap();
            let answers = ask(&member, request, expected.len()).await;
            if !expected.iter().zip(&answers).all(|(expected, answer)| is_told(expected, answer)) {
                differences.push(format!("{request}\n  expected {expected:?}\n  answered {answers:?}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        member.stop().await;
    });
}

/// The first `count` lines of the answer, each after the HTTP status.
async fn ask(member: &Member, request: &str, count: usize) -> Vec<String> {
    let (path, json) = request.split_once(' ').unwrap();
    let named = path.starts_with("/v3/lock/") || path.starts_with("/v3/election/");
    let json = recoded(serde_json::from_str(json).unwrap(), named, &encoded);
    let mut response = member.post(path, json.to_string()).await;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.iter().filter(|byte| **byte == b'\n').count() < count {
        let Some(frame) = response.body_mut().frame().await else { break };
        body.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let answer = |line| recoded(serde_json::from_slice(line).unwrap(), named, &decoded);
    lines.take(count).map(|line| format!("{status} {}", answer(line))).collect()
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn decoded(base64: &str) -> String {
    String::from_utf8(BASE64_STANDARD.decode(base64).unwrap()).unwrap()
}

/// `value` with the fields of bytes changed by `recode`, and each header as its revision.
fn recoded(value: Value, named: bool, recode: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(|value| recoded(value, named, recode)).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| match (name.as_str(), value) {
                ("header", header) => {
                    let revision = header.get("revision").map_or("0", |revision| revision.as_str().unwrap());
                    ("rev".to_owned(), revision.parse::<i64>().unwrap().into())
                }
                ("key" | "range_end" | "value", Value::String(text)) => (name, recode(&text).into()),
                ("name", Value::String(text)) if named => (name, recode(&text).into()),
                (_, value) => (name, recoded(value, named, recode)),
            };
            Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Whether `answer` is what `expected` says.
fn is_told(expected: &str, answer: &str) -> bool {
    let split = |line: &str| {
        let (status, json) = line.split_once(' ').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(json).unwrap())
    };
    let (expected, answer) = (split(expected), split(answer));
    expected.0 == answer.0 && matches(&expected.1, &answer.1)
}

/// A star in an expected text stands for anything.
fn matches(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::Object(fields), Value::Object(answers)) => {
            // The order of fields is part of the answer.
            fields.len() == answers.len()
                && fields.iter().zip(answers).all(|(field, answer)| field.0 == answer.0 && matches(field.1, answer.1))
        }
        (Value::Array(items), Value::Array(answers)) => {
            items.len() == answers.len() && items.iter().zip(answers).all(|(item, answer)| matches(item, answer))
        }
        (Value::String(text), answer) if text == "*" => answer.is_string() || answer.is_number(),
        (Value::String(text), Value::String(answer)) => match text.split_once('*') {
            Some((before, after)) => answer.starts_with(before) && answer.ends_with(after),
            None => text == answer,
        },
        (expected, answer) => expected == answer,
    }
}
