//! What every command works with.

use super::print::Printer;
use crate::store::client::Client;
use crate::world::World;

/// What every command works with.
pub(super) struct Session {
    pub world: World,
    pub store: Client,
    pub printer: Printer,
}
