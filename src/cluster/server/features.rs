//! Feature gates: which there are, and which are on.

use std::collections::BTreeMap;

use super::values::Value;

/// A feature that can be turned on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub stage: Stage,
    pub default: bool,
}

/// How settled a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Alpha,
    Beta,
    Deprecated,
}

impl Stage {
    /// As metrics and the help name it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Deprecated => "DEPRECATED",
        }
    }
}

const fn feature(name: &'static str, stage: Stage, default: bool) -> Feature {
    Feature { name, stage, default }
}

/// All features, by name. The first two stand for all others of their stage.
pub const FEATURES: &[Feature] = &[
    feature(ALL_ALPHA, Stage::Alpha, false),
    feature(ALL_BETA, Stage::Beta, false),
    feature("CompactHashCheck", Stage::Alpha, false),
    feature("FastLeaseKeepAlive", Stage::Beta, true),
    feature("InitialCorruptCheck", Stage::Alpha, false),
    feature("LeaseCheckpoint", Stage::Alpha, false),
    feature("LeaseCheckpointPersist", Stage::Deprecated, false),
    feature("PriorityRequest", Stage::Alpha, false),
    feature("SetMemberLocalAddr", Stage::Alpha, false),
    feature("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    feature("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// Features of what is done otherwise here, or not at all.
const WITHOUT_EFFECT: [&str; 4] =
    ["FastLeaseKeepAlive", "PriorityRequest", "StopGRPCServiceOnDefrag", "TxnModeWriteWithSharedBuffer"];

const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";

/// Which features are on: those that were set, else at their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates(BTreeMap<String, bool>);

impl FeatureGates {
    pub fn enabled(&self, name: &str) -> bool {
        let default = || FEATURES.iter().find(|feature| feature.name == name).is_some_and(|feature| feature.default);
        self.0.get(name).copied().unwrap_or_else(default)
    }

    /// Somebody wants to be without it.
    pub fn turned_off(&self, name: &str) -> bool {
        self.0.get(name) == Some(&false)
    }

    /// Features that were turned, and are the same all the time.
    pub fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        let turned = self.all().filter(|(feature, on)| *on != feature.default);
        turned.map(|(feature, _)| feature.name).filter(|name| WITHOUT_EFFECT.contains(name))
    }

    /// Every feature, and whether it is on.
    pub fn all(&self) -> impl Iterator<Item = (&'static Feature, bool)> {
        FEATURES.iter().map(|feature| (feature, self.enabled(feature.name)))
    }

    pub fn turn(&mut self, name: &str, on: bool) -> Result<(), String> {
        if !FEATURES.iter().any(|feature| feature.name == name) {
            return Err(format!("unrecognized feature gate: {name}"));
        }
        self.0.insert(name.to_owned(), on);
        match name {
            ALL_ALPHA => self.turn_unset(Stage::Alpha, on),
            ALL_BETA => self.turn_unset(Stage::Beta, on),
            _ => {}
        }
        Ok(())
    }

    fn turn_unset(&mut self, stage: Stage, on: bool) {
        for feature in FEATURES.iter().filter(|feature| feature.stage == stage) {
            self.0.entry(feature.name.to_owned()).or_insert(on);
        }
    }
}

impl Value for FeatureGates {
    fn read(text: &str) -> Result<FeatureGates, String> {
        let mut given = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let name = part.split('=').next().unwrap_or_default().trim();
            let Some((_, value)) = part.split_once('=') else { return Err(format!("missing bool value for {name}")) };
            let value = value.trim();
            let on = bool::read(value).map_err(|_| {
                format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")
            })?;
            given.insert(name, on);
        }
        let mut gates = FeatureGates::default();
        // What is named by itself counts more than what stands for many.
        let (many, single): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|(name, _)| [ALL_ALPHA, ALL_BETA].contains(name));
        single.into_iter().chain(many).try_for_each(|(name, on)| gates.turn(name, on))?;
        Ok(gates)
    }

    fn after(self, old: &FeatureGates) -> FeatureGates {
        let mut gates = old.clone();
        gates.0.extend(self.0);
        gates
    }

    fn show(&self) -> String {
        self.0.iter().map(|(name, on)| format!("{name}={on}")).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_in_etcds_words() {
        let gates = FeatureGates::read("InitialCorruptCheck=true,FastLeaseKeepAlive=false,").unwrap();
        assert!(gates.enabled("InitialCorruptCheck") && !gates.enabled("FastLeaseKeepAlive"));
        assert!(gates.enabled("TxnModeWriteWithSharedBuffer") && !gates.enabled("CompactHashCheck"));
        assert_eq!(gates.show(), "FastLeaseKeepAlive=false,InitialCorruptCheck=true");
        let all = FeatureGates::read("AllAlpha=true,LeaseCheckpoint=false").unwrap();
        assert!(all.enabled("CompactHashCheck") && !all.enabled("LeaseCheckpoint"));
        for (text, error) in [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
            (
                "LeaseCheckpoint=maybe",
                "invalid value of LeaseCheckpoint=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(FeatureGates::read(text), Err(error.into()));
        }
    }
}
