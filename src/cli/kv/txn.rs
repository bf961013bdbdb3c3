//! Transactions, in the grammar of etcdctl: compares, a blank line, requests on success, a blank line, requests on
//! failure.
//!
//! ```text
//! mod("key") > "0"
//! value("lock") = "me"
//!
//! put key "new value"
//! get --prefix key
//!
//! del lock
//! ```

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, anyhow, bail};
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chorus_proto::etcdserverpb::request_op::Request;
use clap::Parser;
use clap::error::ErrorKind;

use super::args::{Del, Get, Put, lease_id};
use super::session::Session;
use crate::cli::terminal::line;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Ask for each section even if the input is no terminal.
    #[arg(short, long)]
    interactive: bool,
}

pub(super) async fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let ask = args.interactive || stdin.is_terminal();
    let request = read(&mut stdin.lock(), ask)?;
    Ok(session.printer.txn(&session.store.txn(request).await?)?)
}

fn read(input: &mut impl BufRead, ask: bool) -> anyhow::Result<pb::TxnRequest> {
    let mut section = |title: &str| {
        if ask {
            line(format!("{title}:"))?;
        }
        lines(input)
    };
    let compare = section("compares")?.iter().map(|line| compare(line)).collect::<anyhow::Result<_>>()?;
    let success = section("success requests (get, put, del)")?;
    let failure = section("failure requests (get, put, del)")?;
    let requests = |lines: Vec<String>| lines.iter().map(|line| request(line)).collect::<anyhow::Result<_>>();
    Ok(pb::TxnRequest { compare, success: requests(success)?, failure: requests(failure)? })
}

/// The lines up to a blank one, or to the end.
fn lines(input: &mut impl BufRead) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        let read = input.read_line(&mut line).context("reading the transaction from standard input")?;
        if read == 0 || line.trim().is_empty() {
            return Ok(lines);
        }
        lines.push(line.trim().to_owned());
    }
}

/// `target("key") op "value"`.
fn compare(line: &str) -> anyhow::Result<pb::Compare> {
    let malformed = || anyhow!("{line}: a compare is written TARGET(\"KEY\") OP \"VALUE\"");
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = quoted(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let op_end = rest.find(|c: char| !"=!<>".contains(c)).ok_or_else(malformed)?;
    let (op, rest) = rest.split_at(op_end);
    let (value, rest) = quoted(rest.trim_start()).ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let result = match op {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => bail!("{line}: {op} is none of =, !=, <, >"),
    };
    let (target, union) = self::target(target.trim(), &value).with_context(|| line.to_owned())?;
    Ok(pb::Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        target_union: Some(union),
        ..Default::default()
    })
}

fn target(name: &str, value: &str) -> anyhow::Result<(CompareTarget, TargetUnion)> {
    let number = || value.parse::<i64>().with_context(|| format!("{value:?} is not a number"));
    Ok(match name {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" | "c" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "mod" | "m" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.to_owned().into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(lease_id(value).map_err(anyhow::Error::msg)?)),
        _ => bail!("{name} is none of version, create, mod, value, lease"),
    })
}

/// One request of a transaction, with the same options as the command of its name.
#[derive(Parser, Debug)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
pub(super) enum Op {
    Get(Get),
    Put(Put),
    Del(Del),
}

fn request(line: &str) -> anyhow::Result<pb::RequestOp> {
    let words = words(line).with_context(|| format!("{line}: a quote is not closed"))?;
    let op = Op::try_parse_from(words).map_err(|error| anyhow!("{line}: {}", reason(&error)))?;
    let request = match op {
        Op::Get(get) => Request::RequestRange(get.request()?),
        Op::Put(put) => Request::RequestPut(put.request(|| bail!("{line}: put needs a value"))?),
        Op::Del(del) => Request::RequestDeleteRange(del.request()?),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// What is wrong with a request, without the usage of a command line that clap adds.
fn reason(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::InvalidSubcommand {
        return "a request begins with get, put or del".to_owned();
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Words between blanks; those in double quotes may hold blanks and escapes, those in single quotes are literal.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = vec![];
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' => quoted(rest)?,
            '\'' => {
                let (word, after) = rest[1..].split_once('\'')?;
                (word.to_owned(), after)
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

/// The double-quoted text at the beginning of `text`, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut word = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &inner[at + 1..])),
            '\\' => word.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                other => other,
            }),
            other => word.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_read_in_three_sections() {
        let text =
            "mod(\"key 1\") > \"0\"\nvalue(\"a\")=\"x\\\"y\"\n\nput key \"new value\"\nget --prefix key\n\ndel 'a b'\n";
        let txn = read(&mut text.as_bytes(), false).unwrap();
        assert_eq!(txn.compare.len(), 2);
        assert_eq!((&txn.compare[0].key[..], txn.compare[0].result), (&b"key 1"[..], CompareResult::Greater as i32));
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        assert_eq!(txn.compare[1].target_union, Some(TargetUnion::Value("x\"y".into())));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else { panic!("{txn:?}") };
        assert_eq!((&put.key[..], &put.value[..]), (&b"key"[..], &b"new value"[..]));
        let Some(Request::RequestRange(get)) = &txn.success[1].request else { panic!("{txn:?}") };
        assert_eq!(get.range_end, "kez");
        let Some(Request::RequestDeleteRange(del)) = &txn.failure[0].request else { panic!("{txn:?}") };
        assert_eq!(del.key, "a b");
    }

    #[test]
    fn malformed_lines_are_named() {
        for (line, part) in [
            ("mod(key) > \"0\"", "TARGET"),
            ("mod(\"key\") => \"0\"", "none of ="),
            ("size(\"key\") = \"0\"", "none of version"),
            ("mod(\"key\") = \"x\"", "mod(\"key\")"),
        ] {
            let error = compare(line).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
        for line in ["put a", "get", "put a \"b", "move a b"] {
            let error = request(line).unwrap_err().to_string();
            assert!(error.starts_with(line) && !error.contains("Usage") && !error.contains('\n'), "{error}");
        }
        assert_eq!(request("move a b").unwrap_err().to_string(), "move a b: a request begins with get, put or del");
    }
}
