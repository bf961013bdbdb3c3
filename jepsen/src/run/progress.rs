//! The line that shows how a run goes on.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Leaders;
use crate::history::Recorder;

const INTERVAL: Duration = Duration::from_millis(500);

/// A line on stderr, drawn over and over; only on a terminal.
pub struct Progress {
    doing: Rc<RefCell<String>>,
    task: Option<JoinHandle<()>>,
}

impl Progress {
    pub fn start(
        workload: &'static str,
        time: Duration,
        recorder: Recorder,
        leaders: Rc<RefCell<Leaders>>,
    ) -> Progress {
        let doing: Rc<RefCell<String>> = Rc::default();
        if !std::io::stderr().is_terminal() {
            return Progress { doing, task: None };
        }
        let shown = doing.clone();
        let task = tokio::task::spawn_local(async move {
            let mut before = recorder.count();
            loop {
                tokio::time::sleep(INTERVAL).await;
                let events = recorder.count();
                let rate = (events - before) as f64 / 2.0 / INTERVAL.as_secs_f64();
                before = events;
                let (leader, term) = leaders.borrow().last().map_or((None, 0), |(_, leader, term)| (*leader, *term));
                let leader = leader.map_or("no leader".to_owned(), |number| format!("n{number} leads"));
                let at = recorder.now() / 1_000_000_000;
                let what = shown.borrow();
                draw(&format!(
                    "{workload}  {at:>4}/{} s  {rate:>5.0} op/s  {leader}, term {term}  {what}",
                    time.as_secs()
                ));
            }
        });
        Progress { doing, task: Some(task) }
    }

    /// What the nemesis is at.
    pub fn say(&self, what: &str) {
        what.clone_into(&mut self.doing.borrow_mut());
    }
}

/// A terminal that has gone misses nothing.
fn draw(line: &str) {
    let mut terminal = std::io::stderr();
    let _ = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
}

/// However a run ends, its line does not stay.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
            draw("");
        }
    }
}
