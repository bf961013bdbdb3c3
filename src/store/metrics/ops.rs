//! Operations on keys.

/// How many operations transactions did. The counts are no part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    pub ranges: u64,
    pub puts: u64,
    pub put_bytes: u64,
    pub deletes: u64,
    /// Keys that were not there before, and that are there no more.
    pub created: u64,
    pub deleted: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
}

impl Ops {
    /// Adds the operations of one transaction.
    pub fn add(&mut self, txn: &Ops) {
        self.ranges += txn.ranges;
        self.puts += txn.puts;
        self.put_bytes += txn.put_bytes;
        self.deletes += txn.deletes;
        self.created += txn.created;
        self.deleted += txn.deleted;
        self.txns += u64::from(txn.ranges + txn.puts + txn.deletes > 1);
    }
}
