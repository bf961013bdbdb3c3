//! Get, list and watch.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::apiserver::selection::SelectionPredicate;
use crate::apiserver::storage::list::{invalid_options, parse_version};
use crate::apiserver::watch_cache::stream::{Event, Filter, Watcher, WatcherOptions};
use crate::kube::client::{ListOptions, Response, WatchOptions};
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::Revision;

use super::{Api, Outcome, RequestInfo};

/// A watch without `timeoutSeconds` ends at a random time between these, so that clients spread out.
const WATCH_MIN: Duration = Duration::from_secs(30 * 60);
const WATCH_MAX: Duration = Duration::from_secs(60 * 60);
/// No watch lasts longer, whatever `timeoutSeconds` says: adding more would overflow an instant.
const WATCH_SECONDS_MAX: u64 = 365 * 24 * 60 * 60;
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// An open watch.
pub struct Watched {
    pub resource: Arc<Resource>,
    pub events: BoxStream<'static, Result<Event, Status>>,
}

impl Api {
    pub(super) async fn get(&self, info: &RequestInfo<'_>) -> Result<Outcome, Status> {
        let stored = self.storage.get(info.resource, info.namespace(), info.name()?).await?;
        Ok(Outcome::of(Response::Object(stored.object)))
    }

    pub(super) async fn list(
        &self,
        info: &RequestInfo<'_>,
        selection: &SelectionPredicate,
        options: &ListOptions,
    ) -> Result<Outcome, Status> {
        let list = self.storage.list(info.resource, info.namespace(), selection, options, info.deadline).await?;
        Ok(Outcome::of(Response::List(list)))
    }

    pub(super) async fn open_watch(
        &self,
        info: &RequestInfo<'_>,
        selection: SelectionPredicate,
        options: &WatchOptions,
    ) -> Result<Watched, Status> {
        if !info.resource.allows("watch") || info.target.subresource.is_some() {
            return Err(Status::method_not_allowed(&info.resource.group, &info.resource.plural, "watch"));
        }
        let cache = self.storage.cache(info.resource)?;
        let (initial, from) = match start(options)? {
            Start::After(revision) => (None, revision),
            start => {
                let view = match start {
                    Start::Any => cache.any(info.deadline).await?,
                    Start::Newest => self.storage.newest(&cache, info.deadline).await?,
                    Start::ListNotOlderThan(revision) | Start::After(revision) => {
                        self.storage.reach(&cache, revision, info.deadline).await?
                    }
                };
                let revision = view.revision;
                (Some(view), revision)
            }
        };
        let name = info.target.name.clone();
        let filter: Filter = Arc::new(move |item| {
            name.as_ref().is_none_or(|name| item.object.meta.name == *name) && selection.matches(item)
        });
        let lasts = match options.timeout_seconds {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(WATCH_SECONDS_MAX)),
            _ => self.world.random.duration(WATCH_MIN..WATCH_MAX),
        };
        let watcher_options = WatcherOptions {
            filter,
            namespace: info.namespace().map(str::to_owned),
            initial,
            from,
            mark_initial_end: options.send_initial_events,
            bookmarks: options.allow_bookmarks.then_some(BOOKMARK_PERIOD),
            ends_at: self.world.clock.now() + lasts,
            shutdown: self.shutdown.clone(),
        };
        let events = Watcher::open(cache, watcher_options).into_stream().boxed();
        Ok(Watched { resource: info.resource.clone(), events })
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With the objects the cache has.
    Any,
    /// With all objects that there are now.
    Newest,
    /// With all objects as of this revision or later.
    ListNotOlderThan(Revision),
    /// With the changes after this revision.
    After(Revision),
}

fn start(options: &WatchOptions) -> Result<Start, Status> {
    let version = options.resource_version.as_deref().filter(|version| !version.is_empty());
    let revision = version.map(parse_version).transpose()?;
    if !options.send_initial_events && options.resource_version_match.as_deref().is_some_and(|rule| !rule.is_empty()) {
        let why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(invalid_options("FieldValueForbidden", "resourceVersionMatch", why.to_owned()));
    }
    Ok(match revision {
        None => Start::Newest,
        Some(Revision(0)) => Start::Any,
        Some(revision) if options.send_initial_events => Start::ListNotOlderThan(revision),
        Some(revision) => Start::After(revision),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_watch_begins() {
        let options = |version: &str, initial: bool| WatchOptions {
            resource_version: Some(version.to_owned()),
            resource_version_match: initial.then(|| "NotOlderThan".to_owned()),
            send_initial_events: initial,
            ..WatchOptions::default()
        };
        for (version, initial, expected) in [
            ("", false, Start::Newest),
            ("", true, Start::Newest),
            ("0", false, Start::Any),
            ("0", true, Start::Any),
            ("7", false, Start::After(Revision(7))),
            ("7", true, Start::ListNotOlderThan(Revision(7))),
        ] {
            assert_eq!(start(&options(version, initial)), Ok(expected), "{version:?} {initial}");
        }
        let match_alone = WatchOptions { resource_version_match: Some("Exact".to_owned()), ..WatchOptions::default() };
        assert_eq!(start(&match_alone).unwrap_err().code, 422);
    }
}
