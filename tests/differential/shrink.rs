//! Takes operations out of a history as long as the two servers still differ: large runs of them first, then single ones.

use crate::Difference;
use crate::history::Operation;

/// How many histories are tried at most: each starts two servers.
const TRIALS_MAX: usize = 150;

pub struct Shrunk {
    pub history: Vec<Operation>,
    pub difference: Difference,
}

pub fn shrink(
    mut history: Vec<Operation>,
    mut difference: Difference,
    try_it: impl Fn(&[Operation]) -> Option<Difference>,
) -> Shrunk {
    history.truncate(difference.at + 1);
    let mut run = history.len() / 2;
    let mut trials = 0;
    while run > 0 {
        let mut start = 0;
        while start < history.len() && trials < TRIALS_MAX {
            trials += 1;
            let mut shorter = history.clone();
            shorter.drain(start..(start + run).min(shorter.len()));
            match try_it(&shorter) {
                Some(still) => {
                    shorter.truncate(still.at + 1);
                    (history, difference) = (shorter, still);
                }
                None => start += run,
            }
        }
        run /= 2;
    }
    Shrunk { history, difference }
}
