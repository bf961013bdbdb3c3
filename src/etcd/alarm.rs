//! Alarms: listing the ones that the store's status reports.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::alarm_request::AlarmAction;
use tonic::Status;

use super::status;
use crate::store::client::Client;

pub(super) async fn answer(store: &Client, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Status> {
    if request.action != AlarmAction::Get as i32 {
        return Err(Status::unimplemented("alarms can be listed, not yet raised or disarmed by clients"));
    }
    let known = store.status(Default::default()).await.map_err(|error| status::of(&error))?;
    let alarms = known.errors.iter().filter_map(|text| parse(text)).collect();
    Ok(pb::AlarmResponse { header: known.header, alarms })
}

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
