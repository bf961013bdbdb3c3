//! Lists: at which revision, from the cache or the store, and a page at a time.

use std::sync::Arc;

use bytes::Bytes;

use crate::apiserver::selection::SelectionPredicate;
use crate::apiserver::watch_cache::WatchCache;
use crate::apiserver::watch_cache::view::{Item, View};
use crate::kube::client::{List, ListOptions};
use crate::kube::resources::Resource;
use crate::kube::status::{Cause, Status};
use crate::store::error::Error;
use crate::world::{Instant, Revision};

use super::continue_token::ContinueToken;
use super::{Storage, refusal};

/// Keys read from the store at once for a page at an old revision.
const SNAPSHOT_PAGE_KEYS: i64 = 500;

/// At which revision a list is taken: the rows of upstream's table of `resourceVersion` and `resourceVersionMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceVersionMatch {
    /// Whatever the cache has.
    Any,
    /// All that was written before the request.
    MostRecent,
    /// This revision or a newer one.
    NotOlderThan(Revision),
    Exact(Revision),
    /// A later page of a list.
    Continue(ContinueToken),
}

impl ResourceVersionMatch {
    /// The match that the parameters of a list of the keys below `prefix` ask for.
    pub fn of(options: &ListOptions, prefix: &str) -> Result<ResourceVersionMatch, Status> {
        let version = options.resource_version.as_deref().filter(|version| !version.is_empty());
        let rule = options.resource_version_match.as_deref().filter(|rule| !rule.is_empty());
        let limited = options.limit.is_some_and(|limit| limit > 0);
        if let Some(token) = options.continue_token.as_deref().filter(|token| !token.is_empty()) {
            if rule.is_some() {
                return Err(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if version.is_some_and(|version| version != "0") {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            return Ok(ResourceVersionMatch::Continue(ContinueToken::parse(token, prefix)?));
        }
        let Some(version) = version else {
            return match rule {
                None => Ok(ResourceVersionMatch::MostRecent),
                Some(_) => Err(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                )),
            };
        };
        let revision = parse_version(version)?;
        match (rule, revision.0) {
            (None | Some("NotOlderThan"), 0) => Ok(ResourceVersionMatch::Any),
            (Some("Exact"), 0) => Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            (Some("Exact"), _) => Ok(ResourceVersionMatch::Exact(revision)),
            (None, _) if limited => Ok(ResourceVersionMatch::Exact(revision)),
            (None | Some("NotOlderThan"), _) => Ok(ResourceVersionMatch::NotOlderThan(revision)),
            (Some(other), _) => Err(not_supported(other)),
        }
    }
}

/// A resource version that a client sent.
pub fn parse_version(version: &str) -> Result<Revision, Status> {
    version.parse::<i64>().ok().filter(|revision| *revision >= 0).map(Revision).ok_or_else(|| {
        invalid_options(
            "FieldValueInvalid",
            "resourceVersion",
            format!("Invalid value: {version:?}: it is not a number"),
        )
    })
}

fn forbidden(field: &str, why: &str) -> Status {
    invalid_options("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

fn not_supported(rule: &str) -> Status {
    let text = format!("Unsupported value: {rule:?}: supported values: \"Exact\", \"NotOlderThan\"");
    invalid_options("FieldValueNotSupported", "resourceVersionMatch", text)
}

/// The parameters of a list or watch break a rule.
pub fn invalid_options(reason: &str, field: &str, message: String) -> Status {
    let text = format!("{field}: {message}");
    let cause = Cause { reason: reason.to_owned(), message, field: field.to_owned() };
    Status::invalid_with("meta.k8s.io", "ListOptions", "", &text, vec![cause])
}

/// A page of a list while it is filled.
struct Page<'a> {
    selection: &'a SelectionPredicate,
    /// The prefix of the list's keys in the store.
    prefix: &'a str,
    /// The part of it that the keys of a view begin with: the namespace and a slash, or nothing.
    scope: &'a str,
    limit: usize,
    items: Vec<Arc<Item>>,
    /// The key after which the next page begins, once the page is full.
    full_at: Option<String>,
}

impl Page<'_> {
    /// Takes an object that matches; false once the page is full.
    fn take(&mut self, key: &str, item: &Arc<Item>) -> bool {
        if self.full_at.is_some() {
            return false;
        }
        if self.selection.matches(item) {
            self.items.push(item.clone());
            if self.items.len() == self.limit {
                self.full_at = Some(key.to_owned());
            }
        }
        true
    }
}

impl Storage {
    /// The objects of `namespace`, or of all, that `selection` shows.
    pub async fn list(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        selection: &SelectionPredicate,
        options: &ListOptions,
        deadline: Instant,
    ) -> Result<List, Status> {
        let cache = self.cache(resource)?;
        let prefix = resource.storage_range(namespace).ok_or_else(|| super::not_stored(resource))?;
        let version_match = ResourceVersionMatch::of(options, &prefix)?;
        let limit = options.limit.filter(|limit| *limit > 0).map_or(usize::MAX, |limit| limit as usize);
        let scope = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let page = Page { selection, prefix: &prefix, scope: &scope, limit, items: Vec::new(), full_at: None };
        match version_match {
            ResourceVersionMatch::Any => {
                // As upstream's cache does: a list that takes any revision is never cut into pages.
                let whole = Page { limit: usize::MAX, ..page };
                let view = cache.any(deadline).await?;
                Ok(from_view(&view, namespace, "", whole))
            }
            ResourceVersionMatch::MostRecent => {
                let view = self.newest(&cache, deadline).await?;
                Ok(from_view(&view, namespace, "", page))
            }
            ResourceVersionMatch::NotOlderThan(revision) => {
                let view = self.reach(&cache, revision, deadline).await?;
                Ok(from_view(&view, namespace, "", page))
            }
            ResourceVersionMatch::Exact(revision) => self.at(&cache, revision, None, namespace, page).await,
            ResourceVersionMatch::Continue(token) => match token.revision() {
                Some(revision) => self.at(&cache, revision, Some(&token), namespace, page).await,
                None => {
                    let view = self.newest(&cache, deadline).await?;
                    Ok(from_view(&view, namespace, token.start(), page))
                }
            },
        }
    }

    /// A view that holds all that was written before this call.
    pub async fn newest(&self, cache: &WatchCache, deadline: Instant) -> Result<Arc<View>, Status> {
        let revision = self.revision().await?;
        Ok(cache.at_least(revision, deadline.min(self.catch_up_deadline())).await?)
    }

    /// A view at `revision` or later, a revision that a client names.
    pub async fn reach(&self, cache: &WatchCache, revision: Revision, deadline: Instant) -> Result<Arc<View>, Status> {
        let reached = cache.at_least(revision, deadline.min(self.catch_up_deadline())).await;
        reached.map_err(|behind| Status::resource_version_too_large(revision.0 as u64, behind.revision.0 as u64))
    }

    /// A page at a revision of the past.
    async fn at(
        &self,
        cache: &WatchCache,
        revision: Revision,
        token: Option<&ContinueToken>,
        namespace: Option<&str>,
        page: Page<'_>,
    ) -> Result<List, Status> {
        let start = token.map_or("", ContinueToken::start);
        if let Some(view) = cache.now().filter(|view| unchanged_since(view, revision)) {
            let list = from_view(&view, namespace, start, page);
            return Ok(List { resource_version: revision.to_string(), ..list });
        }
        match self.snapshot(cache, revision, start, page).await {
            Err(Error::Compacted) => Err(match token {
                Some(token) => Status::continue_expired(Some(token.inconsistent().to_token())),
                None => Status::expired(format!("The resourceVersion for the provided list is too old: {revision}")),
            }),
            Err(Error::FutureRevision) => {
                let seen = cache.now().map_or(0, |view| view.revision.0);
                Err(Status::resource_version_too_large(revision.0 as u64, seen as u64))
            }
            other => other.map_err(|error| refusal(&error)),
        }
    }

    /// A page from the store's history.
    async fn snapshot(
        &self,
        cache: &WatchCache,
        revision: Revision,
        start: &str,
        mut page: Page<'_>,
    ) -> Result<List, Error> {
        let mut lister_watcher = cache.lister_watcher().clone();
        lister_watcher.end = Some(page.prefix.to_owned());
        let mut next = Some(Bytes::from(format!("{}{start}", page.prefix)));
        let mut beyond = 0;
        while let Some(from) = next {
            let read = lister_watcher.page(from, revision, SNAPSHOT_PAGE_KEYS).await?;
            let taken = read.items.iter().take_while(|(key, item)| page.take(key, item)).count();
            beyond = read.items.len() as u64 - taken as u64 + read.remaining as u64;
            next = read.next.filter(|_| page.full_at.is_none());
        }
        Ok(finish(page, revision, beyond))
    }
}

fn unchanged_since(view: &View, revision: Revision) -> bool {
    revision <= view.revision && view.since(revision).is_some_and(|mut changes| changes.next().is_none())
}

fn from_view(view: &View, namespace: Option<&str>, start: &str, mut page: Page<'_>) -> List {
    if let (Some(namespace), Some(name), "") = (namespace, page.selection.name(), start) {
        let key = format!("{namespace}/{name}");
        if let Some(item) = view.objects.get(&key) {
            page.take(&key, item);
        }
        page.full_at = None;
        return finish(page, view.revision, 0);
    }
    let start = format!("{}{start}", page.scope);
    let mut beyond = 0;
    for (key, item) in view.select(namespace) {
        if *key >= start && !page.take(key, item) {
            beyond += 1;
        }
    }
    finish(page, view.revision, beyond)
}

fn finish(page: Page<'_>, revision: Revision, beyond: u64) -> List {
    let more = page.full_at.filter(|_| beyond > 0);
    List {
        items: page.items.iter().map(|item| item.object.clone()).collect(),
        resource_version: revision.to_string(),
        remaining_item_count: more.as_ref().filter(|_| page.selection.is_everything()).map(|_| beyond),
        continue_token: more.map(|key| {
            let last = key.strip_prefix(page.scope).unwrap_or(&key);
            ContinueToken::at(revision, page.prefix, format!("{last}\0")).to_token()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/registry/pods/";

    fn options(version: &str, rule: &str, limit: u64) -> ListOptions {
        ListOptions {
            resource_version: Some(version.to_owned()),
            resource_version_match: Some(rule.to_owned()),
            limit: Some(limit),
            ..ListOptions::default()
        }
    }

    #[test]
    fn the_moment_of_a_list() {
        let table = [
            ("", "", 0, Ok(ResourceVersionMatch::MostRecent)),
            ("", "", 5, Ok(ResourceVersionMatch::MostRecent)),
            ("0", "", 5, Ok(ResourceVersionMatch::Any)),
            ("0", "NotOlderThan", 0, Ok(ResourceVersionMatch::Any)),
            ("7", "", 0, Ok(ResourceVersionMatch::NotOlderThan(Revision(7)))),
            ("7", "", 5, Ok(ResourceVersionMatch::Exact(Revision(7)))),
            ("7", "NotOlderThan", 5, Ok(ResourceVersionMatch::NotOlderThan(Revision(7)))),
            ("7", "Exact", 0, Ok(ResourceVersionMatch::Exact(Revision(7)))),
            ("0", "Exact", 0, Err(422)),
            ("", "Exact", 0, Err(422)),
            ("7", "Newest", 0, Err(422)),
            ("x", "", 0, Err(422)),
            ("-1", "", 0, Err(422)),
        ];
        for (version, rule, limit, expected) in table {
            let found = ResourceVersionMatch::of(&options(version, rule, limit), PREFIX).map_err(|status| status.code);
            assert_eq!(found, expected, "{version:?} {rule:?} {limit}");
        }
    }

    #[test]
    fn a_continue_token_decides_alone() {
        let token = ContinueToken::at(Revision(3), PREFIX, "a\0".to_owned()).to_token();
        let with = |version: &str, rule: &str| ListOptions {
            continue_token: Some(token.clone()),
            ..options(version, rule, 1)
        };
        assert!(matches!(ResourceVersionMatch::of(&with("", ""), PREFIX), Ok(ResourceVersionMatch::Continue(_))));
        assert!(matches!(ResourceVersionMatch::of(&with("0", ""), PREFIX), Ok(ResourceVersionMatch::Continue(_))));
        assert_eq!(ResourceVersionMatch::of(&with("3", ""), PREFIX).unwrap_err().code, 400);
        assert_eq!(ResourceVersionMatch::of(&with("", "Exact"), PREFIX).unwrap_err().code, 422);
    }
}
