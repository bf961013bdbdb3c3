//! Defragmentation: gives back the space of all dead records, when a client asks for it, one step of the [`Upkeep`] at
//! a time, beside all other work.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::{Compactor, Upkeep};

/// Pause before another look while a sweep or another step is under way.
const RETRY: Duration = Duration::from_millis(20);

/// Gives back the space of all dead records. The error is a text for the operator.
pub struct Defragment;

impl Message for Defragment {
    type Result = Result<(), String>;
}

impl Handler<Defragment> for Compactor {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, _: Defragment, context: &mut Context<Self>) -> Self::Result {
        let (caller, outcome) = oneshot::channel();
        self.defragmenters.push(caller);
        if self.defragmenters.len() == 1 {
            self.defragment_on(context);
        }
        Box::pin(async { outcome.await.unwrap_or_else(|_| Err("etcdserver: server stopped".to_owned())) })
    }
}

impl Compactor {
    /// Does one step and comes back for the next.
    fn defragment_on(&mut self, context: &mut Context<Self>) {
        if self.shutdown.begun() {
            self.defragmenters.clear();
            return;
        }
        let may_reclaim = !self.sweep.is_under_way() && self.upkeep.as_ref().is_some_and(Upkeep::may_reclaim);
        if !may_reclaim {
            context.run_later(RETRY, Self::defragment_on);
            return;
        }
        self.step(context, Upkeep::defragment, |outcome, compactor, context| match outcome {
            Ok(true) => drop(context.run_later(Duration::ZERO, Self::defragment_on)),
            Ok(false) => compactor.answer_defragmenters(Ok(())),
            Err(error) => compactor.answer_defragmenters(Err(error.to_string())),
        });
    }

    fn answer_defragmenters(&mut self, outcome: Result<(), String>) {
        for caller in self.defragmenters.drain(..) {
            // The caller may have stopped waiting.
            let _ = caller.send(outcome.clone());
        }
    }
}
