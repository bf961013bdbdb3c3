//! The next step of a deployment's rollout. Pure.

use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How many pods there may be above and below the number wanted during a rolling update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollingLimits {
    pub max_surge: i32,
    pub max_unavailable: i32,
}

impl RollingLimits {
    /// Of a deployment that rolls its updates; `None` if it recreates its pods.
    pub fn of_rolling(spec: &DeploymentSpec) -> Option<RollingLimits> {
        let recreates = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        (!recreates).then(|| RollingLimits::from_strategy(spec))
    }

    /// Of any deployment: none at all where it recreates its pods, and no more unavailable ones than there are.
    pub fn of(spec: &DeploymentSpec) -> RollingLimits {
        let RollingLimits { max_surge, max_unavailable } = RollingLimits::of_rolling(spec).unwrap_or_default();
        RollingLimits { max_surge, max_unavailable: max_unavailable.min(spec.replicas.unwrap_or(1)) }
    }

    /// `maxSurge` rounds up, `maxUnavailable` rounds down, and not both are zero.
    fn from_strategy(spec: &DeploymentSpec) -> RollingLimits {
        let wanted = spec.replicas.unwrap_or(1);
        let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let max_surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let max_unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max_surge = scaled(max_surge, wanted, true);
        let max_unavailable = scaled(max_unavailable, wanted, false);
        if max_surge == 0 && max_unavailable == 0 {
            RollingLimits { max_surge, max_unavailable: 1 }
        } else {
            RollingLimits { max_surge, max_unavailable }
        }
    }
}

fn scaled(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => (*number).max(0),
        Some(IntOrString::String(text)) => percent(text).map_or(0, |percent| portion(percent, of, up)),
        None => portion(25, of, up),
    }
}

fn percent(text: &str) -> Option<i64> {
    text.strip_suffix('%')?.parse().ok()
}

fn portion(percent: i64, of: i32, up: bool) -> i32 {
    let hundredfold = percent.max(0) * i64::from(of);
    let number = if up { (hundredfold + 99) / 100 } else { hundredfold / 100 };
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The replica counts that the replica sets of a deployment should be given now: the new one, and each old one in the
/// order given.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub new: i32,
    pub old: Vec<i32>,
}

/// What a step needs of a replica set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaCounts {
    /// `spec.replicas`
    pub wanted: i32,
    /// `status.replicas`
    pub replicas: i32,
    /// `status.availableReplicas`
    pub available: i32,
}

impl ReplicaCounts {
    pub fn of(set: &ReplicaSet) -> ReplicaCounts {
        let status = set.status.as_ref();
        ReplicaCounts {
            wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            replicas: status.map_or(0, |status| status.replicas),
            available: status.and_then(|status| status.available_replicas).unwrap_or(0),
        }
    }
}

/// Rolling update: the new set grows as far as `maxSurge` allows; the old ones shrink as far as `maxUnavailable`
/// allows, by pods that are not available first.
pub fn rolling(wanted: i32, limits: RollingLimits, new: ReplicaCounts, old: &[ReplicaCounts]) -> Step {
    let total: i32 = new.wanted + old.iter().map(|set| set.wanted).sum::<i32>();
    let room = (wanted + limits.max_surge - total).max(0);
    let grown = if new.wanted < wanted { (new.wanted + room).min(wanted) } else { wanted };

    let available_min = (wanted - limits.max_unavailable).max(0);
    let new_unavailable = (new.wanted - new.available).max(0);
    let mut spare = (total - available_min - new_unavailable).max(0);
    let mut shrunk: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    for (set, size) in old.iter().zip(&mut shrunk) {
        let unhealthy = (set.wanted - set.available).clamp(0, spare);
        *size -= unhealthy;
        spare -= unhealthy;
    }
    let available: i32 = new.available + old.iter().map(|set| set.available).sum::<i32>();
    let mut spare = spare.min((available - available_min).max(0));
    for size in &mut shrunk {
        let healthy = (*size).min(spare);
        *size -= healthy;
        spare -= healthy;
    }
    Step { new: grown, old: shrunk }
}

/// The size with which a replica set is created beside `others`, as far as `maxSurge` allows.
pub fn first_size(wanted: i32, limits: RollingLimits, others: &[ReplicaCounts]) -> i32 {
    rolling(wanted, limits, ReplicaCounts::default(), others).new
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RollingLimits = RollingLimits { max_surge: 1, max_unavailable: 0 };

    fn all(count: i32) -> ReplicaCounts {
        ReplicaCounts { wanted: count, replicas: count, available: count }
    }

    #[test]
    fn slack_rounds_surge_up_and_unavailable_down() {
        let mut spec = DeploymentSpec { replicas: Some(3), ..Default::default() };
        assert_eq!(RollingLimits::of(&spec), RollingLimits { max_surge: 1, max_unavailable: 0 });
        spec.replicas = Some(10);
        assert_eq!(RollingLimits::of(&spec), RollingLimits { max_surge: 3, max_unavailable: 2 });
        spec.replicas = Some(0);
        assert_eq!(RollingLimits::of(&spec), RollingLimits { max_surge: 0, max_unavailable: 0 });
        spec.replicas = Some(2);
        spec.strategy.get_or_insert_default().type_ = Some("Recreate".to_owned());
        assert_eq!((RollingLimits::of(&spec), RollingLimits::of_rolling(&spec)), (RollingLimits::default(), None));
    }

    #[test]
    fn a_rolling_update_never_goes_above_its_surge_nor_below_its_availability() {
        let (mut new, mut old) = (ReplicaCounts::default(), [all(3)]);
        let mut steps = 0;
        while (new, old[0]) != (all(3), all(0)) {
            let step = rolling(3, LIMITS, new, &old);
            assert!(step.new + step.old[0] <= 4, "{step:?}");
            (new, old) = (all(step.new), [all(step.old[0])]);
            assert!(new.available + old[0].available >= 3);
            steps += 1;
            assert!(steps < 20);
        }
    }

    #[test]
    fn a_broken_update_keeps_the_old_pods() {
        let broken = ReplicaCounts { wanted: 1, replicas: 1, available: 0 };
        assert_eq!(rolling(3, LIMITS, broken, &[all(3)]), Step { new: 1, old: vec![3] });
    }

    #[test]
    fn broken_old_pods_go_first() {
        let broken = ReplicaCounts { wanted: 3, replicas: 3, available: 0 };
        let step = rolling(
            3,
            RollingLimits { max_surge: 1, max_unavailable: 1 },
            ReplicaCounts { wanted: 1, replicas: 1, available: 1 },
            &[broken],
        );
        assert_eq!(step.old, [1]);
    }
}
