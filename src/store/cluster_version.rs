//! The cluster's version, as its members have agreed on it, and whether the cluster is being downgraded.

use std::fmt;
use std::str::FromStr;

use chorus_proto::{etcdserverpb as pb, membershippb};
use serde::{Deserialize, Serialize};

use super::Error;

/// Major and minor of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release {
    pub major: u64,
    pub minor: u64,
}

impl Release {
    /// The version of a cluster that does not know the versions of all its members.
    pub const LEAST: Release = Release { major: 3, minor: 0 };

    /// The release to which a cluster of this one may be downgraded.
    pub fn before(self) -> Option<Release> {
        Some(Release { minor: self.minor.checked_sub(1)?, ..self })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

impl FromStr for Release {
    type Err = Error;

    /// Reads `X.Y` or `X.Y.Z`, with or without a suffix.
    fn from_str(text: &str) -> Result<Release, Error> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let plain = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Option<Vec<u64>> = plain.split('.').map(number).collect();
        match numbers.as_deref() {
            Some([major, minor] | [major, minor, _]) => Ok(Release { major: *major, minor: *minor }),
            _ => Err(Error::WrongDowngradeVersion),
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The cluster's version, the same on every member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterVersion {
    /// Nothing before the members have agreed on one.
    pub version: Option<Release>,
    /// The target of the downgrade that is under way.
    pub downgrade: Option<Release>,
}

impl ClusterVersion {
    /// The version of the storage format, as etcd has it: the cluster's version once that is known for certain, and
    /// before that the first version that had a storage version.
    pub fn storage(&self) -> Release {
        const FIRST: Release = Release { major: 3, minor: 5 };
        self.version.filter(|release| *release != Release::LEAST).unwrap_or(FIRST)
    }

    /// Whether the cluster may be downgraded to `target` now.
    pub fn may_downgrade(&self, target: Release) -> Result<(), Error> {
        let cluster = self.version.ok_or(Error::ClusterVersionUnavailable)?;
        if cluster.before() != Some(target) {
            return Err(Error::InvalidDowngradeTarget);
        }
        if self.downgrade.is_some() { Err(Error::DowngradeInProcess) } else { Ok(()) }
    }

    /// The version to which the cluster should go, when that is another one; `least` is the lowest version of a member,
    /// where all are known.
    pub fn next(&self, least: Option<Release>) -> Option<Release> {
        let Some(cluster) = self.version else { return Some(least.unwrap_or(Release::LEAST)) };
        let least = least?;
        match self.downgrade {
            Some(target) if target == cluster => None,
            Some(target) => {
                let fits = cluster.before() == Some(target) && least.before() == Some(target);
                fits.then_some(target)
            }
            None => (cluster.major == least.major && cluster < least).then_some(least),
        }
    }
}

/// The command that begins a downgrade, or ends it.
pub fn downgrade_to(target: Option<Release>) -> pb::InternalRaftRequest {
    let ver = target.map(|target| target.to_string()).unwrap_or_default();
    let request = membershippb::DowngradeInfoSetRequest { enabled: target.is_some(), ver };
    pb::InternalRaftRequest { downgrade_info_set: Some(request), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_read_down_to_their_minor() {
        for (text, read) in [("3.6", "3.6.0"), ("3.6.6", "3.6.0"), ("3.8.0-alpha.0", "3.8.0"), ("v3.5.1", "3.5.0")] {
            assert_eq!(release(text).to_string(), read);
        }
        for text in ["", "3", "3.x", "3.6.6.1", "a.b.c", "3.+6"] {
            assert_eq!(text.parse::<Release>(), Err(Error::WrongDowngradeVersion), "{text}");
        }
    }

    #[test]
    fn the_cluster_follows_its_lowest_member_upwards() {
        let at = |version: Option<&str>| ClusterVersion { version: version.map(release), downgrade: None };
        let some = |text: &str| Some(release(text));
        assert_eq!(at(None).next(None), Some(Release::LEAST));
        assert_eq!(at(None).next(some("3.6")), some("3.6"));
        assert_eq!(at(Some("3.0")).next(some("3.6")), some("3.6"));
        assert_eq!(at(Some("3.6")).next(some("3.6")), None);
        assert_eq!(at(Some("3.6")).next(some("3.5")), None);
        assert_eq!(at(Some("3.0")).next(None), None);
    }

    #[test]
    fn a_downgrade_goes_one_step() {
        let cluster = ClusterVersion { version: Some(release("3.6")), downgrade: None };
        assert_eq!(cluster.may_downgrade(release("3.5")), Ok(()));
        assert_eq!(cluster.may_downgrade(release("3.4")), Err(Error::InvalidDowngradeTarget));
        assert_eq!(cluster.may_downgrade(release("3.6")), Err(Error::InvalidDowngradeTarget));
        let under_way = ClusterVersion { downgrade: Some(release("3.5")), ..cluster };
        assert_eq!(under_way.may_downgrade(release("3.5")), Err(Error::DowngradeInProcess));
        assert_eq!(under_way.next(Some(release("3.6"))), Some(release("3.5")));
        let done = ClusterVersion { version: Some(release("3.5")), ..under_way };
        assert_eq!(done.next(Some(release("3.5"))), None);
        assert_eq!(ClusterVersion::default().may_downgrade(release("3.5")), Err(Error::ClusterVersionUnavailable));
    }
}
