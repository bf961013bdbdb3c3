//! Giving back the space of everything dead, because a client asks for it: the active segment is sealed, a checkpoint
//! makes all of them fit to be emptied, and a second one lets them go. One segment at a time, beside all other work.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::Compactor;
use crate::disk::{self, SegmentId};
use crate::store::reclaim;
use crate::world::failpoints::failpoint;

/// Pause before another look while a sweep or another request is under way.
const RETRY: Duration = Duration::from_millis(20);

/// Gives back the space of all dead records. The error is a text for the operator.
pub struct Defragment;

impl Message for Defragment {
    type Result = Result<(), String>;
}

/// Segments that are still to be emptied, and who waits for it.
#[derive(Debug)]
pub struct Defragmentation {
    segments: Vec<SegmentId>,
    begun: bool,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Handler<Defragment> for Compactor {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, _: Defragment, context: &mut Context<Self>) -> Self::Result {
        let (told, outcome) = oneshot::channel();
        match &mut self.defragmentation {
            Some(under_way) => under_way.waiting.push(told),
            none => {
                *none = Some(Defragmentation { segments: Vec::new(), begun: false, waiting: vec![told] });
                self.defragment_on(context);
            }
        }
        Box::pin(async { outcome.await.unwrap_or_else(|_| Err("etcdserver: server stopped".to_owned())) })
    }
}

impl Compactor {
    /// Does one step and comes back for the next.
    fn defragment_on(&mut self, context: &mut Context<Self>) {
        if self.shutdown.begun() {
            self.defragmentation = None;
            return;
        }
        if !self.may_reclaim() {
            context.run_later(RETRY, Self::defragment_on);
            return;
        }
        match self.defragment_step() {
            Ok(true) => drop(context.run_later(Duration::ZERO, Self::defragment_on)),
            Ok(false) => self.tell_defragmented(Ok(())),
            Err(error) => self.tell_defragmented(Err(error.to_string())),
        }
    }

    /// `false` when it was the last one.
    fn defragment_step(&mut self) -> Result<bool, disk::Error> {
        let Some(under_way) = &mut self.defragmentation else { return Ok(false) };
        if !under_way.begun {
            under_way.begun = true;
            failpoint!("defragOpenFileError", |error| Err(std::io::Error::other(error).into()));
            failpoint!("defragBeforeCopy");
            self.shared.ledger().segments.seal()?;
            self.checkpoint()?;
            let segments = reclaim::with_dead(&self.shared, self.checkpointed.segment)?;
            self.defragmentation.as_mut().expect("seen above").segments = segments;
            return Ok(true);
        }
        let Some(segment) = under_way.segments.pop() else {
            failpoint!("defragdbFail", |error| Err(std::io::Error::other(error).into()));
            failpoint!("defragBeforeRename");
            return self.checkpoint().map(|()| false);
        };
        // The checkpoint of another chore may have let it go.
        if !self.emptied.contains(&segment) && reclaim::exists(&self.shared, segment)? {
            self.empty(segment)?;
        }
        Ok(true)
    }

    fn tell_defragmented(&mut self, outcome: Result<(), String>) {
        for told in self.defragmentation.take().into_iter().flat_map(|done| done.waiting) {
            // Who no longer waits does not want to know.
            let _ = told.send(outcome.clone());
        }
    }
}
