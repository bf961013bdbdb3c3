//! The path from a component of the same process: the same steps, no HTTP, no serialization.

use futures::stream::BoxStream;

use crate::kube::client::{Request, Response, Target, Transport, WatchOptions};
use crate::kube::object::WatchEvent;
use crate::kube::status::Status;

use super::user::User;

pub(super) struct InProcess {
    user: User,
}

impl InProcess {
    pub fn new(user: User) -> InProcess {
        InProcess { user }
    }

    fn unavailable(&self) -> Status {
        Status::new(503, "ServiceUnavailable", format!("no store answers {}", self.user.name))
    }
}

#[async_trait::async_trait]
impl Transport for InProcess {
    async fn call(&self, _request: Request) -> Result<Response, Status> {
        Err(self.unavailable())
    }

    async fn watch(
        &self,
        _target: Target,
        _options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        Err(self.unavailable())
    }
}
