//! Proportional scaling: the sizes of the replica sets of a deployment that is scaled. Pure.
//!
//! Each replica set has annotations with the size of its deployment when it was scaled last. They tell a scaling from a
//! step of a rollout, and share it out in proportion while a rollout is under way.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;

use super::rollout::{ReplicaCounts, RollingLimits};

/// The size of the deployment when the replica set was scaled last.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same plus `maxSurge`.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// What scaling needs of a replica set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    pub set: ReplicaCounts,
    /// `DESIRED`
    pub desired: Option<i32>,
    /// `MAX`
    pub max: Option<i32>,
    pub created: Option<Timestamp>,
    pub name: String,
}

impl Member {
    pub fn of(set: &ReplicaSet) -> Member {
        let meta = &set.metadata;
        let annotation = |name: &str| meta.annotations.as_ref()?.get(name)?.parse().ok();
        Member {
            set: ReplicaCounts::of(set),
            desired: annotation(DESIRED),
            max: annotation(MAX),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    fn is_active(&self) -> bool {
        self.set.wanted > 0
    }
}

/// What scaling needs of a deployment.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// `spec.replicas`
    pub wanted: i32,
    /// `None` if the strategy is `Recreate`.
    pub limits: Option<RollingLimits>,
    /// `status.replicas`
    pub replicas: i32,
}

/// Whether the deployment was scaled after its replica sets were.
pub fn was_scaled(wanted: i32, members: &[Member]) -> bool {
    members.iter().any(|member| member.is_active() && member.desired.is_some_and(|desired| desired != wanted))
}

/// The new sizes of the replica sets; `new` is the index of the new one, if there is one.
pub fn sizes(scale: Scale, members: &[Member], new: Option<usize>) -> Vec<i32> {
    let mut sizes: Vec<i32> = members.iter().map(|member| member.set.wanted).collect();
    if let Some(only) = active_or_latest(members, new) {
        sizes[only] = scale.wanted;
    } else if new.is_some_and(|new| is_saturated(scale.wanted, &members[new])) {
        let olds = sizes.iter_mut().enumerate().filter(|(at, _)| Some(*at) != new);
        olds.for_each(|(_, size)| *size = 0);
    } else if let Some(limits) = scale.limits {
        share_out(scale, limits, members, &mut sizes);
    }
    sizes
}

/// The one replica set that takes the whole change; `None` if several have pods.
fn active_or_latest(members: &[Member], new: Option<usize>) -> Option<usize> {
    let mut active = (0..members.len()).filter(|at| members[*at].is_active());
    match (active.next(), active.next()) {
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
        (None, _) => new.or_else(|| (0..members.len()).max_by_key(|at| age(&members[*at]))),
    }
}

/// The older, the smaller.
fn age(member: &Member) -> (Option<Timestamp>, &str) {
    (member.created, &member.name)
}

fn is_saturated(wanted: i32, new: &Member) -> bool {
    new.set.wanted == wanted && new.desired == Some(wanted) && new.set.available == wanted
}

/// Shares out the change in proportion to the sizes of the replica sets; the largest takes what rounding leaves over.
fn share_out(scale: Scale, limits: RollingLimits, members: &[Member], sizes: &mut [i32]) {
    let allowed = if scale.wanted > 0 { scale.wanted + limits.max_surge } else { 0 };
    let change = allowed - members.iter().map(|member| member.set.wanted).sum::<i32>();
    let mut order: Vec<usize> = (0..members.len()).filter(|at| members[*at].is_active()).collect();
    if change > 0 {
        order.sort_by_key(|at| Reverse((members[*at].set.wanted, age(&members[*at]))));
    } else {
        order.sort_by_key(|at| (Reverse(members[*at].set.wanted), age(&members[*at])));
    }
    let mut left = change;
    for at in &order {
        let share = match proportion(scale, limits, &members[*at]) {
            _ if left == 0 => 0,
            share if change > 0 => share.min(left),
            share => share.max(left),
        };
        sizes[*at] += share;
        left -= share;
    }
    if let Some(largest) = order.first() {
        sizes[*largest] = (sizes[*largest] + left).max(0);
    }
}

/// By how much the replica set would grow if nothing were rounded away.
fn proportion(scale: Scale, limits: RollingLimits, member: &Member) -> i32 {
    let size = member.set.wanted;
    if scale.wanted == 0 {
        return -size;
    }
    let before = member.max.filter(|max| *max > 0).unwrap_or(scale.replicas);
    if before <= 0 {
        return 0;
    }
    let (size_now, max_now) = (f64::from(size), f64::from(scale.wanted) + f64::from(limits.max_surge));
    // Halves round away from zero, as upstream's do.
    (size_now * max_now / f64::from(before)).round() as i32 - size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(wanted: i32, available: i32, desired: i32, max: i32) -> Member {
        let set = ReplicaCounts { wanted, replicas: wanted, available };
        Member { set, desired: Some(desired), max: Some(max), ..Member::default() }
    }

    fn scale(wanted: i32, max_surge: i32) -> Scale {
        Scale { wanted, limits: Some(RollingLimits { max_surge, max_unavailable: 2 }), replicas: 0 }
    }

    #[test]
    fn a_rollout_under_way_is_scaled_in_proportion() {
        // The last member is the new one.
        for (wanted, max_surge, members, expected) in [
            (15, 3, vec![(8, 8, 10, 13), (5, 0, 10, 13)], vec![11, 7]),
            (5, 3, vec![(8, 8, 10, 13), (5, 0, 10, 13)], vec![5, 3]),
            (0, 3, vec![(8, 8, 10, 13), (5, 0, 10, 13)], vec![0, 0]),
            (20, 0, vec![(5, 5, 10, 10), (5, 0, 10, 10)], vec![10, 10]),
            (11, 0, vec![(5, 5, 10, 10), (5, 0, 10, 10)], vec![5, 6]),
            (10, 3, vec![(8, 8, 10, 13), (5, 0, 10, 13)], vec![8, 5]),
        ] {
            let members: Vec<Member> = members.iter().map(|m| member(m.0, m.1, m.2, m.3)).collect();
            let members: Vec<Member> = std::iter::zip(members, ["old", "z-new"])
                .map(|(member, name)| Member { name: name.to_owned(), ..member })
                .collect();
            assert_eq!(sizes(scale(wanted, max_surge), &members, Some(1)), expected, "to {wanted}");
        }
    }

    #[test]
    fn one_replica_set_takes_the_whole_change() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let idle = |second| Member { created: at(second), ..member(0, 0, 3, 4) };
        assert_eq!(sizes(scale(5, 1), &[member(3, 3, 3, 4), idle(9)], Some(1)), [5, 0], "the one with pods");
        assert_eq!(sizes(scale(5, 1), &[idle(1), idle(9)], Some(0)), [5, 0], "the new one");
        assert_eq!(sizes(scale(5, 1), &[idle(1), idle(9)], None), [0, 5], "the latest");
        assert_eq!(sizes(scale(5, 1), &[], None), Vec::<i32>::new());
    }

    #[test]
    fn when_all_of_the_new_ones_are_available_the_old_ones_go() {
        assert_eq!(sizes(scale(3, 1), &[member(2, 2, 3, 4), member(3, 3, 3, 4)], Some(1)), [0, 3]);
        let recreate = Scale { limits: None, ..scale(3, 1) };
        assert_eq!(sizes(recreate, &[member(2, 2, 3, 4), member(1, 1, 3, 4)], Some(1)), [2, 1], "not a rolling update");
    }

    #[test]
    fn only_a_changed_size_is_a_scaling() {
        assert!(was_scaled(4, &[member(3, 3, 3, 4)]));
        assert!(!was_scaled(3, &[member(1, 1, 3, 4), member(0, 0, 9, 9)]));
        assert!(!was_scaled(3, &[Member { desired: None, ..member(1, 1, 3, 4) }]));
    }

    proptest! {
        /// Scaling keeps to the number allowed, and no replica set is moved against the change.
        #[test]
        fn shares_add_up(
            (wanted, max_surge) in (0_i32..200, 0_i32..20),
            members in proptest::collection::vec((1_i32..60, 0_i32..60, 1_i32..200), 2..5),
        ) {
            let members: Vec<Member> = members.iter().map(|m| member(m.0, m.1.min(m.0), -1, m.2)).collect();
            let sizes = sizes(scale(wanted, max_surge), &members, None);
            let allowed = if wanted > 0 { wanted + max_surge } else { 0 };
            let before: i32 = members.iter().map(|member| member.set.wanted).sum();
            prop_assert!(sizes.iter().all(|size| *size >= 0));
            if allowed >= before {
                prop_assert_eq!(sizes.iter().sum::<i32>(), allowed);
            }
        }
    }
}
