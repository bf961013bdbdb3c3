//! Do the rules that a user holds cover the rules that it wants to grant? Pure.
//!
//! Rules are taken apart into their smallest pieces (one verb on one resource of one group, or on one path), and each
//! piece has to lie within a single rule that is held. This is upstream's comparison, with its blind spots: a right
//! that only several rules together amount to is not found.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

const ALL: &str = "*";

/// The pieces of `wanted` that no rule of `held` covers.
pub fn missing(held: &[&PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(breakdown).filter(|piece| !held.iter().any(|rule| covers(rule, piece))).collect()
}

/// Rules as refusals show them: verbs on the same resource together, one rule a line, in order.
pub fn describe(rules: &[PolicyRule]) -> String {
    let lines: BTreeSet<String> = compact(rules).iter().map(line).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// A list of words as Go prints it: `["a" "b"]`.
pub fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}

/// Each verb on each resource of each group and name, and each verb on each path.
fn breakdown(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |word: &String| Some(vec![word.clone()]);
    let mut pieces = Vec::new();
    for verb in &rule.verbs {
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                let piece = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                match list(&rule.resource_names) {
                    [] => pieces.push(piece),
                    names => pieces
                        .extend(names.iter().map(|name| PolicyRule { resource_names: one(name), ..piece.clone() })),
                }
            }
        }
        for path in list(&rule.non_resource_urls) {
            pieces.push(PolicyRule {
                verbs: vec![verb.clone()],
                non_resource_urls: one(path),
                ..PolicyRule::default()
            });
        }
    }
    pieces
}

fn covers(rule: &PolicyRule, piece: &PolicyRule) -> bool {
    has_all(&rule.verbs, &piece.verbs)
        && has_all(list(&rule.api_groups), list(&piece.api_groups))
        && list(&piece.resources).iter().all(|wanted| has_resource(list(&rule.resources), wanted))
        && has_names(list(&rule.resource_names), list(&piece.resource_names))
        && list(&piece.non_resource_urls).iter().all(|wanted| has_path(list(&rule.non_resource_urls), wanted))
}

fn has(words: &[String], wanted: &str) -> bool {
    words.iter().any(|word| word == wanted)
}

fn has_all(held: &[String], wanted: &[String]) -> bool {
    has(held, ALL) || wanted.iter().all(|word| has(held, word))
}

fn has_resource(held: &[String], wanted: &str) -> bool {
    let of_any = wanted.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    has(held, ALL) || has(held, wanted) || of_any.is_some_and(|of_any| has(held, &of_any))
}

/// A right to some names is none to all.
fn has_names(held: &[String], wanted: &[String]) -> bool {
    held.is_empty() || (!wanted.is_empty() && wanted.iter().all(|name| has(held, name)))
}

fn has_path(held: &[String], wanted: &str) -> bool {
    held.iter().any(|path| {
        path == wanted || path.strip_suffix('*').is_some_and(|front| wanted.starts_with(front.trim_end_matches('*')))
    })
}

/// Rules about one resource (and at most one name) with the verbs of all that are about the same.
pub fn compact(rules: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut compacted: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let is_simple = |rule: &PolicyRule| {
            list(&rule.api_groups).len() == 1
                && list(&rule.resources).len() == 1
                && list(&rule.resource_names).len() <= 1
                && list(&rule.non_resource_urls).is_empty()
        };
        let same = |other: &&mut PolicyRule| {
            is_simple(rule)
                && is_simple(other)
                && other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && list(&other.resource_names) == list(&rule.resource_names)
        };
        match compacted.iter_mut().find(same) {
            None => compacted.push(rule.clone()),
            Some(known) => {
                let more: Vec<String> = rule.verbs.iter().filter(|verb| !has(&known.verbs, verb)).cloned().collect();
                known.verbs.extend(more);
            }
        }
    }
    compacted
}

fn line(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(name, words)| format!("{name}:{}", quoted(words)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(',')
            .filter(|word| !word.is_empty())
            .map(|word| if word == "core" { "" } else { word }.to_owned())
            .collect()
    }

    /// `verbs groups resources names`
    fn rule(text: &str) -> PolicyRule {
        let parts: Vec<&str> = text.split(' ').collect();
        let some = |at: usize| parts.get(at).map(|part| words(part));
        PolicyRule {
            verbs: words(parts[0]),
            api_groups: some(1),
            resources: some(2),
            resource_names: some(3),
            non_resource_urls: None,
        }
    }

    fn paths(verbs: &str, paths: &str) -> PolicyRule {
        PolicyRule { verbs: words(verbs), non_resource_urls: Some(words(paths)), ..PolicyRule::default() }
    }

    #[test]
    fn what_is_held_covers_its_parts_and_no_more() {
        for (held, wanted, is_covered) in [
            ("get core pods", "get core pods", true),
            ("get,list core,apps pods,nodes", "list apps nodes", true),
            ("get core pods", "get,list core pods", false),
            ("get core pods", "* core pods", false),
            ("* core pods", "delete core pods", true),
            ("get * pods", "get apps pods", true),
            ("get apps pods", "get * pods", false),
            ("get core *", "get core pods/log", true),
            ("get core */log", "get core pods/log", true),
            ("get core pods", "get core pods/log", false),
            ("get core */log", "get core *", false),
            ("get core pods a,b", "get core pods a", true),
            ("get core pods a,b", "get core pods a,c", false),
            ("get core pods a", "get core pods", false),
            ("get core pods", "get core pods a", true),
            ("* * *", "* * *", true),
            ("* * *", "impersonate core users", true),
        ] {
            assert_eq!(missing(&[&rule(held)], &[rule(wanted)]).is_empty(), is_covered, "{held} | {wanted}");
        }
        // Each piece may come from another rule, but comes from one.
        let (pods, nodes) = (rule("get core pods"), rule("get core nodes"));
        assert!(missing(&[&pods, &nodes], &[rule("get core pods,nodes")]).is_empty());
        assert!(!missing(&[], &[rule("get core pods")]).is_empty());
    }

    #[test]
    fn paths_are_covered_by_their_front() {
        for (held, wanted, is_covered) in [
            ("/healthz", "/healthz", true),
            ("/healthz*", "/healthz/x", true),
            ("*", "/metrics", true),
            ("/healthz", "*", false),
            ("/healthz/*", "/healthz", false),
        ] {
            let missing = missing(&[&paths("get", held)], &[paths("get", wanted)]);
            assert_eq!(missing.is_empty(), is_covered, "{held} | {wanted}");
        }
        assert!(!missing(&[&rule("* * *")], &[paths("get", "/metrics")]).is_empty(), "resources are no paths");
        assert!(!missing(&[&paths("*", "*")], &[rule("get core pods")]).is_empty(), "paths are no resources");
    }

    #[test]
    fn missing_rights_are_told_as_clients_know_them() {
        let missing = missing(&[], &[rule("get,list core pods,nodes x"), rule("get apps,core *"), paths("get", "/x")]);
        assert_eq!(
            describe(&missing),
            concat!(
                "{APIGroups:[\"\"], Resources:[\"*\"], Verbs:[\"get\"]}\n",
                "{APIGroups:[\"\"], Resources:[\"nodes\"], ResourceNames:[\"x\"], Verbs:[\"get\" \"list\"]}\n",
                "{APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"x\"], Verbs:[\"get\" \"list\"]}\n",
                "{APIGroups:[\"apps\"], Resources:[\"*\"], Verbs:[\"get\"]}\n",
                "{NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}",
            )
        );
    }
}
