//! The time by which certificates are valid.

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::world::Clock;

/// The world's clock, for the validity of certificates.
#[derive(Debug)]
pub(super) struct CertificateClock(pub Clock);

impl TimeProvider for CertificateClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.unix()))
    }
}
