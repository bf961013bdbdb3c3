//! What the arguments mean, and what becomes of a verdict.

use super::*;

#[test]
fn trouble_at_the_end_takes_no_violation_back() {
    let trouble = || Err(anyhow::anyhow!("trouble"));
    assert_eq!(concluded(Verdict::False, trouble()).unwrap(), Verdict::False);
    assert!(concluded(Verdict::True, trouble()).is_err(), "nobody knows what was still to come");
    assert_eq!(concluded(Verdict::Unknown, Ok(())).unwrap(), Verdict::Unknown);
}

#[test]
fn a_campaign_of_nothing_is_refused() {
    for words in ["failover --kills 0", "power --cycles 0", "prove --times 0"] {
        assert!(Cli::try_parse_from(["jepsen"].into_iter().chain(words.split(' '))).is_err(), "{words}");
    }
}

#[test]
fn only_a_history_that_holds_everything_is_checked_again() {
    for name in ["watch", "pods"] {
        let refused = check(Path::new("history.jsonl"), name).unwrap_err().to_string();
        assert!(refused.contains("run it again"), "{refused}");
    }
    assert!(check(Path::new("no such file"), "set").unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn a_soak_needs_a_workload_that_must_hold() {
    let etcd = Path::new("etcd");
    assert!(soaked("lock", etcd).unwrap_err().to_string().contains("known to fail"));
    assert_eq!(soaked("lock,set", etcd).unwrap(), ["set"]);
    assert!(!soaked("all", etcd).unwrap().contains(&"lock"));
}

#[test]
fn times_have_units() {
    assert_eq!(duration("300"), Ok(Duration::from_secs(300)));
    assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
    assert!(duration("h").is_err() && duration("").is_err() && duration("1d").is_err());
}
