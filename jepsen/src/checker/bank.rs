//! Accounts between which money moves: whoever reads all of them sees the same sum, and no account in debt.

use serde_json::Value;

use super::{Anomaly, Report, Verdict};
use crate::history::{Event, Kind, operations};

/// Checks the reads of `events`: each is a list of balances that add up to `total`.
pub fn check(events: &[Event], total: i64) -> Report {
    let mut anomalies = Vec::new();
    let mut reads = 0;
    for operation in operations(events).iter().filter(|op| op.invoked.f == "read" && op.outcome() == Kind::Ok) {
        let balances: Vec<i64> = operation.value().as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        reads += 1;
        let mut found = |name: &str, what: String| {
            let events = vec![operation.invoked.index];
            anomalies.push(Anomaly { name: name.to_owned(), what, events, because: Vec::new() });
        };
        let sum: i64 = balances.iter().sum();
        if sum != total {
            found("wrong-total", format!("the accounts {balances:?} hold {sum}, not {total}"));
        }
        if balances.iter().any(|balance| *balance < 0) {
            found("in-debt", format!("an account is in debt: {balances:?}"));
        }
    }
    let report = Report::of("bank", anomalies).note(format!("{reads} reads"));
    if reads == 0 { Report { verdict: Verdict::Unknown, ..report } } else { report }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Invoke, Ok};
    use crate::history::tests::history;

    #[test]
    fn money_is_neither_made_nor_lost() {
        for (balances, verdict) in
            [(json!([3, 7]), Verdict::True), (json!([3, 8]), Verdict::False), (json!([-1, 11]), Verdict::False)]
        {
            let events = history(&[(0, Invoke, "read", json!(null)), (0, Ok, "read", balances)]);
            assert_eq!(check(&events, 10).verdict, verdict);
        }
        assert_eq!(check(&[], 10).verdict, Verdict::Unknown);
    }
}
