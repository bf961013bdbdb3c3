//! Alarms in the status of a member.

use chorus_proto::etcdserverpb as pb;

/// An alarm as a status lists it: `memberID:1234 alarm:NOSPACE`.
pub(super) fn parse(text: &str) -> Option<pb::AlarmMember> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    let alarm = pb::AlarmType::from_str_name(field("alarm:")?)?;
    let member_id = field("memberID:").and_then(|id| id.parse().ok()).unwrap_or_default();
    Some(pb::AlarmMember { member_id, alarm: alarm as i32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_read_from_a_status() {
        let alarm = parse("memberID:10276657743932975437 alarm:NOSPACE ").unwrap();
        assert_eq!((alarm.member_id, alarm.alarm), (10276657743932975437, pb::AlarmType::Nospace as i32));
        assert_eq!(parse("etcdserver: no leader"), None);
        assert_eq!(parse(""), None);
    }
}
